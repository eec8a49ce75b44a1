"""Servers for measurements, each in its own process, and the figures of the system about it."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

QUIET = {"APEX_ENV": "development", "LOG_LEVEL": "warning", "TIMING": "false"}
"""The environment turns off headers for developers, which take time and which the peers lack."""

TICK, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
LINE = "Serving at"
OWN, CHILDREN = slice(11, 13), slice(13, 15)
"""The fields of ``stat`` with the ticks of a process and of its ended children."""


class Server:
    """A running server with its port and process."""

    def __init__(self, id: int, port: int) -> None:
        self.id, self.port = id, port

    @property
    def memory(self) -> float:
        """Return the resident memory in KiB."""
        return int(_stat(self.id)[21]) * PAGE / 1024

    @property
    def processor(self) -> float:
        """Return the processor time of all threads in seconds."""
        return _seconds(self.id, OWN)


def database_processor(data: Path) -> float:
    """Return the processor time of a PostgreSQL server in seconds, with that of ended processes."""
    parent = int((data / "postmaster.pid").read_text().splitlines()[0])
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return _seconds(parent, OWN) + _seconds(parent, CHILDREN) + sum(_seconds(int(child), OWN) for child in children)


def machine_processor() -> float:
    """Return the processor time of all processes on this machine in seconds."""
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
    """Run a server with ``more`` in its environment. Raises SystemExit if it does not start."""
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
    """Return the process that listens on a port. Raises SystemExit if there is none."""
    found = subprocess.run(
        ["ss", "--listening", "--tcp", "--processes", "--numeric", "--no-header", f"sport = :{port}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    match = re.search(r"pid=(\d+)", found)
    if match is None:
        raise SystemExit(f"nobody listens on port {port}")
    return int(match[1])


def allow_open_files(count: int) -> None:
    """Raise the limit of open files of this process and its children as far as possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
