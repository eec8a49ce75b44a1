"""The commands ``apex log``: what the log holds, and its events as they come."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

from apex.log import Position
from tests.process.commands import COMMAND, QUICK, ROOT, apex_here_in, environment
from tests.support.waiting import SECONDS

APP = """
import os
from sqlalchemy import Column, Integer, MetaData, String, Table
from apex import Apex, SQLService, database
from apex.common import stash_before
from apex.log import log, log_table

metadata = MetaData()
notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("text", String(50)))
entries = log_table(metadata)

def create_app():
    app = Apex().configure(database(os.environ["URL"]))
    if os.environ.get("WITHOUT") is None:
        app.configure(log(entries))
    return app.use("notes", SQLService(notes, multi=True), hooks={"before": {"patch": [stash_before()]}})

async def write():
    app = create_app()
    await app.setup()
    await app.get("database").create_all(metadata)
    await app.service("notes").create({"text": "a"})
    await app.service("notes").patch(1, {"text": "b"})
    await app.service("notes").create({"text": "\\x1b[2J"})
    app.service("notes").emit("read", {"id": "\\x1b[2J"})
    await app.teardown()
"""

WRITE = ("shell", "--code", "import logged; await logged.write()")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an app that has a log."""
    (tmp_path / "logged.py").write_text(APP, encoding="utf-8")
    return tmp_path


def run(folder: Path, url: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return apex_here_in(folder, "--app", "logged:create_app", *arguments, URL=url, **variables)


def tail(folder: Path, url: str, *arguments: str, count: int) -> tuple[list[str], str, int]:
    """Return the first lines of ``apex log tail``, and what it says on Ctrl-C, with its exit code."""
    command = [*COMMAND, "--app", "logged:create_app", "log", "tail", *arguments]
    own = environment(**QUICK, URL=url, PYTHONPATH=str(ROOT))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=own, text=True, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline().rstrip("\n") for _ in range(count)]
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=SECONDS)
    assert rest == ""
    return printed, said, process.returncode


def test_the_status_shows_what_the_log_holds(folder: Path, empty_url: str) -> None:
    assert run(folder, empty_url, *WRITE).returncode == 0
    shown = json.loads(run(folder, empty_url, "log", "status", "--json").stdout)
    assert (shown["first"]["id"], shown["last"]["id"], shown["rows"], shown["is_estimated"]) == (1, 4, 4, False)
    assert (shown["kept"], shown["open_transaction"]) == ({"days": 7, "rows": None}, None)
    assert (shown["bytes"] is not None) is empty_url.startswith("postgresql")
    printed = run(folder, empty_url, "log", "status").stdout.splitlines()
    names = ["first entry", "last entry", "entries", "size", "kept", "position", "open transaction", "processes"]
    assert [line[:18].rstrip() for line in printed] == names
    assert printed[-1].endswith("none within 1 s")
    # Other databases of the server go on meanwhile.
    assert Position.parse(shown["position"]) <= Position.parse(printed[5].split()[1])


def test_the_status_names_the_process_of_an_open_transaction(folder: Path, postgres_url: str) -> None:
    assert run(folder, postgres_url, *WRITE).returncode == 0
    with psycopg.connect(postgres_url, application_name="a backup") as other:
        other.execute("SELECT pg_current_xact_id()")
        shown = json.loads(run(folder, postgres_url, "log", "status", "--json").stdout)["open_transaction"]
        line = run(folder, postgres_url, "log", "status").stdout.splitlines()[-2]
        pid = other.info.backend_pid
    assert (shown["pid"], shown["application"], shown["state"]) == (pid, "a backup", "idle in transaction")
    assert line.endswith(f" s in process {pid} (a backup)")


