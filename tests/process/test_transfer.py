"""Tests of ``apex import`` and ``apex export``, as an operator runs and kills them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from apex.sql import Database
from services.contacts import contacts
from services.tables import counters
from tests.process.commands import COMMAND, QUICK, ROOT, apex, apex_here, environment
from tests.services.crm import running

PEOPLE = "first_name,email\nAnn,ann@example.com\nBob,nowhere\n,cid@example.com\n"
INTO = ("--organization", "456")


def ask(url: str, statement: Any) -> list[dict[str, Any]]:
    async def asked() -> list[dict[str, Any]]:
        database = Database(url)
        await database.open()
        try:
            return await database.execute(statement)
        finally:
            await database.close()

    return asyncio.run(asked())


def test_an_import_reports_results_and_errors(demo_sqlite_url: str, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text(PEOPLE)
    done = apex("import", "contacts", str(file), *INTO, "--user", "789", DATABASE_URL=demo_sqlite_url)
    assert (done.returncode, done.stdout) == (1, "3 rows: 1 created, 0 updated, 2 refused.\n")
    assert [json.loads(line) for line in done.stderr.splitlines()] == [
        {
            "line": line, "name": "BadRequest", "message": "Invalid contact data", "code": 400,
            "className": "bad-request", "errors": errors,
        }
        for line, errors in ((3, {"email": "Invalid email format"}), (4, {"first_name": "Is required"}))
    ]  # fmt: skip


async def test_an_import_that_was_killed_after_its_last_row_has_nothing_left_to_do(
    demo_sqlite_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "people.csv"
    file.write_text(PEOPLE)
    digest = hashlib.sha256(PEOPLE.encode()).hexdigest()
    async with running(demo_sqlite_url) as crm:
        service = crm.app.service("contacts").service
        checkpoint = await service.checkpoint(456, digest, format="csv", user=None, upsert=None)
        await checkpoint.begin()
        await checkpoint.advance(3, 2)
    for expected in ("Nothing was left to do: all 3 rows were done before, 2 of them refused.", "3 rows: 1 created"):
        done = await asyncio.to_thread(apex, "import", "contacts", str(file), *INTO, DATABASE_URL=demo_sqlite_url)
        assert (done.returncode, done.stdout[: len(expected)]) == (1, expected)


def test_a_dry_run_and_the_errors_in_a_file(demo_sqlite_url: str, tmp_path: Path) -> None:
    errors = tmp_path / "errors.jsonl"
    options = ("--format", "csv", "--upsert", "email", "--dry-run", "--errors", str(errors))
    done = apex_here("import", "contacts", "-", *INTO, *options, input=PEOPLE, DATABASE_URL=demo_sqlite_url)
    expected = "Dry run, nothing is stored. 3 rows: 1 created, 0 updated, 2 refused.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, expected, "")
    assert [json.loads(line)["line"] for line in errors.read_text().splitlines()] == [3, 4]
    assert len(ask(demo_sqlite_url, select(contacts))) == 4


@pytest.mark.parametrize("format", ["csv", "json"])
def test_an_export_can_be_imported(demo_sqlite_url: str, tmp_path: Path, format: str) -> None:
    file = tmp_path / f"companies.{format}"
    done = apex_here("export", "companies", *INTO, "--output", str(file), DATABASE_URL=demo_sqlite_url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    piped = apex_here("export", "companies", *INTO, "--format", format, DATABASE_URL=demo_sqlite_url)
    assert piped.stdout == file.read_text()
    back = apex_here("import", "companies", str(file), *INTO, "--upsert", "name", DATABASE_URL=demo_sqlite_url)
    assert (back.returncode, back.stdout) == (0, "2 rows: 0 created, 2 updated, 0 refused.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("people.txt", *INTO), "--format"),
        (("people.csv", "--organization", "999"), "no organization 999"),
        (("people.csv", *INTO, "--user", "791"), "user 791 is not a member"),
        (("people.csv", *INTO, "--errors", "/nowhere/errors"), "cannot write '/nowhere/errors': No such file"),
        (("people.csv", *INTO, "--upsert", "name"), "Must be one of email, phone, crm_id"),
        (("wrong.csv", *INTO), "Unknown column. Did you mean 'email'?"),
        (("empty.csv", *INTO), "There are no columns"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_in_one_line(
    demo_sqlite_url: str, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    for name, text in {"people.csv": PEOPLE, "people.txt": PEOPLE, "wrong.csv": "emial\na\n", "empty.csv": ""}.items():
        (tmp_path / name).write_text(text)
    done = apex_here("import", "contacts", str(tmp_path / arguments[0]), *arguments[1:], DATABASE_URL=demo_sqlite_url)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    assert said in done.stderr
    assert len(ask(demo_sqlite_url, select(contacts))) == 4


def test_an_export_that_cannot_be_written_is_said_in_one_line(demo_sqlite_url: str, tmp_path: Path) -> None:
    output = str(tmp_path / "nowhere" / "people.csv")
    done = apex_here("export", "contacts", *INTO, "--output", output, DATABASE_URL=demo_sqlite_url)
    expected = f"apex: cannot write '{output}': No such file or directory\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


BEYOND = str(1 << 63)


@pytest.mark.parametrize(
    "arguments",
    [
        ("import", "contacts", "-", "--format", "csv", "--organization", BEYOND),
        ("import", "contacts", "-", "--format", "csv", *INTO, "--user", BEYOND),
        ("export", "contacts", "--organization", BEYOND),
        ("key", "list", "--organization", BEYOND),
        ("key", "create", *INTO, "--user", "0"),
        ("key", "revoke", BEYOND),
        ("organization", "webhook-secret", BEYOND),
        ("organization", "limit", BEYOND, "5"),
        ("user", "add", "a@example.com", "--first-name", "Ann", "--password", "a-secret", "--organization", BEYOND),
    ],
)
def test_numbers_out_of_range_are_refused_as_usage(demo_sqlite_url: str, arguments: tuple[str, ...]) -> None:
    done = apex_here(*arguments, DATABASE_URL=demo_sqlite_url)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "is not in the range 1<=x<=" in done.stderr


PEOPLE_OF_A_LARGE_FILE = 10_000


def large(file: Path) -> str:
    lines = (f"Person {number},p{number}@example.com\n" for number in range(PEOPLE_OF_A_LARGE_FILE))
    text = "first_name,email\n" + "".join(lines)
    file.write_text(text)
    return text


def killed(url: str, file: Path) -> int:
    """Kill an import in the middle of its file. Return the least number of rows that were imported."""
    command = [*COMMAND, "import", "contacts", str(file), *INTO, "--user", "789"]
    variables = environment(**QUICK, DATABASE_URL=url)
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.DEVNULL) as process:
        while not (done := ask(url, select(counters.c.value).where(counters.c.value > 0))):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return int(done[0]["value"])


def check_whole(url: str) -> None:
    """Assert that each contact of the large file exists once, and that no checkpoint is left."""
    made = contacts.c.first_name.like("Person %")
    ((counted),) = ask(url, select(func.count(), func.count(contacts.c.email.distinct()).label("emails")).where(made))
    assert list(counted.values()) == [PEOPLE_OF_A_LARGE_FILE] * 2
    assert ask(url, select(counters).where(counters.c.name.like("import:%"))) == []


def test_a_killed_import_resumes(demo_url: str, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    large(file)
    done = killed(demo_url, file)
    left = apex("import", "contacts", str(file), *INTO, "--user", "789", DATABASE_URL=demo_url)
    assert left.returncode == 0, left.stderr
    before = int(left.stdout.split(": ")[1].split(" done before")[0].replace(",", ""))
    assert done <= before < PEOPLE_OF_A_LARGE_FILE
    check_whole(demo_url)


async def test_a_killed_import_resumes_over_http(demo_sqlite_url: str, tmp_path: Path) -> None:
    text = large(tmp_path / "people.csv")
    done = await asyncio.to_thread(killed, demo_sqlite_url, tmp_path / "people.csv")
    async with running(demo_sqlite_url) as crm:
        data = {"organization_id": 456, "format": "csv", "text": text}
        status, answer = await crm.call("POST /contacts", data, headers={"X-Service-Method": "import"})
    assert status == 200, answer
    assert done <= answer["skipped"] < PEOPLE_OF_A_LARGE_FILE
    assert answer["skipped"] + answer["created"] == PEOPLE_OF_A_LARGE_FILE
    await asyncio.to_thread(check_whole, demo_sqlite_url)


def test_a_terminal_shows_how_far_it_is(demo_sqlite_url: str, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("first_name\n" + "Ann\n" * 200_000)
    terminal, stderr = pty.openpty()
    command = [*COMMAND, "import", "contacts", str(file), *INTO]
    variables = environment(**QUICK, DATABASE_URL=demo_sqlite_url)
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.DEVNULL, stderr=stderr) as process:
        shown = ""
        while not re.search(r"Importing contacts .* [0-9]+%  [0-9]{2}:[0-9]{2}:[0-9]{2} .*rows/s", shown):
            assert process.poll() is None
            shown += os.read(terminal, 65536).decode()
        process.kill()
    os.close(stderr)
    os.close(terminal)
