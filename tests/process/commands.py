"""The ``apex`` command in another process, as an operator runs it, and in this one, which takes a fifth of the time."""

from __future__ import annotations

import importlib
import io
import logging
import os
import re
import selectors
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import IO

import pytest

from tests.support.waiting import SECONDS

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "apex"]
VARIABLES = (
    "APEX_ENV",
    "APEX_SECRET",
    "APEX_PREVIOUS_SECRET",
    "APEX_APP",
    "APEX_PASSWORD",
    "DATABASE_URL",
    "HOST",
    "PORT",
    "REDIS_URL",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "DRAIN_SECONDS",
    "METRICS",
    "METRICS_TOKEN",
    "TRACING",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "TIMING",
    "PYTHONDONTWRITEBYTECODE",  # Each process would compile apex and the services again.
)
QUICK = {"APEX_ENV": "test"}
MYPY_CACHE = {"MYPY_CACHE_DIR": str(ROOT / ".mypy_cache" / "projects")}
"""New projects share one cache of mypy, which reads the libraries for longer than it reads a project."""


def environment(**variables: str) -> dict[str, str]:
    """Return the variables of this process without those of the app, and with the given ones."""
    return MYPY_CACHE | {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables


def apex(*arguments: str, input: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout to its end, with ``input`` on its stdin."""
    return apex_in(ROOT, *arguments, input=input, **variables)


def apex_in(folder: Path, *arguments: str, input: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end, with ``input`` on its stdin."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=environment(**QUICK | {"PYTHONPATH": str(ROOT)} | variables),
        input=input, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip


def apex_here(*arguments: str, input: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout and in this process, for tests of commands that need no process of their own."""
    return apex_here_in(ROOT, *arguments, input=input, **variables)


def apex_here_in(folder: Path, *arguments: str, input: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder and in this process."""
    from apex.cli.commands import main

    streams = [io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", write_through=True) for text in (input, "", "")]
    stdin, stdout, stderr = streams
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(stdout))
        stack.enter_context(redirect_stderr(stderr))
        stack.enter_context(kept_logging())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        for name, value in (QUICK | variables).items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["apex", *arguments])
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr(sys, "stdin", stdin)
        patch.chdir(folder)
        with pytest.raises(SystemExit) as ended:
            main()
    for stream in (stdout, stderr):
        stream.seek(0)
    return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), stdout.read(), stderr.read())


def apex_here_for(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a project in this process. Its modules are imported anew, as the CRM has some of their names."""
    kept = modules_of_projects()
    importlib.invalidate_caches()
    try:
        return apex_here_in(project, *arguments, **{"APEX_ENV": "development"} | variables)
    finally:
        modules_of_projects()
        sys.modules.update(kept)


def modules_of_projects() -> dict[str, ModuleType]:
    """Forget the imported modules of projects, and return them."""
    names = [name for name in sys.modules if name.partition(".")[0] in ("services", "hooks", "migrations")]
    return {name: sys.modules.pop(name) for name in names}


@contextmanager
def kept_logging() -> Iterator[None]:
    """Undo what a command changes of the logging of its process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def server(*arguments: str, under: Sequence[str] = (), **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server in the checkout and yield it with the URL it has printed; see ``server_in``."""
    with server_in(ROOT, *arguments, under=under, **variables) as running:
        yield running


@contextmanager
def server_in(
    folder: Path, *arguments: str, under: Sequence[str] = (), **variables: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server in a folder, started by the command ``under``, and yield it with the URL it has printed.

    It is killed at the end, if it still runs.
    """
    process = subprocess.Popen(
        [*under, *COMMAND, *arguments], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(**QUICK | {"PORT": "0", "PYTHONPATH": str(ROOT)} | variables),
    )  # fmt: skip
    with process:
        try:
            yield process, printed_url(process)
        finally:
            process.kill()


def printed_url(process: subprocess.Popen[str]) -> str:
    """Wait for the line with the URL. Raises RuntimeError with the output of the process if it ends."""
    assert process.stdout is not None
    assert process.stderr is not None
    for line in lines(process.stdout):
        if match := re.fullmatch(r"Serving at (http://\S+)\n", line):
            return match[1]
    process.kill()
    raise RuntimeError(f"the server does not serve: {process.stderr.read()}")


def lines(stream: IO[str]) -> Iterator[str]:
    """Yield the lines of a stream until it ends or is silent for a while."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while selector.select(SECONDS) and (line := stream.readline()):
            yield line
