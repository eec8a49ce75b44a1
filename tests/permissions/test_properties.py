"""A property: for any permissions, rows and callers, no call shows or changes what a simple evaluation forbids."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, Table
from sqlalchemy.schema import CreateTable

from apex import Apex, MemoryService, SQLService, batch, database, rest
from apex.adapters.base import Adapter
from apex.errors import FeathersError
from apex.permissions import Rule, authorize, can, mine, roles
from apex.query.coercion import integer, text
from apex.realtime import Channel, Connection
from apex.types import UNSET
from tests.permissions.apps import name_caller
from tests.support.databases import new_database

FIELDS = ("title", "secret", "user_id")
NOTES = Table(
    "notes", MetaData(), Column("id", Integer, primary_key=True), Column("title", String(20)),
    Column("secret", String(20)), Column("user_id", Integer),
)  # fmt: skip
WHO = ("anyone", "user", "admin", "author")
METHODS = ("find", "get", "create", "patch", "remove")
SCOPES = (None, {"title": "a"}, {"user_id": [1, 2]}, mine("user_id"))

values = st.fixed_dictionaries(
    {"title": st.sampled_from("ab"), "secret": st.sampled_from("xyz"), "user_id": st.sampled_from([1, 2, None])}
)
methods = st.lists(st.sampled_from(METHODS), min_size=1, unique=True)
fields = st.none() | st.lists(st.sampled_from(FIELDS), min_size=1, unique=True)
callers = st.sampled_from([(None, ""), (1, ""), (2, "admin")])


def rule_for(who: str) -> st.SearchStrategy[Rule]:
    where = st.just(SCOPES[3]) if who == "author" else st.sampled_from(SCOPES)
    return st.builds(lambda names, where, fields: can(*names, where=where, fields=fields), methods, where, fields)


permissions = st.fixed_dictionaries({}, optional={who: st.lists(rule_for(who), min_size=1, max_size=2) for who in WHO})


class Simple:
    """The rules again, decided row by row and field by field, without any scope or query."""

    def __init__(self, rules: dict[str, list[Rule]], user: int | None, role: str) -> None:
        held = {"anyone"} | ({"user", "author"} if user is not None else set()) | ({role} if role else set())
        self.rules = [rule for who, listed in rules.items() if who in held for rule in listed]
        self.user = user

    def rules_of(self, row: dict[str, Any], *names: str) -> list[Rule]:
        return [rule for rule in self.rules if any(map(rule.allows, names)) and self.holds(rule, row)]

    def holds(self, rule: Rule, row: dict[str, Any]) -> bool:
        if rule.where is None:
            return True
        if callable(rule.where):
            return self.user is not None and row["user_id"] == self.user
        ((name, allowed),) = rule.where.items()
        return row[name] in allowed if isinstance(allowed, list) else bool(row[name] == allowed)

    def readable(self, row: dict[str, Any], *names: str) -> set[str]:
        rules = self.rules_of(row, *(names or ("find", "get")))
        return {name for rule in rules for name in (rule.fields or FIELDS)} | {"id"}


def service_of(kind: str, rules: Any) -> Adapter[Any]:
    options: dict[str, Any] = {"multi": True}
    if kind == "memory":
        types = {"id": integer, "title": text, "secret": text, "user_id": integer}
        made: Adapter[Any] = type("Notes", (MemoryService,), {"permissions": rules})(fields=types, **options)
    else:
        made = type("Notes", (SQLService,), {"permissions": rules})(NOTES, **options)
    return made


@pytest.fixture(scope="module")
def urls(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str | None]]:
    with new_database(postgres_server) as url:
        file = tmp_path_factory.mktemp("permissions") / "test.db"
        yield {"memory": None, "sqlite": f"sqlite:///{file}", "postgresql": url}


@pytest.mark.parametrize(("kind", "examples"), [("memory", 120), ("sqlite", 25), ("postgresql", 15)])
def test_no_call_shows_or_changes_what_a_simple_evaluation_forbids(
    urls: dict[str, str | None], kind: str, examples: int
) -> None:
    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(permissions.filter(bool), st.lists(values, min_size=1, max_size=4), callers, values, st.data())
    def check(rules: Any, rows: list[Any], caller: Any, change: Any, data: st.DataObject) -> None:
        name, value = data.draw(st.sampled_from(FIELDS)), data.draw(st.sampled_from(["a", "x", 1]))
        changed = {key: change[key] for key in data.draw(st.lists(st.sampled_from(FIELDS), min_size=1, unique=True))}
        asyncio.run(hold(kind, urls[kind], rules, rows, caller, (name, value), changed))

    check()


async def hold(
    kind: str, url: str | None, rules: Any, rows: list[Any], caller: Any, asked: tuple[str, Any], change: dict[str, Any]
) -> None:
    user, role = caller
    app = Apex().configure(rest).configure(roles(("admin",)))
    if url is not None:
        app.configure(database(url))
    app.use("notes", service_of(kind, rules), hooks={"before": {"all": [name_caller, authorize]}}).configure(batch)
    await app.setup()
    try:
        notes, simple = app.service("notes"), Simple(rules, user, role)
        if url is not None:
            await app.get("database").execute(CreateTable(NOTES, if_not_exists=True))
            await notes.remove(None)
        stored = [await notes.create({"id": place, **row}) for place, row in enumerate(rows, 1)]
        headers = {} if user is None else {"x-user": str(user), "x-role": role}
        outside: dict[str, Any] = {"provider": "rest", "headers": headers}
        await reads(app, simple, stored, outside, asked)
        await events(app, simple, stored, role)
        await writes(app, simple, stored, outside, change)
    finally:
        await app.teardown()


async def sent(app: Apex, method: str, params: Any, **given: Any) -> Any:
    """Return what a caller gets of a call, or None if it is refused."""
    try:
        return (await app.service("notes")._run(method, params=params, **given)).external
    except FeathersError as error:
        if error.code >= 500:
            raise
        return None


async def events(app: Apex, simple: Simple, stored: list[Any], role: str) -> None:
    """Compare what a connection gets of the events of all records with what its user may read."""
    user = None if simple.user is None else {"id": simple.user, "role": role}
    connection = Connection(provider="socketio", headers={}, **({} if user is None else {"user": user}))
    app.events.connections.add(connection)
    app.service("notes").publish(lambda data, context: Channel([connection]))
    got: list[Any] = []
    app.on("publish", lambda context, found: got.extend(context.external if p is UNSET else p for p in found.values()))
    for row in stored:
        app.service("notes").emit("patched", row)
    readable = [(row, simple.readable(row)) for row in stored if simple.rules_of(row, "find", "get")]
    assert got == [{name: row[name] for name in row if name in names} for row, names in readable]


async def reads(app: Apex, simple: Simple, stored: list[Any], outside: Any, asked: tuple[str, Any]) -> None:
    name, value = asked
    value = 1 if name == "user_id" else str(value)
    for query in ({}, {name: value}, {"$sort": {name: 1}}, {"$select": [name]}, {"$or": [{name: value}, {"id": 1}]}):
        found = await sent(app, "find", {**outside, "query": query})
        for row in found or ():
            whole = stored[row["id"] - 1]
            assert simple.rules_of(whole, "find")
            assert row.keys() <= simple.readable(whole, "find")
            assert row == {key: whole[key] for key in row}
            if query and "$select" not in query:
                assert name in simple.readable(whole, "find")
        if found is not None and not query:
            assert [row["id"] for row in found] == [row["id"] for row in stored if simple.rules_of(row, "find")]
    for whole in stored:
        row = await sent(app, "get", {**outside, "query": {}}, id=whole["id"])
        assert (row is not None) == bool(simple.rules_of(whole, "get"))
        assert row is None or row == {key: whole[key] for key in whole if key in simple.readable(whole, "get")}
        probed = await sent(app, "get", {**outside, "query": {name: whole[name]}}, id=whole["id"])
        assert probed is None or name in simple.readable(whole, "get")
    calls = {"calls": [["find", "notes", {}], ["get", "notes", 1, {}]]}
    many, one = await app.service("batch").create(calls, dict(outside))
    assert many.get("value") == await sent(app, "find", {**outside, "query": {}})
    assert one.get("value") == await sent(app, "get", {**outside, "query": {}}, id=1)


async def writes(app: Apex, simple: Simple, stored: list[Any], outside: Any, change: dict[str, Any]) -> None:
    notes = app.service("notes")
    for whole in stored:
        answer = await sent(app, "patch", {**outside, "query": {}}, id=whole["id"], data=change)
        now = await notes.get(whole["id"])
        if now != whole or answer is not None:
            for row in (whole, now):
                allowed = simple.rules_of(row, "patch")
                assert all(any(rule.fields is None or name in rule.fields for rule in allowed) for name in change)
        if answer is not None:
            assert answer.keys() <= simple.readable(now) | change.keys()
        whole.update(now)
    made = await sent(app, "create", {**outside, "query": {}}, data={"id": 9, **change})
    if made is not None:
        new = await notes.get(9)
        allowed = simple.rules_of(new, "create")
        assert all(any(rule.fields is None or name in rule.fields for rule in allowed) for name in change)
        assert made.keys() <= simple.readable(new) | change.keys() | {"id"}
        await notes.remove(9)
    for whole in stored:
        answer = await sent(app, "remove", {**outside, "query": {}}, id=whole["id"])
        assert (answer is not None) == bool(simple.rules_of(whole, "remove"))
        assert answer is None or answer.keys() <= simple.readable(whole)
