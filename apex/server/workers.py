"""The server of an app in several processes: a parent that starts workers, and replaces them when they end.

A worker is a new interpreter. It inherits the listening socket, and one end of a pair of sockets. Through the pair the
worker tells the parent that it is ready, and the parent tells the worker to retire. Each of them notices by the end of
the pair that the other one has ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import uvloop

from apex.app import Apex
from apex.callbacks import Backoff
from apex.errors import ConfigError
from apex.observability.logs import logs
from apex.observability.metrics import SHARED, environment_of_workers, forget_process
from apex.realtime.bus import Bus
from apex.server.uvicorn import SHUTDOWN_SECONDS, Server, announce, configured, listening, serve_on
from apex.transports.socketio.transport import MOUNT
from apex.types import ASGIApp

START_SECONDS = 60
"""Seconds that a worker may take until it is ready."""

END_SECONDS = SHUTDOWN_SECONDS + 20
"""Seconds after which a worker that does not end is killed: for idle connections, running requests, the teardown."""

STEADY_SECONDS = 10
"""Seconds after which the end of a worker does not count as a failed start."""

WATCH_SECONDS = 0.5
"""Seconds between two checks of the files for ``--reload``."""

READY, RETIRE = b"r", b"d"
"""The messages of a worker and of the parent."""

UNWATCHED = ("__pycache__", "node_modules")

FileStates = dict[str, tuple[int, int]]
"""The time of the last change of each file, in nanoseconds, and its size in bytes."""

log: logging.Logger = logging.getLogger("apex")


def serve_workers(
    app: Apex, factory: str, count: int, host: str | None = None, port: int | None = None, *, reload: bool = False
) -> None:
    """Serve the app that ``factory`` returns with ``count`` workers until the process gets SIGINT or SIGTERM.

    SIGHUP replaces all workers by new ones. With ``reload`` a change of the app's files does so as well.

    Exit with 1 if the workers do not start, as they have logged the reason. Raises ConfigError if the workers cannot
    share events, or if the address cannot be used.
    """
    if count > 1:
        _require_bus(app)
    logs(app)
    with listening(app, host, port) as (listener, url), _shared_folder() as folder:
        end_seconds = END_SECONDS + (app.get("drainSeconds") or 0)
        environ = environment_of_workers(app, folder)
        workers = Workers(factory, listener, url, count, environ, end_seconds, reload=reload)
        if not asyncio.run(workers.run()):
            sys.exit(1)


def _shared_folder() -> TemporaryDirectory[str]:
    try:
        return TemporaryDirectory(prefix="apex-metrics-")
    except OSError as error:
        raise ConfigError(f"Workers need a folder for temporary files, set TMPDIR: {error.strerror}") from None


def _require_bus(app: Apex) -> None:
    """Raise ConfigError if the app has events or logouts that its workers could not share."""
    shares = MOUNT in app.mounts or app.get("defaultAuthentication") is not None
    if shares and type(app.bus) is Bus:
        raise ConfigError(
            "several workers share events and logouts through the log or Redis: call app.configure(log(table)),"
            " or set 'redis' (REDIS_URL)"
        )


def work(app: Apex, listener: int, line: int, outer: ASGIApp | None = None) -> None:
    """Serve the app in its ``outer`` middleware as one of several workers.

    ``listener`` and ``line`` are the inherited file descriptors of the listening socket and of the line to the parent.
    """
    # The signal may go to all processes, but only the parent replaces the workers.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def served() -> None:
        with socket.socket(fileno=listener) as inherited, socket.socket(fileno=line) as parent:
            for one in (inherited, parent):
                one.set_inheritable(False)
            server = Server(app, configured(app, outer), lambda: _send(parent, READY))
            loop = asyncio.get_running_loop()
            loop.add_reader(parent, _receive, parent, server)
            try:
                async with app.lifespan():
                    await serve_on(inherited, server)
            finally:
                loop.remove_reader(parent)

    uvloop.run(served())


def _receive(parent: socket.socket, server: Server) -> None:
    """Retire if the parent says so, and stop if it has ended."""
    if parent.recv(1) == RETIRE:
        server.retire()
    else:
        asyncio.get_running_loop().remove_reader(parent)
        server.stop()


def _send(line: socket.socket, message: bytes) -> None:
    # If the other process has ended, the code that waits for it notices that.
    with suppress(BrokenPipeError, ConnectionResetError):
        line.send(message)


class Worker:
    """A worker as its parent sees it: its process and the line to it."""

    def __init__(self, process: Process, line: socket.socket) -> None:
        self.process: Process = process
        self.line: socket.socket = line
        self.began: float = time.monotonic()

    @classmethod
    async def start(cls, factory: str, listener: socket.socket, environ: Mapping[str, str]) -> Worker:
        """Start a worker. Raises OSError if the system cannot start a process."""
        line, theirs = socket.socketpair()
        line.setblocking(False)
        with theirs:
            descriptors = listener.fileno(), theirs.fileno()
            command = [sys.executable, "-m", "apex", "--app", factory, "worker", *map(str, descriptors)]
            # In its own group the worker gets no Ctrl+C. The parent tells it to stop.
            process = await asyncio.create_subprocess_exec(*command, env=environ, pass_fds=descriptors, process_group=0)
        return cls(process, line)

    async def is_ready(self) -> bool:
        """Wait until the worker is ready. Return False if it ends or takes too long."""
        try:
            async with asyncio.timeout(START_SECONDS):
                if await asyncio.get_running_loop().sock_recv(self.line, 1) == READY:
                    return True
                # A worker that fails by itself has logged the reason.
                if (code := await self.process.wait()) < 0:
                    log.error("Worker %d has ended before it was ready (%s)", self.process.pid, _describe(code))
                return False
        except TimeoutError:
            log.error("Worker %d was not ready within %d seconds", self.process.pid, START_SECONDS)
            return False

    def retire(self) -> None:
        """Tell the worker to end after one more request of each open connection."""
        _send(self.line, RETIRE)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the worker, if it is running."""
        # ``send_signal`` would poll the process, and the code that waits for its end would not get the exit code.
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    async def end(self, within: float) -> None:
        """Wait until the worker has ended. Kill it after ``within`` seconds."""
        try:
            async with asyncio.timeout(within):
                await self.process.wait()
        except TimeoutError:
            log.error("Worker %d was killed: it did not end within %d seconds", self.process.pid, within)
            self.signal(signal.SIGKILL)
            await self.process.wait()


