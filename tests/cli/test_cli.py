"""The ``apex`` command: migrations, users and tokens."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from importlib.metadata import EntryPoint
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from httpx2 import Response

from apex import Apex, database, load_config
from apex.cli import commands
from apex.cli.loading import require_migrated
from apex.errors import ConfigError
from apex.migrations.migrate import upgrade
from services.app import CONFIG, create_app
from tests.process.commands import QUICK, ROOT, apex_here, apex_here_in
from tests.process.commands import apex as process
from tests.support.serving import calling

PASSWORD = "correct horse"
COMMANDS = [
    "new", "serve", "routes", "check", "permissions", "explain", "migrate", "generate", "openapi", "shell", "token",
    "trash", "log", "webhooks",
    "audit", "demo", "export", "import", "key", "member", "organization", "person", "user",
]  # fmt: skip
"""The commands of the framework, as a newcomer needs them, and then those of the CRM."""
UP_TO_DATE = "The database is up to date.\n"
REVISIONS = sorted(path.name[:4] for path in (ROOT / "migrations" / "versions").glob("[0-9]*.py"))
PENDING = f"Migrations pending: {', '.join(REVISIONS)}.\n"


def add_user(url: str, *options: str, password: str = PASSWORD) -> CompletedProcess[str]:
    given = options if "@" in "".join(options) else ("Ann@Example.com", *options)
    return apex_here("user", "add", "--first-name", "Ann", *given, DATABASE_URL=url, APEX_PASSWORD=password)


def answer(url: str, method: str, path: str, **options: Any) -> Response:
    async def ask() -> Response:
        async with calling(create_app(load_config(CONFIG, QUICK | {"DATABASE_URL": url}))) as client:
            return await client.request(method, path, **options)

    return asyncio.run(ask())


def log_in(url: str, password: str, email: str = "ann@example.com") -> Response:
    return answer(url, "POST", "/authentication", json={"strategy": "local", "email": email, "password": password})


def test_help_lists_the_commands_of_framework_and_application() -> None:
    done = process("--help")
    assert done.returncode == 0
    assert re.findall(r"^  ([a-z]+)  ", done.stdout, re.M) == COMMANDS
    assert re.findall(r"^(Commands.*):\n  ([a-z]+)", done.stdout, re.M) == [
        ("Commands", "new"),
        ("Commands of the application", "audit"),
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = apex_here(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")


@pytest.mark.parametrize(
    "arguments", [("nope",), ("serve", "--nope"), ("serve", "--port", "x"), ("serve", "--port", "99999"), ("token",)]
)
def test_a_command_that_is_wrong_is_explained(arguments: tuple[str, ...]) -> None:
    done = apex_here(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr


@pytest.mark.parametrize("factory", ["", "nowhere:app", "json:nothing", "json:loads"])
def test_an_application_that_is_none_is_named(factory: str) -> None:
    done = apex_here("--app", factory, "routes")
    assert (done.returncode, f"apex: cannot load the application '{factory}'" in done.stderr) == (1, True)


OF_AN_APPLICATION = [
    ["serve"], ["serve", "--workers", "2"], ["serve", "--reload"], ["routes"], ["check"], ["migrate"], ["openapi"],
    ["token", "ann"], ["trash", "list"], ["trash", "prune", "--before", "2026-01-31"],
]  # fmt: skip
BROKEN = {
    "import nothing_here": "broken.py, line 1: ModuleNotFoundError: No module named 'nothing_here'",
    "def create_app(:": "broken.py, line 1: SyntaxError: invalid syntax",
    "def create_app():\n    return 1 / 0": "broken.py, line 2: ZeroDivisionError: division by zero",
    "from apex import Apex\n\ndef create_app():\n    return Apex().use('x', Apex)": "broken.py, line 4: TypeError: ",
    "from apex import load_config\n\ndef create_app():\n    load_config('config')": "config/default.json is missing",
}


def only_line(done: CompletedProcess[str]) -> str:
    """Return the only line that a failed command has printed."""
    (line,) = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 1
    return line


@pytest.mark.parametrize("arguments", OF_AN_APPLICATION, ids=" ".join)
def test_a_command_in_an_empty_folder_names_the_folder_of_the_application(tmp_path: Path, arguments: list[str]) -> None:
    line = only_line(apex_here_in(tmp_path, *arguments))
    expected = f"there is no application here: run 'apex' in {ROOT}, or make a project with 'apex new'"
    assert line.endswith(f": {expected}")


@pytest.mark.parametrize("code", BROKEN)
def test_a_broken_application_is_one_line_with_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    (tmp_path / "broken.py").write_text(code, encoding="utf-8")
    table = '[tool.apex.commands]\nuser = "services.commands.users:user"\n'
    (tmp_path / "pyproject.toml").write_text(table, encoding="utf-8")
    for arguments in (*OF_AN_APPLICATION, ["user", "remove", "ann"]):
        monkeypatch.delitem(sys.modules, "broken", raising=False)
        assert BROKEN[code] in only_line(apex_here_in(tmp_path, "--app", "broken:create_app", *arguments))


def test_a_file_that_python_cannot_read_is_the_place_of_the_error(tmp_path: Path) -> None:
    (tmp_path / "importing.py").write_text("import unreadable", encoding="utf-8")
    (tmp_path / "unreadable.py").write_text("\ndef (", encoding="utf-8")
    line = only_line(apex_here_in(tmp_path, "--app", "importing:create_app", "routes"))
    place = "unreadable.py, line 2: SyntaxError: invalid syntax"
    assert line == f"apex: cannot load the application 'importing:create_app': {place}"


FAILS_TO_START = """from apex import Apex

