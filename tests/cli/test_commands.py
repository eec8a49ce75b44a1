"""The ``apex`` command: help, routes, migrations, checks, and that its page names all there is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from sqlalchemy import create_engine, text

from apex import Apex, AuthenticationService, Context, MemoryService, SQLService, authenticate, database, validate_query
from apex.cli.checks import findings, has_tenants
from apex.cli.commands import apex as command
from apex.cli.listing import chain, endpoints, entry
from apex.common import iff
from apex.hooks import run_before
from apex.migrations.revisions import engine_url
from services.activities import activities
from services.app import create_app
from tests.process.commands import COMMAND, QUICK, ROOT, apex_here, environment
from tests.process.commands import apex as process
from tests.support.waiting import SECONDS

PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
FRAMEWORK = ("asyncio", "sqlalchemy", "starlette", "marshmallow", "uvicorn", "alembic", "psycopg")


def all_commands(group: click.Command = command, name: str = "apex") -> Iterator[tuple[str, click.Command]]:
    """Each command that is not hidden, by its whole name, without the groups."""
    if not isinstance(group, click.Group):
        yield name, group
        return
    context = click.Context(group)
    for one in group.list_commands(context):
        found = group.get_command(context, one)
        if found is not None and not found.hidden:
            yield from all_commands(found, f"{name} {one}")


# Help and completion.


@pytest.mark.parametrize("arguments", [["--help"], ["user", "add", "--help"], ["migrate", "--help"]])
def test_help_loads_no_framework(arguments: list[str]) -> None:
    code = f"import sys, atexit; atexit.register(lambda: print(sorted(sys.modules.keys() & set({FRAMEWORK}))))"
    code += f"; sys.argv = ['apex', *{arguments}]; from apex.cli.commands import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment(**QUICK),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.stderr, done.stdout.splitlines()[-1]) == ("", "[]")


def test_a_shell_completes_commands() -> None:
    done = process(_APEX_COMPLETE="bash_complete", COMP_WORDS="apex mi", COMP_CWORD="1")
    assert done.stdout == "plain,migrate\n"


def test_a_shell_completes_the_services_of_the_application() -> None:
    done = apex_here(_APEX_COMPLETE="bash_complete", COMP_WORDS="apex routes support", COMP_CWORD="2")
    assert done.stdout.split() == ["plain,support-tickets", "plain,support-ticket-messages"]
    done = apex_here(_APEX_COMPLETE="bash_complete", COMP_WORDS="apex --app nowhere:app routes con", COMP_CWORD="4")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize(("wrong", "right"), [("migrat", "migrate"), ("usr", "user")])
def test_a_command_that_is_near_is_named(wrong: str, right: str) -> None:
    done = apex_here(wrong)
    assert (done.returncode, f"Did you mean '{right}'?" in done.stderr) == (2, True)


def test_the_page_has_every_command_and_option() -> None:
    chapters = dict(re.findall(r"^### `(apex [a-z -]+)`\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S))
    found = dict(all_commands())
    assert sorted(chapters) == sorted(found)
    for name, one in found.items():
        spellings = [option for option in one.params if isinstance(option, click.Option)]
        options = {text for option in spellings for text in (max(option.opts, key=len), *option.secondary_opts)}
        written = set(re.findall(r"`(--[a-z-]+)", chapters[name]))
        assert written == options - {"--help"}, name
        arguments = {
            str(argument.human_readable_name).strip("[].")
            for argument in one.params
            if isinstance(argument, click.Argument)
        }
        assert arguments <= set(re.findall(r"[A-Z]+", chapters[name])), name


# Routes.


def test_an_endpoint_is_listed_for_each_request_that_is_answered() -> None:
    app = Apex()
    app.use("notes", MemoryService(multi=("remove",), methods=("find", "get", "remove")))
    listed = [(one["verb"], one["path"], one["method"]) for one in endpoints(app.service("notes"))]
    assert listed == [
        ("GET", "/notes", "find"), ("GET", "/notes/:id", "get"), ("DELETE", "/notes", "remove"),
        ("DELETE", "/notes/:id", "remove"),
    ]  # fmt: skip


async def test_the_hooks_are_listed_in_the_order_in_which_they_run() -> None:
    ran: list[str] = []

    def hook(name: str, kind: str) -> Any:
        async def around(context: Context, next: Callable[[], Awaitable[None]]) -> None:
            ran.append(name)
            await next()

        def plain(context: Context) -> None:
            ran.append(name)

        made = around if kind == "around" else plain
        made.__qualname__ = name
        return made

    def hooks(level: str) -> dict[str, Any]:
        kinds = ("around", "before", "after")
        return {
            kind: {method: [hook(f"{level} {kind} {method}", kind)] for method in ("find", "all")} for kind in kinds
        }

    app = Apex().use("notes", MemoryService())
    inside = run_before(hook("ahead", "before"), iff(True, hook("then", "before")).else_(hook("else", "before")))
    app.service("notes").hooks({"around": {"all": [inside]}}).hooks(hooks("service"))
    app.hooks(hooks("app"))
    await app.service("notes").find()
    listed = chain(app.service("notes"), "find")
    assert [name for name in names(listed) if name not in ("MemoryService.find", "Adapter.find", "else")] == ran


def names(entries: list[dict[str, Any]]) -> Iterator[str]:
    """The names in a chain; of a hook with others inside, theirs."""
    for one in entries:
        groups = one.get("inside")
        yield from [one["name"]] if groups is None else names([inner for group in groups.values() for inner in group])


def test_routes_of_a_service_are_told_to_people_and_to_programs() -> None:
    shown = apex_here("routes", "contacts").stdout
    assert re.search(r"before +service +authenticate +apex.auth.service\n", shown)
    told = json.loads(apex_here("routes", "contacts", "--json").stdout)
    assert {"verb": "POST", "path": "/contacts/search", "method": "search"} in told["endpoints"]
    assert told["events"] == ["created", "updated", "patched", "removed"]
    assert [step["name"] for step in told["hooks"]["get"] if step["type"] == "method"] == ["Adapter.get"]
    assert {one["path"] for one in json.loads(apex_here("routes", "--json").stdout)} >= {"contacts", "users", "deals"}


def test_routes_mark_what_runs_in_the_transaction() -> None:
    assert re.search(r"\n  \| method +service +Adapter.patch ", apex_here("routes", "contacts").stdout)
    hooks = json.loads(apex_here("routes", "contacts", "--json").stdout)["hooks"]
    inside = {method: [step["name"] for step in steps if "transaction" in step] for method, steps in hooks.items()}
    assert {"timestamps", "Adapter.patch", "audit"} <= {*inside["patch"]}
    assert "limit_rate" not in inside["patch"]
    assert inside["find"] == inside["create"] == []


def test_a_service_that_is_near_is_named() -> None:
    done = apex_here("routes", "contcats")
    assert (done.returncode, done.stderr) == (1, "apex: there is no service 'contcats'. Did you mean 'contacts'?\n")


def test_a_service_for_nobody_outside_has_no_endpoints() -> None:
    app = Apex().use("notes", MemoryService(methods=()))
    assert (entry(app.service("notes"))["endpoints"], entry(app.service("notes"))["methods"]) == ([], [])


# Migrations.


def test_the_status_is_told_and_changes_nothing(empty_url: str) -> None:
    for _ in range(2):
        told = json.loads(apex_here("migrate", "--status", "--json", DATABASE_URL=empty_url).stdout)
        assert (told["current"], told["pending"][0]) == (None, "0001")
    assert apex_here("migrate", "0001", DATABASE_URL=empty_url).returncode == 0
    lines = apex_here("migrate", "--status", DATABASE_URL=empty_url).stdout.splitlines()
    assert lines[0] == "The database is at 0001."
    assert lines[1].startswith("Migrations pending: 0002, ")


def test_a_new_migration_follows_the_newest(tmp_path: Path) -> None:
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    template = (ROOT / "migrations" / "script.py.mako").read_text()
    (tmp_path / "migrations" / "script.py.mako").write_text(template)
    for message in ("Tables", 'More "tables"\\'):
        done = subprocess.run(
            [*COMMAND, "migrate", "--new", message],
            cwd=tmp_path,
            env=environment(**QUICK),
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
    files = sorted(path.name for path in (tmp_path / "migrations" / "versions").glob("*.py"))
    assert files == ["0001_tables.py", "0002_more_tables.py"]
    source = (tmp_path / "migrations" / "versions" / files[1]).read_text()
    found: dict[str, object] = {}
    exec(compile(source, files[1], "exec"), found)
    assert (found["revision"], found["down_revision"], found["__doc__"]) == ("0002", "0001", "More 'tables'/.")


@pytest.mark.parametrize("message", ["", "two\nlines", "x" * 101])
def test_a_message_that_heads_no_migration_is_refused(message: str) -> None:
    done = apex_here("migrate", "--new", message)
    assert (done.returncode, "the message must be one line" in done.stderr) == (1, True)


# Checks.


def test_nothing_is_wrong_with_the_crm(migrated_url: str) -> None:
    done = apex_here("check", "--json", DATABASE_URL=migrated_url)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"ok": True, "findings": []})


@pytest.mark.parametrize(("arguments", "host"), [((), "0.0.0.0"), (("--host", "::"), "localhost")])
def test_a_published_secret_is_not_served_to_others(
    migrated_sqlite_url: str, arguments: tuple[str, ...], host: str
) -> None:
    done = process("serve", "--port", "0", *arguments, DATABASE_URL=migrated_sqlite_url, HOST=host)
    assert (done.returncode, done.stdout) == (1, "")
    assert "apex: authentication.secret is published in the configuration" in done.stderr
    assert "set APEX_SECRET" in done.stderr


@pytest.mark.parametrize(
    ("variables", "check", "part"),
    [
        ({"DATABASE_URL": "mysql://h/n"}, "configuration", "database: must be sqlite:///file.db"),
        ({"DATABASE_URL": "postgresql://u:p4ss@127.0.0.1:1/n"}, "database", "cannot be reached"),
        ({"DATABASE_URL": "sqlite:////proc/nowhere.db"}, "database", "cannot be reached"),
        ({"APEX_SECRET": "x" * 40}, "secret", "has only 1 different characters"),
        ({"HOST": "0.0.0.0"}, "secret", "is published in the configuration, and others reach '0.0.0.0'"),
        ({"APEX_PREVIOUS_SECRET": "x" * 40}, "secret", "unset APEX_PREVIOUS_SECRET"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "redis", "it cannot be reached: ConnectionError"),
    ],
)
def test_what_is_wrong_is_one_line(migrated_sqlite_url: str, variables: dict[str, str], check: str, part: str) -> None:
    done = apex_here("check", **{"DATABASE_URL": migrated_sqlite_url} | variables)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (1, "", 1)
    assert done.stdout.startswith(f"{check}: ")
    assert part in done.stdout
    assert "p4ss" not in done.stdout


def test_pending_migrations_are_found(empty_url: str) -> None:
    done = apex_here("check", "--json", DATABASE_URL=empty_url)
    (finding,) = json.loads(done.stdout)["findings"]
    assert (done.returncode, finding["check"], "are pending" in finding["message"]) == (1, "database", True)


class Leaky(SQLService):
    """A service without a hook that limits its callers."""

    table = activities


def test_a_service_that_does_not_limit_its_callers_is_found(migrated_sqlite_url: str) -> None:
    app = Apex().configure(database(migrated_sqlite_url))
    app.use("leaky", Leaky(), hooks={"before": {"all": [authenticate("jwt"), validate_query]}})
    app.use("inside", Leaky(methods=()))
    (finding,) = findings(app)
    assert finding["check"] == "services"
    assert finding["message"].startswith(
        "'leaky' does not limit callers to their tenants for find, get, create, update, patch, remove"
    )


def test_tokens_that_a_restart_would_revive_are_found(migrated_sqlite_url: str) -> None:
    app = Apex({"authentication": {"secret": "0123456789abcdef" * 2}}).configure(database(migrated_sqlite_url))
    app.use("users", Leaky(methods=())).use("authentication", AuthenticationService(app))
    (finding,) = findings(app)
    assert (finding["check"], "a restart revives tokens" in finding["message"]) == ("authentication", True)


def test_a_table_without_row_level_security_is_found(migrated_postgres_url: str) -> None:
    engine = create_engine(engine_url(migrated_postgres_url))
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE deals DISABLE ROW LEVEL SECURITY"))
        connection.execute(text("DROP POLICY tenant ON products"))
    engine.dispose()
    done = apex_here("check", DATABASE_URL=migrated_postgres_url)
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["database"] * 2
    assert re.findall(r"table '(\w+)'", done.stdout) == ["deals", "products"]


def test_every_service_of_the_crm_with_tenants_is_looked_at() -> None:
    app = create_app()
    looked_at = {path for path, bound in app.services.items() if has_tenants(app, bound.service)}
    assert looked_at >= {"contacts", "deals", "audit", "api/contacts", "memberships"}