class Workers:
    """The workers on a listener, each in its place. After the start they are replaced one at a time."""

    def __init__(
        self,
        factory: str,
        listener: socket.socket,
        url: str,
        count: int,
        environ: Mapping[str, str],
        end_seconds: float,
        *,
        reload: bool = False,
    ) -> None:
        self.factory: str = factory
        self.listener: socket.socket = listener
        self.url: str = url
        self.count: int = count
        self.environ: Mapping[str, str] = environ
        self.end_seconds: float = end_seconds
        self.reload: bool = reload
        self.places: list[Worker] = []
        self.alive: set[Worker] = set()
        self.replacing: asyncio.Lock = asyncio.Lock()
        self.requested: asyncio.Event = asyncio.Event()

    async def run(self) -> bool:
        """Run the workers until the process is told to stop. Return False if they do not start."""
        loop = asyncio.get_running_loop()
        working = loop.create_task(self._work())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, working.cancel)
        loop.add_signal_handler(signal.SIGHUP, self.requested.set)
        await asyncio.wait([working])
        # New connections are refused from now on, as no worker would accept them.
        self.listener.close()
        # A second Ctrl+C does not wait for the workers.
        loop.add_signal_handler(signal.SIGINT, self._signal, signal.SIGKILL)
        self._signal(signal.SIGTERM)
        await asyncio.gather(*(worker.end(self.end_seconds) for worker in self.alive))
        return working.cancelled() or working.result()

    async def _work(self) -> bool:
        files = file_states(Path.cwd()) if self.reload else {}
        # One worker starts first, so that an error that stops all of them is logged once.
        started = [await self._start()]
        if started[0] is not None:
            started += await asyncio.gather(*(self._start() for _ in range(1, self.count)))
        self.places = [worker for worker in started if worker is not None]
        if len(self.places) < self.count:
            return False
        announce(self.url)
        keeping = [self._keep(place) for place in range(self.count)]
        if self.reload:
            keeping.append(self._watch(files))
        await asyncio.gather(self._replace_all_on_signal(), *keeping)
        return True

    async def _start(self) -> Worker | None:
        """Return a worker that is ready, or None if it does not start. The worker has logged the reason."""
        try:
            worker = await Worker.start(self.factory, self.listener, self.environ)
        except OSError as error:
            log.error("A worker cannot be started: %s", error.strerror)
            return None
        self.alive.add(worker)
        if await worker.is_ready():
            return worker
        worker.signal(signal.SIGTERM)
        await worker.end(self.end_seconds)
        self._forget(worker)
        return None

    async def _keep(self, place: int) -> None:
        """Replace the worker of a place when it ends, with growing pauses if the new one fails at its start."""
        backoff = Backoff()
        while True:
            worker = self.places[place]
            code = await worker.process.wait()
            self._forget(worker)
            if self.places[place] is worker:
                log.warning(
                    "Worker %d has ended (%s): another one takes its place", worker.process.pid, _describe(code)
                )
            if time.monotonic() - worker.began > STEADY_SECONDS:
                backoff = Backoff()
            while self.places[place] is worker:
                await backoff.wait()
                await self._replace(place, worker)

    async def _replace_all_on_signal(self) -> None:
        while True:
            await self.requested.wait()
            self.requested.clear()
            if await self._replace_all():
                click.echo("All workers are replaced.")
            else:
                log.error("The restart failed: a new worker does not start. The old workers keep running.")

    async def _watch(self, before: FileStates) -> None:
        """Replace the workers when a file has changed since they started."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = file_states(Path.cwd())
            if changed := sorted({path for path, _ in before.items() ^ now.items()}):
                click.echo(f"Changed: {', '.join(changed)}")
                self.requested.set()
            before = now

    async def _replace_all(self) -> bool:
        """Replace one worker after the other.

        Each ends when the new one is ready. Return False if a new one does not start.
        """
        async with self.replacing:
            old = list(self.places)
        for place, worker in enumerate(old):
            if not await self._replace(place, worker):
                return False
            worker.retire()
            await worker.end(self.end_seconds)
        return True

    async def _replace(self, place: int, worker: Worker) -> bool:
        """Start a new worker in the place of another one, unless there is one. Return False if it does not start."""
        async with self.replacing:
            if self.places[place] is worker and (new := await self._start()) is not None:
                self.places[place] = new
        return self.places[place] is not worker

    def _forget(self, worker: Worker) -> None:
        worker.line.close()
        self.alive.discard(worker)
        if (folder := self.environ.get(SHARED)) is not None:
            forget_process(folder, worker.process.pid)

    def _signal(self, number: signal.Signals) -> None:
        for worker in self.alive:
            worker.signal(number)


def _describe(code: int) -> str:
    """Return an exit code or the name of a signal."""
    return f"code {code}" if code >= 0 else signal.Signals(-code).name


def file_states(folder: Path) -> FileStates:
    """Return the states of all ``*.py`` below a folder and of ``config/*.json``.

    Hidden folders and those of installed packages are left out.
    """
    found: FileStates = {}
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in UNWATCHED and not name.startswith(".")]
        ending = (".py", ".json") if Path(root) == folder / "config" else ".py"
        for name in files:
            # An editor may remove a file to replace it.
            with suppress(FileNotFoundError):
                if name.endswith(ending):
                    status = os.stat(os.path.join(root, name))
                    found[os.path.relpath(os.path.join(root, name), folder)] = status.st_mtime_ns, status.st_size
    return found