def test_the_status_shows_how_quickly_each_process_reads(folder: Path, empty_url: str) -> None:
    assert run(folder, empty_url, *WRITE).returncode == 0
    stay = "import asyncio; print('here', flush=True); await asyncio.sleep(600)"
    command = [*COMMAND, "--app", "logged:create_app", "shell", "--code", stay]
    own = environment(**QUICK, URL=empty_url, PYTHONPATH=str(ROOT))
    with subprocess.Popen(command, cwd=folder, env=own, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        [shown] = json.loads(run(folder, empty_url, "log", "status", "--json").stdout)["processes"]
        printed = run(folder, empty_url, "log", "status").stdout.splitlines()[-1]
        process.kill()
    assert (shown["pid"], 0 < shown["seconds"] < 1, shown["waiting"]) == (process.pid, True, 0)
    assert printed.startswith(f"processes         {process.pid} on ")


def test_the_tail_prints_events_in_columns_and_its_position(folder: Path, empty_url: str) -> None:
    assert run(folder, empty_url, *WRITE).returncode == 0
    printed, said, code = tail(folder, empty_url, "--after", "oldest", count=4)
    assert [line.split()[2:] for line in printed] == [
        ["1", "notes", "created", "1"],
        ["2", "notes", "patched", "1", "text"],
        ["3", "notes", "created", "2"],
        ["4", "notes", "read", "?[2J"],
    ]
    assert (said.startswith("The position is "), code) == (True, 0)


def test_the_tail_goes_on_from_its_position(folder: Path, empty_url: str) -> None:
    assert run(folder, empty_url, *WRITE).returncode == 0
    _, said, _ = tail(folder, empty_url, "--after", "oldest", count=4)
    assert run(folder, empty_url, "shell", "--code", "await service('notes').remove(1)").returncode == 0
    printed, _, _ = tail(folder, empty_url, "--after", said.split()[-1], count=1)
    assert printed[0].split()[2:] == ["5", "notes", "removed", "1"]


@pytest.mark.parametrize(
    ("options", "ids"),
    [(["--event", "created"], [1, 3]), (["--record", "1"], [1, 2]), (["--service", "notes", "--event", "read"], [4])],
)
def test_the_tail_of_some_events_is_json(folder: Path, sqlite_url: str, options: list[str], ids: list[int]) -> None:
    assert run(folder, sqlite_url, *WRITE).returncode == 0
    printed, _, _ = tail(folder, sqlite_url, "--json", "--after", "oldest", *options, count=len(ids))
    found = [json.loads(line) for line in printed]
    assert [(one["id"], "position" in one) for one in found] == [(id, id == ids[-1]) for id in ids]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["tail", "--after", "x"], "--after takes a position that this command has printed, or 'oldest'"),
        (["tail", "--after", "zz.1.1"], "The log does not have this position"),
        (["tail", "--service", "note"], "there is no service 'note'. Did you mean 'notes'?"),
    ],
)
def test_a_wrong_call_is_one_line(folder: Path, sqlite_url: str, arguments: list[str], problem: str) -> None:
    assert run(folder, sqlite_url, *WRITE).returncode == 0
    done = run(folder, sqlite_url, "log", *arguments)
    assert (done.returncode, len(done.stderr.splitlines()), problem in done.stderr) == (1, 1, True), done.stderr


@pytest.mark.parametrize("command", ["status", "tail"])
def test_an_app_without_a_log_is_one_line(folder: Path, sqlite_url: str, command: str) -> None:
    done = run(folder, sqlite_url, "log", command, WITHOUT="1")
    assert (done.returncode, done.stderr) == (
        1, "apex: the application has no log; add one with app.configure(log(table)), from apex.log\n",
    )  # fmt: skip


@pytest.mark.parametrize("command", ["status", "tail"])
def test_a_database_without_the_table_is_named(folder: Path, empty_url: str, command: str) -> None:
    refused = run(folder, empty_url, "log", command)
    said = "apex: the database has no table 'log': run apex migrate --new 'add log' --auto, and then apex migrate\n"
    assert (refused.returncode, refused.stderr) == (1, said)


def test_a_method_is_no_event(folder: Path, empty_url: str) -> None:
    assert run(folder, empty_url, *WRITE).returncode == 0
    refused = run(folder, empty_url, "log", "tail", "--event", "patch")
    assert (refused.returncode, refused.stderr) == (1, "apex: 'patch' is a method: its event is 'patched'\n")
