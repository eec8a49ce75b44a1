"""Defaults of columns in every form of SQLAlchemy and every call that writes, on both databases."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import httpx2 as httpx
import pytest
from sqlalchemy import (
    Column,
    Computed,
    DateTime,
    FetchedValue,
    Identity,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    Text,
    Uuid,
    func,
    text,
)  # fmt: skip

from apex import Apex, SQLService, database, rest
from apex.adapters.companion import Companion
from apex.errors import BadRequest
from apex.sql import Json, Timestamp

FORMS: dict[str, dict[str, Any]] = {
    "constant": {"default": "c"},
    "function": {"default": lambda: "f"},
    "of the row": {"default": lambda context: context.get_current_parameters()["name"] + "!"},
    "expression": {"default": func.lower("E")},
    "of the server": {"server_default": "s"},
    "text of the server": {"server_default": text("'t'")},
}
MADE = {"constant": "c", "function": "f", "of the row": "Ann!", "expression": "e",
        "of the server": "s", "text of the server": "t"}  # fmt: skip
CHANGES: dict[str, dict[str, Any]] = {
    "constant": {"onupdate": "c"},
    "function": {"onupdate": lambda: "f"},
    "of the row": {"onupdate": lambda context: context.get_current_parameters()["name"] + "!"},
    "expression": {"onupdate": func.lower("E")},
}


def table(*columns: Any) -> Table:
    return Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("name", String(20)), *columns)


@asynccontextmanager
async def serving(url: str, notes: Table, *more: str, **options: Any) -> AsyncIterator[Any]:
    app = Apex().configure(database(url)).configure(rest)
    app.use("notes", SQLService(notes, multi=True, **options))
    await app.setup()
    try:
        await app.get("database").create_all(notes.metadata)
        for statement in more:
            await app.get("database").execute(text(statement))
        yield app
    finally:
        await app.teardown()


async def sent(app: Any, method: str, path: str, data: Any) -> Any:
    """Make a call over REST, where the database writes the JSON."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.request(method, path, json=data)
        assert answer.status_code < 300, answer.text
        return answer.json()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("quick", [True, False])
async def test_a_new_record_has_its_defaults(empty_url: str, form: str, quick: bool) -> None:
    notes = table(Column("made", String(20), nullable=False, **FORMS[form]))
    async with serving(empty_url, notes, json=quick) as app:
        assert (await app.service("notes").create({"name": "Ann"}))["made"] == MADE[form]
        assert (await sent(app, "POST", "/notes", {"name": "Ann"}))["made"] == MADE[form]
        rows = await sent(app, "POST", "/notes", [{"name": "Ann"}, {"name": "Ann", "made": "given"}, {"name": "Ann"}])
        assert [row["made"] for row in rows] == [MADE[form], "given", MADE[form]]


@pytest.mark.parametrize("form", CHANGES)
@pytest.mark.parametrize("quick", [True, False])
async def test_a_change_has_its_defaults(empty_url: str, form: str, quick: bool) -> None:
    notes = table(Column("made", String(20), nullable=False, default="new", **CHANGES[form]))
    async with serving(empty_url, notes, json=quick) as app:
        await app.service("notes").create([{"name": "Bob"}] * 3)
        assert (await sent(app, "PATCH", "/notes/1", {"name": "Ann"}))["made"] == MADE[form]
        assert (await sent(app, "PUT", "/notes/2", {"name": "Ann"}))["made"] == MADE[form]
        assert (await sent(app, "PATCH", "/notes/2", {"name": "Ann", "made": "given"}))["made"] == "given"
        assert {row["made"] for row in await sent(app, "PATCH", "/notes", {"name": "Ann"})} == {MADE[form]}


async def test_a_removal_that_marks_is_a_change(empty_url: str) -> None:
    notes = table(Column("gone", String(20)), Column("made", String(20), onupdate="changed"))
    async with serving(empty_url, notes) as app:
        await app.service("notes").create({"name": "Ann"})
        removed = await app.service("notes").remove(1, {"adapter": {"on_remove": {"gone": "yes"}}})
        assert (removed["gone"], removed["made"]) == ("yes", "changed")


async def test_an_update_keeps_what_the_record_was_given_by_default(empty_url: str) -> None:
    notes = table(
        Column("uuid", Uuid, default=uuid4), Column("made", Timestamp, server_default=func.now()), Column("text", Text)
    )
    async with serving(empty_url, notes) as app:
        made = await app.service("notes").create({"name": "Ann", "text": "hello"})
        assert await app.service("notes").update(made["id"], {"name": "Bob"}) == {**made, "name": "Bob", "text": None}


