"""The server under test: a command in processes of its own, which can be killed and started again."""

from __future__ import annotations

import asyncio
import os
import random
import shlex
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from os import PathLike
from tempfile import TemporaryFile
from typing import IO

START_SECONDS = 60
END_SECONDS = 30
POLL_SECONDS = 0.02
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class ServerProcess:
    """A command that serves an app, in a folder. It gets its port in the variable ``PORT``::

    server = ServerProcess("apex serve --workers 2", {"DATABASE_URL": url})
    await server.start()
    """

    def __init__(
        self,
        command: str | Sequence[str],
        environ: Mapping[str, str] | None = None,
        *,
        folder: str | PathLike[str] | None = None,
    ) -> None:
        self.port: int = _free_port()
        parts = shlex.split(command) if isinstance(command, str) else command
        self.command: list[str] = [part.replace("{port}", str(self.port)) for part in parts]
        self.folder: str | PathLike[str] | None = folder
        self.environ: dict[str, str] = {**os.environ, **(environ or {}), "PORT": str(self.port)}
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._printed = ""

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start the command, and wait until it answers requests.

        Raises RuntimeError with its output if it ends, or if it does not serve within a minute.
        """
        self._output = TemporaryFile()  # noqa: SIM115 - open as long as the process
        # In a session of its own, it can be killed with all of its workers.
        self._process = subprocess.Popen(
            self.command, cwd=self.folder, env=self.environ, stdout=self._output, stderr=self._output,
            start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await self._answers():
                    if self._process.poll() is not None:
                        raise RuntimeError(f"'{shlex.join(self.command)}' ended: {self.output()}")
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            await self.kill()
            command = shlex.join(self.command)
            raise RuntimeError(f"'{command}' does not answer at port {self.port}: {self.output()}") from None
        except BaseException:
            await self.kill()
            raise

    async def _answers(self) -> bool:
        """Return True if the server answers a request. A command with workers accepts connections before they do."""
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(REQUEST)
                return await reader.read(1) != b""
            finally:
                writer.close()
        return False

    @property
    def has_ended(self) -> bool:
        """True if the command has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def workers(self) -> list[int]:
        """Return the ids of the processes that the command has started."""
        if self._process is None:
            return []
        listed = subprocess.run(["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True).stdout
        return [int(line) for line in listed.split()]

    def kill_worker(self, choose: random.Random) -> int | None:
        """Kill one of several workers, which the command replaces. Return its id, or None if there are no workers."""
        workers = self.workers()
        if not workers:
            return None
        worker = choose.choice(workers)
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        return worker

    async def stop(self) -> None:
        """Stop the command as operators do, by SIGTERM."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, END_SECONDS)
        await self.kill()

    async def kill(self) -> None:
        """Kill the command and all of its workers."""
        if self._process is not None:
            # Workers may be in groups of their own. Without their parent they would go on for a while.
            workers = self.workers()
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            await asyncio.to_thread(self._process.wait)
            self._process, self._printed = None, self.output()
        if self._output is not None:
            self._output.close()
            self._output = None

    def output(self, most: int = 2_000) -> str:
        """Return the end of what the command has printed."""
        if self._output is not None:
            self._output.seek(0)
            self._printed = self._output.read().decode(errors="replace")
        return self._printed[-most:]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
