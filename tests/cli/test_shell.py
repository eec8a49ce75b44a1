"""``apex shell``: at a terminal, from the standard input, and with a line."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.process.commands import ROOT, apex_in, environment
from tests.support.waiting import SECONDS

APP = """
from sqlalchemy import Column, Integer, MetaData, String, Table
from apex import Apex, SQLService, database

notes = Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("text", String(20)))

def create_app():
    app = Apex().configure(database("sqlite:///notes.db")).use("notes", SQLService(notes, multi=True))

    async def create_tables(context, next):
        await next()
        await app.get("database").create_all(notes.metadata)
        print("set up")

    async def say_goodbye(context, next):
        print("torn down")
        await next()

    app.hooks({"setup": [create_tables], "teardown": [say_goodbye]})
    return app
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP)
    return tmp_path


def test_a_line_is_run_and_its_value_printed(folder: Path) -> None:
    done = apex_in(folder, "--app", "shop", "shell", "-c", "await app.service('notes').create({'text': 'Milk'})")
    assert (done.stdout, done.returncode) == ("set up\n{'id': 1, 'text': 'Milk'}\ntorn down\n", 0)


def test_the_standard_input_is_run_as_a_whole(folder: Path) -> None:
    source = "async with database.transaction():\n    await service('notes').create([{}, {}])\n"
    source += "print(len(await service('notes').find()))"
    assert apex_in(folder, "--app", "shop", "shell", input=source).stdout == "set up\n2\ntorn down\n"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("await service('notes').get(7)", "apex: No record found for id '7'\n"),
        (
            "1 / 0",
            'Traceback (most recent call last):\n  File "<line>", line 1, in <module>\n'
            "ZeroDivisionError: division by zero\n",
        ),
        ("1 +", '  File "<line>", line 1\n    1 +\n       ^\nSyntaxError: invalid syntax\n'),
    ],
)
def test_an_error_of_a_line_ends_with_1_after_the_teardown(folder: Path, line: str, error: str) -> None:
    done = apex_in(folder, "--app", "shop", "shell", "-c", line)
    assert (done.returncode, done.stdout, done.stderr) == (1, "set up\ntorn down\n", error)


Say = Callable[..., str]


@pytest.fixture
def say(folder: Path) -> Iterator[Say]:
    """Return a function that types at the shell's terminal, waits for a text or the end of its lines, and returns what
    was printed.
    """
    outer, inner = pty.openpty()
    environ = environment(HOME=str(folder), PYTHONPATH=str(ROOT), TERM="dumb")
    command = [sys.executable, "-m", "apex", "--app", "shop", "shell"]
    process = subprocess.Popen(
        command, cwd=folder, env=environ, stdin=inner, stdout=inner, stderr=inner,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(inner)

    lines = count(1)

    def say(typed: str, expected: str = "") -> str:
        if not expected:  # A prompt alone may be an earlier one.
            line = next(lines)
            typed, expected = f"{typed}print('do' + 'ne', {line})\n", f"done {line}\r\n>>> "
        os.write(outer, typed.encode())
        printed = ""
        while expected not in printed:
            assert select.select([outer], [], [], SECONDS)[0], printed
            printed += os.read(outer, 4096).decode()
        return printed

    try:
        yield say
    finally:
        process.kill()
        process.wait()
        os.close(outer)


def test_a_terminal_has_await_errors_and_completion(say: Say, folder: Path) -> None:
    assert "Services: notes" in say("", "\n>>> ")
    say("row = await service('notes').create({'text': 'Milk'})\n")
    assert "'Milk'" in say("row['text']\n")
    error = say("await service('notes').get(7)\n")
    assert error.count("\n  File ") >= 1
    assert "asyncio" not in error.split("NotFound: No record")[0].split("<console>")[0]
    say("for text in 'ab':\n    await service('notes').create({'text': text})\n\n")
    assert "3" in say("len(await service('notes').find())\n")
    assert "Database object" in say("datab\t\n")
    say("\x04", "torn down")
    assert "service('notes')" in (folder / ".apex_history").read_text()


def test_ctrl_c_ends_what_runs_and_not_the_shell(say: Say) -> None:
    say("", "\n>>> ")
    say("import asyncio; print('wai' + 'ting'); await asyncio.sleep(60)\n", "waiting")
    say("\x03", "KeyboardInterrupt")
    assert "2" in say("1 + 1\n")