@pytest.mark.parametrize("kind", [Timestamp, DateTime])
@pytest.mark.parametrize("form", ["default", "server_default", "onupdate"])
async def test_a_moment_of_the_database_is_like_any_other(empty_url: str, kind: Any, form: str) -> None:
    default: dict[str, Any] = {form: func.now()}
    notes = table(Column("moment", kind, **default))
    async with serving(empty_url, notes) as app:
        service = app.service("notes")
        for row in [await service.create({"name": "Ann"}), *await service.create([{"name": "Ann"}] * 2)]:
            stored = await service.patch(row["id"], {"name": "Bob"})
            assert datetime.now(UTC).year - stored["moment"].year in (0, 1)
            assert await service.find({"query": {"moment": stored["moment"], "id": row["id"]}})
            assert stored["moment"] == (await service.get(row["id"]))["moment"]


async def test_the_record_over_rest_is_the_record_inside(empty_url: str) -> None:
    notes = table(
        Column("made", Timestamp, server_default=func.now()), Column("later", Timestamp, onupdate=func.now()),
        Column("loud", Text, Computed("upper(name)", persisted=True)),
    )  # fmt: skip
    async with serving(empty_url, notes) as app:
        for method, path in (("POST", "/notes"), ("PATCH", "/notes/1"), ("PUT", "/notes/1")):
            answer = await sent(app, method, path, {"name": "Ann"})
            assert answer == json.loads(json.dumps(await app.service("notes").get(1), default=_spelled))
            assert answer["loud"] == "ANN"