def create_app():
    async def setup(context, next):
        raise RuntimeError("no printer")
    app = Apex({"secret": "of-tests"})
    app.hooks({"setup": [setup]})
    return app
"""


def test_an_application_that_fails_to_start_is_one_line_with_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "starting.py").write_text(FAILS_TO_START, encoding="utf-8")
    line = only_line(apex_here_in(tmp_path, "--app", "starting:create_app", "trash", "list"))
    assert line == "apex: starting.py, line 5: RuntimeError: no printer"


def test_help_names_a_command_of_the_application_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("broken", "services.app:nothing", "apex.commands")
    monkeypatch.setattr(commands, "_extensions", lambda: {"broken": broken})
    assert "  broken  cannot load the command 'broken': " in apex_here("--help").stdout
    assert only_line(apex_here("broken")).startswith("apex: cannot load the command 'broken': ")


def test_a_user_joins_one_organization() -> None:
    done = add_user("sqlite://", "--organization", "456", "--new-organization", "Mine")
    assert (done.returncode, "not both" in done.stderr) == (2, True)


def test_a_file_that_cannot_be_written_is_named() -> None:
    done = apex_here("openapi", "--output", "/nowhere/openapi.json")
    assert (done.returncode, "'/nowhere/openapi.json'" in done.stderr) == (1, True)


def test_migrate_goes_up_and_down(empty_url: str) -> None:
    for arguments, said in (
        ([], UP_TO_DATE), ([], UP_TO_DATE), (["base", "--down"], PENDING), (["--down", "base"], PENDING),
        (REVISIONS[-1:], UP_TO_DATE),
    ):  # fmt: skip
        done = apex_here("migrate", *arguments, DATABASE_URL=empty_url)
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def test_migrate_refuses_a_revision_there_is_not(sqlite_url: str) -> None:
    done = apex_here("migrate", "nope", DATABASE_URL=sqlite_url)
    assert (done.returncode, done.stderr) == (1, "apex: cannot migrate: Can't locate revision identified by 'nope'\n")


def test_a_user_that_was_added_can_log_in_and_create_contacts(migrated_url: str) -> None:
    done = add_user(migrated_url, "--new-organization", "Ann Ltd", "--role", "owner")
    assert (done.returncode, done.stdout) == (0, "User 1 (ann@example.com) created, owner of organization 1.\n")
    headers = {"Authorization": log_in(migrated_url, PASSWORD).json()["accessToken"]}
    contact = {"organization_id": 1, "first_name": "Bo"}
    assert answer(migrated_url, "POST", "/contacts", json=contact, headers=headers).status_code == 201


@pytest.mark.parametrize(
    ("email", "password", "said"),
    [
        ("nope@", PASSWORD, "apex: Invalid user data; email: Invalid email format\n"),
        ("a@b.co", "short", "apex: Invalid user data; password: Must have a length from 8 to 1024\n"),
        ("a@b.co", "Password1", "apex: Invalid user data; password: Is one of the most common passwords\n"),
    ],
)
def test_a_user_with_anything_wrong_is_not_added(
    migrated_sqlite_url: str, email: str, password: str, said: str
) -> None:
    done = add_user(migrated_sqlite_url, email, password=password)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_a_user_is_added_once(migrated_url: str) -> None:
    assert add_user(migrated_url).returncode == 0
    done = add_user(migrated_url, "ann@example.COM")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "email" in done.stderr


def test_a_user_joins_an_organization_that_is_there_or_is_not_added(migrated_url: str) -> None:
    done = add_user(migrated_url, "--organization", "999")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert add_user(migrated_url).returncode == 0


def test_a_password_can_be_changed(migrated_sqlite_url: str) -> None:
    add_user(migrated_sqlite_url)
    variables = {"DATABASE_URL": migrated_sqlite_url, "APEX_PASSWORD": "battery staple"}
    done = apex_here("user", "password", "ANN@example.com", **variables)
    assert (done.returncode, done.stdout) == (0, "Password of ANN@example.com changed.\n")
    assert log_in(migrated_sqlite_url, PASSWORD).status_code == 401
    assert log_in(migrated_sqlite_url, "battery staple").status_code == 201


def test_a_user_that_was_removed_is_locked_out(migrated_sqlite_url: str) -> None:
    add_user(migrated_sqlite_url, "--new-organization", "Ann Ltd")
    token = apex_here("token", "ann@example.com", DATABASE_URL=migrated_sqlite_url).stdout.strip()
    asked = {"url": migrated_sqlite_url, "method": "GET", "path": "/contacts?organization_id=1"}
    assert answer(**asked, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert apex_here("user", "remove", "ann@example.com", DATABASE_URL=migrated_sqlite_url).returncode == 0
    assert answer(**asked, headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert log_in(migrated_sqlite_url, PASSWORD).json()["message"] == "Invalid login"


@pytest.mark.parametrize("command", [("token",), ("user", "remove"), ("user", "password")])
def test_a_user_that_is_not_there_is_named(migrated_sqlite_url: str, command: tuple[str, ...]) -> None:
    done = apex_here(*command, "x@y.z", DATABASE_URL=migrated_sqlite_url, APEX_PASSWORD=PASSWORD)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "apex: there is no user 'x@y.z'\n")


def test_a_token_is_printed_alone(migrated_url: str) -> None:
    add_user(migrated_url)
    done = apex_here("token", "Ann@example.com", DATABASE_URL=migrated_url)
    token = done.stdout.strip()
    assert (done.returncode, done.stdout, token.count(".")) == (0, f"{token}\n", 2)


def test_a_program_reads_what_was_made(migrated_sqlite_url: str) -> None:
    added = add_user(migrated_sqlite_url, "--new-organization", "Ann Ltd", "--role", "owner", "--json")
    assert json.loads(added.stdout) == {"id": 1, "email": "ann@example.com", "organization_id": 1, "role": "owner"}
    token = apex_here("token", "ann@example.com", "--json", DATABASE_URL=migrated_sqlite_url)
    assert json.loads(token.stdout)["accessToken"].count(".") == 2


def test_an_app_without_migrations_is_served_with_the_tables_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    require_migrated(Apex().configure(database(f"sqlite:///{tmp_path}/own.db")))
    with pytest.raises(ConfigError, match="there is no folder 'migrations' here"):
        upgrade(f"sqlite:///{tmp_path}/own.db")


def test_workers_without_a_folder_for_temporary_files_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    failed = apex_here("serve", "--reload", "--port", "0")
    assert failed.returncode == 1
    assert failed.stderr == "apex: Workers need a folder for temporary files, set TMPDIR: No such file or directory\n"


def test_down_says_to_which_revision(migrated_sqlite_url: str) -> None:
    done = apex_here("migrate", "--down", DATABASE_URL=migrated_sqlite_url)
    assert (done.returncode, "--down needs a revision" in done.stderr) == (1, True)


def test_the_demo_is_not_for_production(sqlite_url: str) -> None:
    done = apex_here("demo", DATABASE_URL=sqlite_url, APEX_ENV="production", APEX_SECRET="x" * 40)
    assert (done.returncode, "is not loaded in production" in done.stderr) == (1, True)
