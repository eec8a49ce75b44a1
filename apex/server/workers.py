"""Several processes of an app on one socket: a parent that keeps its workers at work and renews them.

A worker is an interpreter of its own, which inherits the socket and one end of a line to the parent. It says on its
line that it is ready; the parent says that it shall retire; and each notices by its end that the other is gone.
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

from apex.app import ASGI, Apex
from apex.callbacks import Backoff
from apex.errors import ConfigError
from apex.observability.logs import logs
from apex.observability.metrics import SHARED, environment_of_workers, forget_process
from apex.realtime.bus import Bus
from apex.server.reload import Stamps, stamps
from apex.server.uvicorn import SHUTDOWN_SECONDS, Server, announce, configured, listening, serve_on
from apex.transports.socketio.transport import Sockets

START_SECONDS = 60
"""How long a worker may take until it is ready."""

END_SECONDS = SHUTDOWN_SECONDS + 20
"""How long it may take to end before it is killed: for connections that are idle, requests under way, the teardown."""

STEADY_SECONDS = 10
"""Who has worked for so long did not fail at its start."""

LOOK_SECONDS = 0.5
"""Between two looks at the files."""

READY, RETIRE = b"r", b"d"

log = logging.getLogger("apex")


def serve_workers(
    app: Apex, factory: str, count: int, host: str | None = None, port: int | None = None, *, reload: bool = False
) -> None:
    """Serves the app that ``factory`` makes with so many workers until it is told to stop; SIGHUP renews them all,
    and with ``reload`` so does a change of the files of the app.

    Exits with 1 when they do not start: they have said why. Raises ConfigError when they would not hear each other, or
    nobody can listen at the address.
    """
    if count > 1:
        _require_bus(app)
    logs(app)
    with listening(app, host, port) as (listener, url), _shared_folder() as folder:
        within = END_SECONDS + (app.get("drainSeconds") or 0)
        workers = Workers(factory, listener, url, count, environment_of_workers(app, folder), within, reload=reload)
        if not asyncio.run(workers.run()):
            sys.exit(1)


def _shared_folder() -> TemporaryDirectory[str]:
    try:
        return TemporaryDirectory(prefix="apex-metrics-")
    except OSError as error:
        raise ConfigError(f"Workers need a folder for temporary files, set TMPDIR to one: {error.strerror}") from None


def _require_bus(app: Apex) -> None:
    """Raises ConfigError for an app with events or logouts that its workers would not hear of."""
    shares = isinstance(app.transport, Sockets) or app.get("defaultAuthentication") is not None
    if shares and type(app.bus) is Bus:
        raise ConfigError("several workers hear of events and logouts through Redis: set 'redis' (REDIS_URL)")


def work(app: Apex, listener: int, line: int, outer: ASGI | None = None) -> None:
    """Serves the app, in its ``outer`` middleware, as one of several workers. ``listener`` and ``line`` are the
    descriptors it has inherited.
    """
    # Who tells all processes to renew themselves means the parent.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def served() -> None:
        with socket.socket(fileno=listener) as inherited, socket.socket(fileno=line) as parent:
            for one in (inherited, parent):
                one.set_inheritable(False)
            server = Server(app, configured(app, outer), lambda: _say(parent, READY))
            loop = asyncio.get_running_loop()
            loop.add_reader(parent, _hear, parent, server)
            try:
                async with app.lifespan():
                    await serve_on(inherited, server)
            finally:
                loop.remove_reader(parent)

    uvloop.run(served())


def _hear(parent: socket.socket, server: Server) -> None:
    """Does what the parent says. Without it there is nobody to serve for."""
    if parent.recv(1) == RETIRE:
        server.retire()
    else:
        asyncio.get_running_loop().remove_reader(parent)
        server.stop()


def _say(line: socket.socket, word: bytes) -> None:
    # That the other one is gone is noticed by whoever waits for it.
    with suppress(BrokenPipeError, ConnectionResetError):
        line.send(word)


class Worker:
    """A process as its parent sees it."""

    def __init__(self, process: Process, line: socket.socket) -> None:
        self.process, self.line = process, line
        self.began = time.monotonic()

    @classmethod
    async def start(cls, factory: str, listener: socket.socket, environ: Mapping[str, str]) -> Worker:
        """Raises OSError when there can be no process."""
        line, theirs = socket.socketpair()
        line.setblocking(False)
        with theirs:
            descriptors = listener.fileno(), theirs.fileno()
            command = [sys.executable, "-m", "apex", "--app", factory, "worker", *map(str, descriptors)]
            # In a group of its own it gets no Ctrl+C: that is for the parent to tell.
            process = await asyncio.create_subprocess_exec(*command, env=environ, pass_fds=descriptors, process_group=0)
        return cls(process, line)

    async def is_ready(self) -> bool:
        """Waits until it is; False when it has ended instead, or takes too long."""
        try:
            async with asyncio.timeout(START_SECONDS):
                if await asyncio.get_running_loop().sock_recv(self.line, 1) == READY:
                    return True
                await self.process.wait()  # It is about to say why.
                return False
        except TimeoutError:
            log.error("Worker %d was not ready within %d seconds", self.process.pid, START_SECONDS)
            return False

    def retire(self) -> None:
        _say(self.line, RETIRE)

    def signal(self, number: signal.Signals) -> None:
        # ``send_signal`` would look whether it has ended, and so take that news from who waits for it.
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    async def end(self, within: float) -> None:
        """Waits until it has ended, which it was told to do; no longer than so many seconds."""
        try:
            async with asyncio.timeout(within):
                await self.process.wait()
        except TimeoutError:
            log.error("Worker %d was killed: it did not end within %d seconds", self.process.pid, within)
            self.signal(signal.SIGKILL)
            await self.process.wait()


class Workers:
    """Keeps ``count`` workers on a listener, each in a place of its own. One is started at a time, but at the start."""

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
        self.factory, self.listener, self.url, self.count = factory, listener, url, count
        self.environ, self.end_seconds, self.reload = environ, end_seconds, reload
        self.places: list[Worker] = []
        self.alive: set[Worker] = set()
        self.turn = asyncio.Lock()
        self.renewal = asyncio.Event()

    async def run(self) -> bool:
        """Returns when it was told to stop and all have ended; False when they did not start."""
        loop = asyncio.get_running_loop()
        working = loop.create_task(self._work())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, working.cancel)
        loop.add_signal_handler(signal.SIGHUP, self.renewal.set)
        await asyncio.wait([working])
        # From now on whoever is refused looks elsewhere: nobody would accept what waited here.
        self.listener.close()
        # Asked again, it does not wait for them.
        loop.add_signal_handler(signal.SIGINT, self._signal, signal.SIGKILL)
        self._signal(signal.SIGTERM)
        await asyncio.gather(*(worker.end(self.end_seconds) for worker in self.alive))
        return working.cancelled() or working.result()

    async def _work(self) -> bool:
        files = stamps(Path.cwd()) if self.reload else {}
        # One goes ahead, so that what keeps them all from starting is said once.
        started = [await self._started()]
        if started[0] is not None:
            started += await asyncio.gather(*(self._started() for _ in range(1, self.count)))
        self.places = [worker for worker in started if worker is not None]
        if len(self.places) < self.count:
            return False
        announce(self.url)
        keeping = [self._keep(place) for place in range(self.count)]
        if self.reload:
            keeping.append(self._watch(files))
        await asyncio.gather(self._renew(), *keeping)
        return True

    async def _started(self) -> Worker | None:
        """A worker that is ready; None when it does not start, which it has said itself."""
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
        """Start a worker again when it has died, after growing pauses where it dies at its start."""
        backoff = Backoff()
        while True:
            worker = self.places[place]
            code = await worker.process.wait()
            self._forget(worker)
            if self.places[place] is worker:
                log.warning("Worker %d has ended (%s): another one takes its place", worker.process.pid, _told(code))
            if time.monotonic() - worker.began > STEADY_SECONDS:
                backoff = Backoff()
            while self.places[place] is worker:
                await backoff.wait()
                await self._replace(place, worker)

    async def _renew(self) -> None:
        while True:
            await self.renewal.wait()
            self.renewal.clear()
            if await self._roll():
                click.echo("All workers are new.")
            else:
                log.error("The restart was given up: a new worker does not start. The old ones go on.")

    async def _watch(self, before: Stamps) -> None:
        """Renews the workers when a file is no longer what it was before they started."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = stamps(Path.cwd())
            if changed := sorted({path for path, _ in before.items() ^ now.items()}):
                click.echo(f"Changed: {', '.join(changed)}")
                self.renewal.set()
            before = now

    async def _roll(self) -> bool:
        """Renews one worker after the other, each once another one is ready in its place."""
        async with self.turn:
            old = list(self.places)
        for place, worker in enumerate(old):
            if not await self._replace(place, worker):
                return False
            worker.retire()
            await worker.end(self.end_seconds)
        return True

    async def _replace(self, place: int, worker: Worker) -> bool:
        """Puts another one in a worker's place, unless there is one already; False when that does not start."""
        async with self.turn:
            if self.places[place] is worker and (new := await self._started()) is not None:
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


def _told(code: int) -> str:
    return f"code {code}" if code >= 0 else signal.Signals(-code).name