def _spelled(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def test_defaults_are_made_for_each_row(empty_url: str) -> None:
    numbers = count(1)
    notes = table(
        Column("number", Integer, default=lambda: next(numbers)),
        Column("double", Integer, default=lambda context: context.get_current_parameters()["number"] * 2),
        Column("tags", Json, default=list),
    )
    async with serving(empty_url, notes) as app:
        rows = await app.service("notes").create([{}, {"number": 50}, {}])
        assert [(row["number"], row["double"], row["tags"]) for row in rows] == [(1, 2, []), (50, 100, []), (2, 4, [])]


@pytest.mark.parametrize("always", [True, False])
async def test_an_identity_gives_the_id(empty_url: str, always: bool) -> None:
    notes = Table(
        "notes", MetaData(), Column("id", Integer, Identity(always=always), primary_key=True), Column("name", Text)
    )
    async with serving(empty_url, notes) as app:
        service = app.service("notes")
        assert await service.create({"name": "Ann"}) == {"id": 1, "name": "Ann"}
        assert [row["id"] for row in await service.create([{"name": "a"}, {"name": "b"}])] == [2, 3]
        assert (await service.patch(1, {"id": 1, "name": "Bob"}))["name"] == "Bob"
        if always:
            with pytest.raises(BadRequest, match="id is read-only"):
                await service.create({"id": 9, "name": "Eve"})
        else:
            assert (await service.create({"id": 9, "name": "Eve"}))["id"] == 9


async def test_a_sequence_counts_on_postgresql(postgres_url: str) -> None:
    numbers = Sequence("numbers", start=10)
    notes = Table(
        "notes", MetaData(), Column("id", Integer, Sequence("ids", start=5), primary_key=True),
        Column("name", Text), Column("number", Integer, numbers), Column("other", Integer, Identity(start=7)),
    )  # fmt: skip
    async with serving(postgres_url, notes) as app:
        assert await sent(app, "POST", "/notes", {"name": "a"}) == {"id": 5, "name": "a", "number": 10, "other": 7}
        rows = await sent(app, "POST", "/notes", [{"name": "b"}, {"name": "c", "number": 0}, {"name": "d"}])
        assert [(row["id"], row["name"], row["number"] == 0) for row in rows] == [
            (rows[0]["id"], "b", False), (rows[1]["id"], "c", True), (rows[2]["id"], "d", False),
        ]  # fmt: skip


@pytest.mark.parametrize("column", [Column("n", Integer, Sequence("numbers")), Column("n", Integer, Identity())])
async def test_columns_that_sqlite_cannot_fill_are_refused(sqlite_url: str, column: Column[Any]) -> None:
    app = Apex().configure(database(sqlite_url))
    with pytest.raises(TypeError, match=r"SQLite has no \w+, which fills notes.n"):
        app.use("notes", SQLService(table(column)))


@pytest.mark.parametrize("form", ["default", "onupdate"])
def test_a_constant_that_does_not_fit_is_refused(form: str) -> None:
    default: dict[str, Any] = {form: "many"}
    with pytest.raises(TypeError, match=rf"The {form} of notes.n makes 'many', which must be an integer"):
        SQLService(table(Column("n", Integer, **default)))


async def test_ids_of_the_database_come_back_in_the_order_of_the_data(postgres_url: str) -> None:
    key = Column("id", Uuid, primary_key=True, server_default=func.gen_random_uuid())
    async with serving(postgres_url, Table("notes", MetaData(), key, Column("name", Text))) as app:
        names = [str(number) for number in range(20)]
        rows = await app.service("notes").create([{"name": name} for name in names])
        assert [row["name"] for row in rows] == names
        assert all(isinstance(row["id"], UUID) for row in rows)


TRIGGERS = {
    "sqlite": ("CREATE TRIGGER filled AFTER INSERT ON notes BEGIN"
               " UPDATE notes SET slug = lower(new.name) WHERE id = new.id; END",
               "CREATE TRIGGER changed AFTER UPDATE OF name ON notes BEGIN"
               " UPDATE notes SET slug = lower(new.name) WHERE id = new.id; END"),
    "postgresql": ("CREATE FUNCTION slug() RETURNS trigger LANGUAGE plpgsql AS"
                   " 'BEGIN new.slug = lower(new.name); RETURN new; END'",
                   "CREATE TRIGGER filled BEFORE INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION slug()"),
}  # fmt: skip


async def test_values_that_triggers_write_come_back(empty_url: str) -> None:
    notes = table(Column("slug", Text, server_default=FetchedValue(), server_onupdate=FetchedValue()))
    async with serving(empty_url, notes, *TRIGGERS[empty_url.partition(":")[0]]) as app:
        assert (await sent(app, "POST", "/notes", {"name": "ANN"}))["slug"] == "ann"
        assert [row["slug"] for row in await sent(app, "POST", "/notes", [{"name": "B"}, {"name": "A"}])] == ["b", "a"]
        assert (await sent(app, "PATCH", "/notes/1", {"name": "BOB"}))["slug"] == "bob"
        assert (await sent(app, "PUT", "/notes/2?$select=slug", {"name": "EVE"})) == {"id": 2, "slug": "eve"}
        assert [row["slug"] for row in await sent(app, "PATCH", "/notes", {"name": "Z"})] == ["z"] * 3


@pytest.mark.parametrize("many", [False, True])
async def test_defaults_hold_with_what_is_stored_beside(empty_url: str, many: bool) -> None:
    def made() -> list[Column[Any]]:
        return [Column(f"c{place}", Text, **form) for place, form in enumerate(FORMS.values())]

    notes = table(*made())
    entries = Table(
        "entries", notes.metadata, Column("id", Integer, primary_key=True), Column("name", Text), *made(),
        Column("record_id", Integer), Column("whole", Json),
        Column("moment", Timestamp, default=func.now()), Column("uuid", Uuid, default=uuid4),
    )  # fmt: skip
    async with serving(empty_url, notes) as app:
        app.use("entries", SQLService(entries, multi=True))
        companion = Companion(app.service("entries").service, _entry, id="record_id", whole="whole")
        data = [{"name": "Ann"}, {"name": "Ann"}] if many else {"name": "Ann"}
        await app.service("notes").create(data, {"adapter": {"companion": companion}})
        for entry in await app.service("entries").find():
            assert {name: entry["whole"][name] for name in entry["whole"] if name != "id"} == {
                "name": "Ann", **{f"c{place}": MADE[form] for place, form in enumerate(FORMS)}
            }  # fmt: skip
            assert (entry["c0"], entry["c3"], entry["c4"]) == ("c", "e", "s")
            assert (entry["record_id"], entry["moment"].tzinfo, entry["uuid"].version) == (entry["id"], UTC, 4)


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    return {"whole": row, "name": row["name"]}


async def test_a_column_of_any_name_can_be_written(empty_url: str) -> None:
    async with serving(empty_url, table(Column("e-mail", Text), Column("full name", Text))) as app:
        await app.service("notes").create({"e-mail": "a", "full name": "A"})
        changed = await app.service("notes").patch(1, {"e-mail": "b", "full name": "B"})
        assert (changed["e-mail"], changed["full name"]) == ("b", "B")
        assert len(await app.service("notes").create([{"e-mail": "a"}, {"e-mail": "b"}])) == 2
