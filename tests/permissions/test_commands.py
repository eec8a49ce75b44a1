"""The commands ``apex permissions`` and ``apex explain``, for an app in a folder of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sqlalchemy import MetaData

from apex import Apex, MemoryService, database
from apex.cli import checks
from apex.errors import Forbidden
from apex.log import EventsService, log, log_table
from apex.permissions import can, mine
from tests.permissions.apps import app_of
from tests.process.commands import apex_here_in

APP = """
from apex import Apex, AuthenticationService, JWTStrategy, LocalStrategy, MemoryService, authenticate, rest
from apex.permissions import authorize, can, mine, roles

class Notes(MemoryService):
    permissions = {"user": can("find", fields=["title"]), "author": can("patch", "remove", where=mine("user_id")),
                   "admin": can("*")}

def create_app():
    app = Apex({"authentication": {"secret": "a-secret-of-32-characters-or-more", "authStrategies": ["jwt", "local"]}})
    app.configure(rest).configure(roles(("member", "admin")))
    service = AuthenticationService(app)
    service.register("jwt", JWTStrategy(service))
    users = {1: {"id": 1, "email": "ann", "role": "admin"}, 2: {"id": 2, "email": "bob"}}
    app.use("users", MemoryService(store=users)).use("authentication", service)
    notes = Notes(store={3: {"id": 3, "title": "a", "user_id": 1}, 4: {"id": 4, "title": "b", "user_id": 2}})
    return app.use("notes", notes, hooks={"around": {"all": [authenticate("jwt"), authorize]}})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    return tmp_path


def apex(folder: Path, *arguments: str) -> tuple[int, str]:
    sys.modules.pop("app", None)  # Each command imports the file anew, as in a process of its own.
    done = apex_here_in(folder, "--app", "app:create_app", *arguments)
    sys.modules.pop("app", None)
    return done.returncode, done.stdout + done.stderr


def test_the_table_has_a_line_for_each_method_and_a_column_for_each_role(folder: Path) -> None:
    status, printed = apex(folder, "permissions")
    lines = [line.split("  ") for line in printed.splitlines()]
    head = next(line for line in lines if line[0] == "notes")
    assert (status, [cell.strip() for cell in head if cell]) == (0, ["notes", "user", "admin", "author"])
    assert "  patch   -             all    mine('user_id')" in printed
    assert "  find    fields title  all    -" in printed


def test_a_change_fails_the_check_until_it_is_written(folder: Path) -> None:
    assert apex(folder, "permissions", "--check", "permissions.lock")[0] == 1
    assert apex(folder, "permissions", "--write") == (0, "permissions.lock written.\n")
    assert apex(folder, "permissions", "--check", "permissions.lock") == (0, "Nothing has changed.\n")
    changed = APP.replace('"patch", "remove"', '"patch"').replace('["title"]', '["title", "text"]')
    (folder / "app.py").write_text(changed, encoding="utf-8")
    status, printed = apex(folder, "permissions", "--check", "permissions.lock")
    assert (status, printed.splitlines()) == (1, [
        "- notes find user: fields title",
        "+ notes find user: fields title, text",
        "- notes remove author: mine('user_id')",
    ])  # fmt: skip


def test_a_request_is_explained_and_changes_nothing(folder: Path) -> None:
    status, printed = apex(folder, "explain", "PATCH", "/notes/4", "--as", "bob", "--data", '{"title": "c"}')
    assert status == 0
    assert "authorize limits the records to {'user_id': 2}" in printed
    assert printed.endswith("method patch would run\nallowed\n")
    status, printed = apex(folder, "explain", "PATCH", "/notes/3", "--as", "bob", "--data", '{"title": "c"}')
    assert status == 1
    assert "the record 3 is outside of this scope: it has {'user_id': 1}" in printed
    assert "author: mine('user_id')" in printed
    status, printed = apex(folder, "explain", "POST", "/notes", "--as", "bob", "--data", "{}")
    assert "before authorize refuses: You may not create notes" in printed
    assert apex(folder, "explain", "GET", "/notes")[1].startswith("before authenticate refuses: Not authenticated")
    assert "there is no user 'eve'" in apex(folder, "explain", "GET", "/notes", "--as", "eve")[1]
    assert "there is no service at '/note/3'. Did you mean 'notes'?" in apex(folder, "explain", "GET", "/note/3")[1]


@pytest.mark.parametrize("named", [["/notes/archive"], ["/notes", "--method", "archive"]])
def test_a_custom_method_is_explained_by_its_url_and_by_its_name(folder: Path, named: list[str]) -> None:
    methods = "    methods = ('archive',)\n\n    async def archive(self, data, params):\n        return data\n\n"
    source = APP.replace("def create_app", f"{methods}def create_app").replace("[authenticate", "[no_id, authenticate")
    no_id = "async def no_id(context, next):\n    assert context.id is None\n    await next()\n\n"
    (folder / "app.py").write_text(source.replace("def create_app", f"{no_id}def create_app"), encoding="utf-8")
    status, printed = apex(folder, "explain", "POST", *named, "--as", "ann", "--data", "{}")
    assert (status, printed.endswith("method archive would run\nallowed\n")) == (0, True)
    status, printed = apex(folder, "explain", "POST", *named, "--as", "bob", "--data", "{}")
    assert (status, "You may not archive notes" in printed) == (1, True)


def test_a_service_without_permissions_is_named_beside_others() -> None:
    app = app_of({"user": can("find")})
    assert list(checks.undeclared(app)) == []
    app.use("tags", MemoryService())
    (finding,) = checks.undeclared(app)
    assert finding.startswith("'tags' has no permissions")
    assert list(checks.undeclared(Apex().use("tags", MemoryService()))) == []


def test_a_service_without_permissions_is_named_if_events_are_served() -> None:
    app = Apex().configure(database("sqlite:///notes.db")).configure(log(log_table(MetaData())))
    app.use("tags", MemoryService()).use("news", MemoryService())
    app.use("events", EventsService(may_read={"news": lambda record, params: True}))
    (finding,) = checks.undeclared(app)
    assert finding.startswith("'tags' has no permissions, so 'events' leaves out its events")


@pytest.mark.parametrize(("env", "has_reason"), [("development", True), ("production", False), (None, False)])
async def test_a_refusal_has_its_reason_in_development_alone(env: str | None, has_reason: bool) -> None:
    app = app_of({"user": can("find"), "author": can("remove", where=mine("user_id"))}).set("env", env)
    with pytest.raises(Forbidden) as raised:
        await app.service("notes").create({"title": "a"}, {"provider": "rest", "user": {"id": 1}})
    assert (raised.value.data is not None) == has_reason
    assert not has_reason or "allow create to nobody" in raised.value.data["permissions"]
