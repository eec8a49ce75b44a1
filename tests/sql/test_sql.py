"""The adapter for SQL databases beyond the contract: defaults, keys, broken rules, transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    select,
)  # fmt: skip

from apex.app import Apex
from apex.errors import BadRequest, Conflict, NotFound
from apex.service import BoundService
from apex.sql import Json, SQLService, database
from apex.sql.statements import DIALECTS, Statement, StatementCache

METADATA = MetaData()
TEAMS = Table("teams", METADATA, Column("id", Integer, primary_key=True), Column("motto", Text, server_default="go"))
PEOPLE = Table(
    "people",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(20), nullable=False),
    Column("email", Text),
    Column("age", Integer, CheckConstraint("age >= 0")),
    Column("team_id", ForeignKey("teams.id")),
    Column("status", Text, nullable=False, server_default="new"),
    Column("score", Integer, default=7),
    Column("token", Text, default=lambda: "made"),
    Column("extra", Json),
    Column("loud", Text, Computed("upper(name)", persisted=True)),
    UniqueConstraint("name", "age"),
    UniqueConstraint("email", name="one_email"),
)
KEYS = Table("keys", METADATA, Column("id", Uuid, primary_key=True, default=uuid4), Column("name", Text))
BADGES = Table(
    "badges",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("team", Integer),
    Column("number", Integer),
    UniqueConstraint("team", "number"),
    info={"tenant": "team"},
)
CODES = Table("codes", METADATA, Column("code", String(5), primary_key=True), Column("name", Text))


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Apex]:
    app = Apex().configure(database(url))
    app.use("teams", SQLService(TEAMS, multi=True))
    app.use("badges", SQLService(BADGES))
    app.use("people", SQLService(PEOPLE, multi=True, operators=["$like"]))
    app.use("keys", SQLService(KEYS, multi=True)).use("codes", SQLService(CODES, id="code", multi=True))
    await app.setup()
    try:
        await app.get("database").create_all(METADATA)
        yield app
    finally:
        await app.teardown()


async def count(service: BoundService) -> int:
    return len(await service.find())


def test_a_database_without_a_url_is_refused() -> None:
    with pytest.raises(TypeError, match="takes a URL and not the app"):
        Apex().configure(database)  # type: ignore[arg-type]


async def test_defaults_of_python_and_of_the_database_are_filled_in(empty_url: str) -> None:
    async with running(empty_url) as app:
        ann = await app.service("people").create({"name": "Ann"})
        assert (ann["status"], ann["score"], ann["token"], ann["age"]) == ("new", 7, "made", None)


async def test_defaults_are_filled_in_row_by_row(empty_url: str) -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a"},
        {"name": "b", "status": "old"},
        {"name": "c", "score": 1},
        {"name": "d"},
    ]
    async with running(empty_url) as app:
        created = await app.service("people").create(rows)
        assert [row["name"] for row in created] == ["a", "b", "c", "d"]
        assert [row["status"] for row in created] == ["new", "old", "new", "new"]
        assert [row["score"] for row in created] == [7, 7, 1, 7]


async def test_null_is_not_replaced_by_a_default(empty_url: str) -> None:
    async with running(empty_url) as app:
        assert (await app.service("people").create({"name": "a", "score": None}))["score"] is None
        assert (await app.service("teams").create([{"motto": None}, {}]))[0]["motto"] is None


async def test_a_table_may_fill_in_everything(empty_url: str) -> None:
    async with running(empty_url) as app:
        assert await app.service("teams").create({}) == {"id": 1, "motto": "go"}
        assert [row["id"] for row in await app.service("teams").create([{}, {}])] == [2, 3]


async def test_rows_of_different_shapes_are_stored_together_or_not_at_all(empty_url: str) -> None:
    rows = [{"name": "a"}, {"name": "b", "status": "old"}, {"name": "c", "age": -1, "status": "old"}]
    async with running(empty_url) as app:
        with pytest.raises(BadRequest):
            await app.service("people").create(rows)
        assert await count(app.service("people")) == 0


async def test_computed_columns_are_seen_and_not_written(empty_url: str) -> None:
    async with running(empty_url) as app:
        people = app.service("people")
        assert (await people.create({"name": "Ann"}))["loud"] == "ANN"
        assert [row["name"] for row in await people.find({"query": {"loud": "ANN"}})] == ["Ann"]
        for call in (people.create({"name": "a", "loud": "x"}), people.patch(1, {"loud": "x"})):
            with pytest.raises(BadRequest, match="loud is read-only"):
                await call


async def test_a_key_may_be_made_by_python(empty_url: str) -> None:
    async with running(empty_url) as app:
        rows = await app.service("keys").create([{"name": str(number)} for number in range(20)])
        assert [row["name"] for row in rows] == [str(number) for number in range(20)]
        assert (await app.service("keys").get(str(rows[3]["id"])))["name"] == "3"
        found = await app.service("keys").find({"query": {"id": {"$in": [str(row["id"]) for row in rows[:2]]}}})
        assert {row["id"] for row in found} == {row["id"] for row in rows[:2]}


async def test_a_key_of_another_type_is_not_found(empty_url: str) -> None:
    async with running(empty_url) as app:
        for path, ids in (("keys", ("5", 5, UUID(int=1), "")), ("codes", (5, "", "longer than five", "a\0"))):
            for id in ids:
                with pytest.raises(NotFound):
                    await app.service(path).get(id)  # type: ignore[arg-type]


async def test_a_key_may_be_text(empty_url: str) -> None:
    async with running(empty_url) as app:
        rows = await app.service("codes").create([{"code": "b"}, {"code": "a"}, {"code": "5"}])
        assert [row["code"] for row in rows] == ["b", "a", "5"]
        assert (await app.service("codes").patch("5", {"name": "five"}))["name"] == "five"


async def test_a_taken_value_is_a_conflict_that_names_the_fields(empty_url: str) -> None:
    async with running(empty_url) as app:
        people = app.service("people")
        await people.create({"name": "Ann", "age": 1, "email": "a@b.c"})
        for data, fields in (
            ({"name": "Ann", "age": 1}, ["name", "age"]),
            ({"name": "x", "email": "a@b.c"}, ["email"]),
        ):
            with pytest.raises(Conflict, match=", ".join(fields)) as raised:
                await people.create(data)
            assert raised.value.errors == dict.fromkeys(fields, "Is taken")


async def test_an_error_of_a_taken_value_does_not_name_the_tenant(empty_url: str) -> None:
    async with running(empty_url) as app:
        await app.service("badges").create({"team": 1, "number": 5})
        with pytest.raises(Conflict, match="A record with this number already exists") as raised:
            await app.service("badges").create({"team": 1, "number": 5})
        assert raised.value.errors == {"number": "Is taken"}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({}, "name is required"),
        ({"name": "a", "status": None}, "status must be a string"),
        ({"name": "a", "age": -1}, "has a value that is not allowed"),
        ({"name": "a", "team_id": 99}, "refers to a record that does not exist"),
        ({"name": "x" * 21}, "name must have at most 20 characters"),
    ],
)
async def test_a_broken_rule_is_a_bad_request(empty_url: str, data: dict[str, Any], sentence: str) -> None:
    async with running(empty_url) as app:
        with pytest.raises(BadRequest, match=sentence):
            await app.service("people").create(data)
        id = (await app.service("people").create({"name": "a"}))["id"]
        if data:
            with pytest.raises(BadRequest, match=sentence):
                await app.service("people").patch(id, data)


@pytest.mark.parametrize("data", [{"team_id": 99}, {"age": -1}])
async def test_a_broken_reference_or_check_names_its_field(empty_url: str, data: dict[str, Any]) -> None:
    async with running(empty_url) as app:
        people, fine = app.service("people"), {"name": "a"}
        await people.create({"name": "b"})
        calls: list[Any] = [
            lambda: people.create(fine | data), lambda: people.create([fine, fine | data]),
            lambda: people.patch(1, data), lambda: people.patch(None, data), lambda: people.update(1, fine | data),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(BadRequest) as raised:
                await call()
            assert list(raised.value.errors) == list(data)


async def test_a_reference_within_a_tenant_names_its_field(empty_url: str) -> None:
    metadata = MetaData()
    id, tenant = Column("id", Integer, primary_key=True), Column("team", Integer, primary_key=True)
    boards = Table("boards", metadata, id, tenant, info={"tenant": "team"})
    cards = Table(
        "cards", metadata, Column("id", Integer, primary_key=True), Column("team", Integer), Column("board", Integer),
        ForeignKeyConstraint(["team", "board"], [tenant, id]), info={"tenant": "team"},
    )  # fmt: skip
    app = Apex().configure(database(empty_url)).use("boards", SQLService(boards)).use("cards", SQLService(cards))
    await app.setup()
    await app.get("database").create_all(metadata)
    await app.service("boards").create({"id": 1, "team": 2})
    card = await app.service("cards").create({"team": 1})
    for call in (
        app.service("cards").create({"team": 1, "board": 1}),
        app.service("cards").patch(card["id"], {"board": 1}, {"scope": {"team": 1}}),
    ):
        with pytest.raises(BadRequest, match=r"^board refers") as raised:
            await call
        assert list(raised.value.errors) == ["board"]
    await app.teardown()


async def test_a_reference_that_is_looked_at_in_the_end_is_a_bad_request(empty_url: str) -> None:
    metadata = MetaData()
    key = ForeignKey("cards.id", deferrable=True, initially="DEFERRED")
    cards = Table("cards", metadata, Column("id", Integer, primary_key=True), Column("next", Integer, key))
    app = Apex().configure(database(empty_url)).use("cards", SQLService(cards))
    await app.setup()
    await app.get("database").create_all(metadata)
    with pytest.raises(BadRequest, match="refers to a record that does not exist"):
        async with app.get("database").transaction():
            await app.service("cards").create({"next": 9})
    await app.teardown()


async def test_a_record_that_is_referred_to_stays(empty_url: str) -> None:
    async with running(empty_url) as app:
        team = await app.service("teams").create({})
        await app.service("people").create({"name": "Ann", "team_id": team["id"]})
        with pytest.raises(BadRequest, match="is still referred to"):
            await app.service("teams").remove(team["id"])
        assert await count(app.service("teams")) == 1


async def test_patterns_are_not_for_json(empty_url: str) -> None:
    async with running(empty_url) as app:
        with pytest.raises(BadRequest, match="it holds JSON"):
            await app.service("people").find({"query": {"extra": {"$like": "%"}}})


async def test_services_share_a_transaction(empty_url: str) -> None:
    async with running(empty_url) as app:

        async def transact() -> None:
            async with app.get("database").transaction():
                team = await app.service("teams").create({})
                await app.service("people").create({"name": "Ann", "age": 1, "team_id": team["id"]})
                await app.service("people").create({"name": "Ann", "age": 1})

        with pytest.raises(Conflict):
            await transact()
        assert (await count(app.service("teams")), await count(app.service("people"))) == (0, 0)


async def test_calls_at_the_same_time_all_arrive(empty_url: str) -> None:
    async with running(empty_url) as app:
        people = app.service("people")
        await asyncio.gather(*(people.create({"name": str(number)}) for number in range(50)))
        await asyncio.gather(
            *(people.patch(None, {"age": number}, {"query": {"name": str(number)}}) for number in range(50))
        )
        assert sorted(row["age"] for row in await people.find()) == list(range(50))


async def test_queries_of_many_shapes_are_answered(empty_url: str) -> None:
    async with running(empty_url) as app:
        people = app.service("people")
        people.service.statements = StatementCache(3)
        await people.create({"name": "Ann", "age": 5})
        for depth in range(1, 8):
            query: dict[str, Any] = {"$or": [{"age": number} for number in range(depth)]}
            assert len(await people.find({"query": query})) == (depth > 5)


async def test_queries_of_many_conditions_are_answered(empty_url: str) -> None:
    ages = {"$or": [{"age": {"$gte": 10}, "name": {"$ne": f"no {number}"}} for number in range(99)]}
    async with running(empty_url) as app:
        people = app.service("people")
        await people.create([{"name": str(age), "age": age, "team_id": None} for age in range(20)])
        for query in (ages, {"$and": [ages, {"team_id": None}]}):
            found = await people.find({"query": {**query, "$sort": {"age": -1}}})
            assert [row["age"] for row in found] == [*range(19, 9, -1)]
        assert len(await people.patch(None, {"score": 1}, {"query": ages})) == 10
        assert (await people.get(20, {"query": ages}))["score"] == 1
        assert len(await people.remove(None, {"query": ages})) == 10
        assert await count(people) == 10


def test_statements_are_kept_as_long_as_they_are_few_and_short() -> None:
    made: list[str] = []

    def built(text: str, operands: int = 0) -> None:
        def build() -> Statement:
            made.append(text)
            return Statement(text, {}, {}, None, False, "kept")

        assert cache.get(text, build, range(operands)).text == text

    cache = StatementCache(size=3, characters=10)
    for text in ("a", "b", "a", "c", "d", "b", "c", "d", "a"):
        built(text)
    assert made == ["a", "b", "c", "d", "a"]
    for text in ("12345678", "x", "12345678", "y" * 20, "y" * 20, "x", "y" * 20):
        built(text)
    assert made[5:] == ["12345678", "x", "y" * 20, "x", "y" * 20]
    for _ in range(2):
        built("many", operands=33)
    assert made[10:] == ["many", "many"]


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_sqlalchemys_compiler_still_notes_what_is_read_of_it(name: str) -> None:
    compiled: Any = PEOPLE.insert().values(name="a").compile(dialect=DIALECTS[name])
    assert [column.key for column in compiled.insert_prefetch] == ["score", "token"], "Defaults of Python"
    compiled = select(PEOPLE.c.id, PEOPLE.c.extra).compile(dialect=DIALECTS[name])
    noted = [(entry.keyname, entry.type) for entry in compiled._result_columns]
    assert noted == [("id", PEOPLE.c.id.type), ("extra", PEOPLE.c.extra.type)], "Names and types of a result"


async def test_any_statement_may_be_run(empty_url: str) -> None:
    async with running(empty_url) as app:
        await app.service("people").create({"name": "Ann", "extra": {"a": [1]}})
        rows = await app.get("database").execute(select(PEOPLE.c.loud, PEOPLE.c.extra))
        assert rows == [{"loud": "ANN", "extra": {"a": [1]}}]


async def test_an_app_can_be_set_up_again(empty_url: str) -> None:
    app = Apex().configure(database(empty_url)).use("teams", SQLService(TEAMS))
    for expected in (0, 1):
        await app.setup()
        await app.get("database").create_all(METADATA)
        assert await count(app.service("teams")) == expected
        await app.service("teams").create({})
        await app.teardown()


def test_a_database_url_must_be_one() -> None:
    for url in ("", "nothing", "mysql://user:s3cret@host/db", "sqlite://", "sqlite:///:memory:", "://s3cret"):
        with pytest.raises(ValueError, match=r"database URL|URL must be") as raised:
            database(url)(Apex())
        assert "s3cret" not in str(raised.value)


async def test_a_service_needs_a_table_and_a_database() -> None:
    with pytest.raises(TypeError, match="SQLService needs a table"):
        SQLService()
    with pytest.raises(LookupError, match=r"Service 'teams' needs a database: app.configure\(database\(url\)\)"):
        await Apex().use("teams", SQLService(TEAMS)).setup()
    with pytest.raises(RuntimeError, match="no database before the app is set up"):
        await Apex().use("teams", SQLService(TEAMS)).service("teams").find()
    with pytest.raises(TypeError, match="Unknown option 'pagination'"):
        SQLService(TEAMS, pagination={})  # type: ignore[call-arg]


def test_a_column_with_a_key_of_its_own_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"Fields have the names of columns: notes.e_mail must not have the key 'email'"
    ):
        SQLService(Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("e_mail", key="email")))


async def test_text_is_ordered_by_code_point_whatever_the_collation(postgres_url: str) -> None:
    words = Table(
        "words", MetaData(), Column("id", Integer, primary_key=True), Column("name", Text(collation="und-x-icu"))
    )
    app = Apex().configure(database(postgres_url)).use("words", SQLService(words, multi=True))
    await app.setup()
    await app.get("database").create_all(words.metadata)
    await app.service("words").create([{"name": name} for name in ("b", "é", "Z", "a", "_")])
    found = await app.service("words").find({"query": {"name": {"$lt": "é"}, "$sort": {"name": 1}}})
    assert [row["name"] for row in found] == ["Z", "_", "a", "b"]
    for query in ({"name": "é"}, {"name": {"$in": ["é"]}}, {"name": {"$gt": "b"}}):
        assert [row["name"] for row in await app.service("words").find({"query": query})] == ["é"]
    await app.teardown()


@pytest.mark.parametrize("value", [5, 1.5, True, False, "5", "", [1], {"a": None}, None])
async def test_any_json_is_read_as_it_was_written(empty_url: str, value: Any) -> None:
    async with running(empty_url) as app:
        created = await app.service("people").create({"name": "Ann", "extra": value})
        assert created["extra"] == value
        assert (await app.service("people").get(created["id"]))["extra"] == value


async def test_numbers_with_a_point_are_read_as_they_were_written(empty_url: str) -> None:
    prices = Table(
        "prices", MetaData(), Column("id", Integer, primary_key=True), Column("f", Float), Column("n", Numeric(10, 2))
    )
    app = Apex().configure(database(empty_url)).use("prices", SQLService(prices))
    await app.setup()
    await app.get("database").create_all(prices.metadata)
    assert await app.service("prices").create({"f": 1.5, "n": 2.25}) == {"id": 1, "f": 1.5, "n": Decimal("2.25")}
    assert await app.service("prices").find({"query": {"n": {"$gt": "2"}}}) == [
        {"id": 1, "f": 1.5, "n": Decimal("2.25")}
    ]
    await app.teardown()


@pytest.mark.parametrize("limit", [1, 3, 4])
@pytest.mark.parametrize("skip", [0, 1, 2, 3, 9])
async def test_a_page_of_json_has_the_total_whether_it_was_counted_or_seen(
    empty_url: str, limit: int, skip: int
) -> None:
    async with running(empty_url) as app:
        await app.service("people").create([{"name": name} for name in "abc"])
        query = {"$limit": limit, "$skip": skip, "name": {"$ne": "z"}}
        page = await app.service("people").find({"provider": "rest", "query": query, "paginate": {"max": 10}})
        assert (page["total"], len(page["data"])) == (3, max(0, min(limit, 3 - skip)))


async def test_conditions_use_the_indexes_of_sqlite(sqlite_url: str) -> None:
    notes = Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("team", Integer, index=True))
    app = Apex().configure(database(sqlite_url)).use("notes", SQLService(table=notes, paginate={"default": 5}))
    await app.setup()
    await (opened := app.get("database")).create_all(notes.metadata)
    plans: list[str] = []
    fetch = opened.executor.fetch

    async def explained(sql: str, values: Any, *how: Any, **more: Any) -> Any:
        plans.extend(str(row[-1]) for row in await fetch(f"EXPLAIN QUERY PLAN {sql}", values))
        return await fetch(sql, values, *how, **more)

    opened.executor.fetch = explained
    for provider in (None, "rest"):
        params = {"provider": provider, "scope": {"team": [1]}}
        await app.service("notes").find({**params, "query": {"team": {"$in": [1, 2]}, "id": {"$gt": 0}}})
        with pytest.raises(NotFound):
            await app.service("notes").get(1, params)
    await app.teardown()
    assert plans
    assert not [plan for plan in plans if "SCAN notes" in plan]
