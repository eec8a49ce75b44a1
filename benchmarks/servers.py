"""Servers as they are measured: each in a process of its own, and what the system says of it."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

QUIET = {"APEX_ENV": "development", "LOG_LEVEL": "warning", "TIMING": "false"}
"""What a developer is shown of each call takes time, and the peers show nothing."""

TICK, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
LINE = "Serving at"
OWN, CHILDREN = slice(11, 13), slice(13, 15)
"""Where the ticks of a process stand in its ``stat``, and those of its children that have ended."""


class Server:
    """A running server: its port, and what the system says of its process."""

    def __init__(self, id: int, port: int) -> None:
        self.id, self.port = id, port

    @property
    def memory(self) -> float:
        """Resident memory in KiB."""
        return int(_stat(self.id)[21]) * PAGE / 1024

    @property
    def processor(self) -> float:
        """Seconds of processor time, of all threads."""
        return _seconds(self.id, OWN)


def database_processor(directory: Path) -> float:
    """Seconds of processor time of all processes of a PostgreSQL server, those that have ended among them."""
    parent = int((directory / "data" / "postmaster.pid").read_text().splitlines()[0])
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return _seconds(parent, OWN) + _seconds(parent, CHILDREN) + sum(_seconds(int(child), OWN) for child in children)


def machine_processor() -> float:
    """Seconds of processor time that anybody on this machine has used."""
    user, nice, system, _, _, interrupts, soft, *_ = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + interrupts + soft) / TICK


def _seconds(id: int, fields: slice) -> float:
    try:
        return sum(map(int, _stat(id)[fields])) / TICK
    except (FileNotFoundError, ProcessLookupError):
        # It has ended in between, and counts among its parent's children.
        return 0.0


def _stat(id: int) -> list[str]:
    return Path(f"/proc/{id}/stat").read_text().rpartition(") ")[2].split()


@contextmanager
def started(command: list[str], more: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server that runs until the end, with ``more`` in its environment. Raises SystemExit when it does not start."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(more or {})}) as process:
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith(LINE)), None)
            if line is None:
                raise SystemExit(f"{' '.join(command)} does not start: it ended with {process.wait()}")
            yield Server(process.pid, int(line.rpartition(":")[2]))
        finally:
            process.terminate()


def listening(port: int) -> int:
    """The process that listens on a port of this machine. Raises SystemExit when there is none."""
    found = subprocess.run(
        ["ss", "--listening", "--tcp", "--processes", "--numeric", "--no-header", f"sport = :{port}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    match = re.search(r"pid=(\d+)", found)
    if match is None:
        raise SystemExit(f"nobody listens on port {port}")
    return int(match[1])


def allow_open_files(count: int) -> None:
    """Of this process and those that it starts, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
