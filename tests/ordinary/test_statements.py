"""``database.execute`` with the statements of SQLAlchemy Core, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
    tuple_,
    union,
    update,
)  # fmt: skip
from sqlalchemy.dialects import postgresql, sqlite

from apex.errors import BadRequest, Conflict
from apex.sql import Database, Fixed, Json, Timestamp

METADATA = MetaData()
TEAMS = Table(
    "teams", METADATA, Column("id", Integer, primary_key=True), Column("name", Text, unique=True),
    Column("size", Integer, default=3),
)  # fmt: skip
PEOPLE = Table(
    "people",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(20), nullable=False),
    Column("team_id", ForeignKey("teams.id")),
    Column("uuid", Uuid, default=uuid4),
    Column("label", Text, default=lambda context: context.get_current_parameters()["name"].upper()),
    Column("made", Timestamp, default=func.now()),
    Column("changed", Text, onupdate=lambda: "yes"),
    Column("price", Fixed(2), default=0),
    Column("extra", Json, default=dict),
    Column("full name", Text),
    Column("e-mail", Text, default="none"),
)
NAMES = PEOPLE.c.name


@pytest.fixture
async def db(empty_url: str) -> AsyncIterator[Database]:
    database = Database(empty_url)
    await database.open()
    try:
        await database.create_all(METADATA)
        await database.execute(insert(TEAMS), [{"name": "red"}, {"name": "blue"}])
        await database.execute(insert(PEOPLE), [{"name": name, "team_id": 1} for name in ("Ann", "Bob", "Eve")])
        yield database
    finally:
        await database.close()


async def names(db: Database, statement: Any, values: Any = None) -> list[Any]:
    return [row["name"] for row in await db.execute(statement, values)]


async def test_a_list_of_values(db: Database) -> None:
    people = select(NAMES).order_by(PEOPLE.c.id)
    assert await names(db, people.where(NAMES.in_(["Ann", "Eve"]))) == ["Ann", "Eve"]
    assert await names(db, people.where(NAMES.not_in(["Ann", "Eve"]))) == ["Bob"]
    assert await names(db, people.where(NAMES.in_([]))) == []
    assert await names(db, people.where(PEOPLE.c.price.in_([0]), PEOPLE.c.id < 3)) == ["Ann", "Bob"]
    assert await names(db, people.where(tuple_(PEOPLE.c.id, NAMES).in_([(1, "Ann"), (2, "Eve")]))) == ["Ann"]
    listed = people.where(NAMES.in_(bindparam("some", expanding=True)), PEOPLE.c.id > bindparam("after"))
    assert await names(db, listed, {"some": ["Ann", "Bob"], "after": 1}) == ["Bob"]
    kept = db.compile(listed)
    for some, found in ((["Ann"], []), (["Bob", "Eve", "x"], ["Bob", "Eve"]), ([], [])):
        assert [row["name"] for row in await db.fetch(kept, {"some": some, "after": 1})] == found


async def test_a_list_of_typed_values(db: Database) -> None:
    rows = await db.execute(select(PEOPLE.c.uuid, PEOPLE.c.made).order_by(PEOPLE.c.id))
    assert all(isinstance(row["uuid"], UUID) for row in rows)
    found = select(NAMES).where(PEOPLE.c.uuid.in_([row["uuid"] for row in rows[:2]]))
    assert sorted(await names(db, found)) == ["Ann", "Bob"]
    assert len(await names(db, select(NAMES).where(PEOPLE.c.made.in_([row["made"] for row in rows])))) == 3


async def test_text(db: Database) -> None:
    assert await db.execute(text("SELECT 1 AS one, 'a%' AS b, '::' AS c")) == [{"one": 1, "b": "a%", "c": "::"}]
    asked = text("SELECT id, name FROM people WHERE name = :name OR id = :id ORDER BY id")
    assert await db.execute(asked, {"name": "Ann", "id": 2}) == [{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bob"}]
    assert await db.execute(asked.bindparams(name="Eve", id=0)) == [{"id": 3, "name": "Eve"}]
    assert await db.execute(text("UPDATE people SET name = 'Z' WHERE id = 1")) == []
    assert await names(db, text("UPDATE people SET name = 'Y' WHERE id = 1 RETURNING name")) == ["Y"]
    listed = text("SELECT name FROM people WHERE id IN :ids ORDER BY id").bindparams(bindparam("ids", expanding=True))
    assert await names(db, listed, {"ids": [2, 3]}) == ["Bob", "Eve"]
    assert await db.execute(text("SELECT name FROM people WHERE id = 99")) == []


async def test_text_with_columns_has_their_types(db: Database) -> None:
    asked = text("SELECT made, id, extra FROM people WHERE id = 1")
    for typed in (asked.columns(made=Timestamp, extra=Json), asked.columns(PEOPLE.c.made, PEOPLE.c.id, PEOPLE.c.extra)):
        (row,) = await db.execute(typed)
        assert list(row) == ["made", "id", "extra"]
        assert (type(row["made"]), row["id"], row["extra"]) == (datetime, 1, {})
    within = asked.columns(id=Integer).cte("within")
    assert await names(db, select(NAMES).join(within, within.c.id == PEOPLE.c.id)) == ["Ann"]


async def test_a_row_has_the_names_of_the_query(db: Database) -> None:
    one = PEOPLE.join(TEAMS)
    asked = select(PEOPLE.c.id, TEAMS.c.id, TEAMS.c.name.label("team"), func.count().over(), PEOPLE.c.id + 1)
    (row, *_) = await db.execute(asked.select_from(one).order_by(PEOPLE.c.id))
    assert row == {"id": 1, "id_1": 1, "team": "red", "anon_1": 3, "anon_2": 2}
    assert await db.execute(select(func.count()).select_from(PEOPLE)) == [{"count_1": 3}]
    assert await db.execute(func.lower("A")) == [{"lower_1": "a"}]
    assert await db.execute(select(literal(5), literal_column("6").label("six"), text("7 AS seven"))) == [
        {"anon_1": 5, "six": 6, "seven": 7}
    ]
    assert await db.execute(text("SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a")) == [{"a": 1, "a_2": 2, "a_1": 3, "a_3": 4}]
    assert await db.execute(select(PEOPLE.c["full name"], PEOPLE.c["e-mail"]).limit(1)) == [
        {"full name": None, "e-mail": "none"}
    ]


async def test_an_insert_has_the_defaults_of_its_columns(db: Database) -> None:
    one = insert(PEOPLE).returning(PEOPLE)
    bound = one.values({"price": bindparam("much")})
    calls: list[Any] = [(one, {"name": "Zoe"}), (one.values(name="Zoe"), None), (bound, {"name": "Zoe", "much": 0})]
    for statement, values in calls:
        (row,) = await db.execute(statement, values)
        assert (row["name"], row["label"], row["e-mail"], row["extra"]) == ("Zoe", "ZOE", "none", {})
        assert (row["uuid"].version, row["made"].tzinfo, str(row["price"])) == (4, UTC, "0.00")
    assert await db.execute(insert(PEOPLE).values(name="Zoe")) == []
    assert await db.execute(insert(TEAMS).returning(TEAMS)) == [{"id": 3, "name": None, "size": 3}]


async def test_an_insert_of_many_rows(db: Database) -> None:
    rows = await db.execute(insert(PEOPLE).values([{"name": "x"}, {"name": "y"}]).returning(PEOPLE))
    assert [(row["name"], row["label"]) for row in rows] == [("x", "X"), ("y", "Y")]
    assert len({row["uuid"] for row in rows}) == 2
    many = insert(PEOPLE).returning(PEOPLE.c.name, PEOPLE.c.label, PEOPLE.c.price, PEOPLE.c["full name"])
    rows = await db.execute(many, [{"name": "a", "full name": "A"}, {"name": "b", "full name": "B"}])
    assert [tuple(map(str, row.values())) for row in rows] == [("a", "A", "0.00", "A"), ("b", "B", "0.00", "B")]
    assert await db.execute(many, []) == []


async def test_many_executions_are_one_transaction(db: Database) -> None:
    with pytest.raises(Conflict, match="name"):
        await db.execute(insert(TEAMS), [{"name": "green"}, {"name": "red"}])
    with pytest.raises(TypeError, match="needs a value for name"):
        await db.execute(insert(TEAMS), [{"name": "green"}, {"size": 1}])
    assert sorted(await names(db, select(TEAMS.c.name))) == ["blue", "red"]
    moved = update(PEOPLE).where(bindparam("who") == NAMES).values(team_id=bindparam("team"))
    assert await db.execute(moved, [{"who": "Ann", "team": 2}, {"who": "Bob", "team": 2}]) == []
    assert await names(db, select(NAMES).where(PEOPLE.c.team_id == 2).order_by(NAMES)) == ["Ann", "Bob"]
    gone = delete(PEOPLE).where(bindparam("who") == NAMES).returning(NAMES)
    assert await names(db, gone, [{"who": "Ann"}, {"who": "none"}, {"who": "Bob"}]) == ["Ann", "Bob"]


async def test_an_insert_from_a_select(db: Database) -> None:
    copied = insert(PEOPLE).from_select(["name", "team_id"], select(TEAMS.c.name, TEAMS.c.id).order_by(TEAMS.c.id))
    statement = copied.returning(NAMES, PEOPLE.c["e-mail"])
    plain = insert(TEAMS).from_select(["name"], select(NAMES + "!").where(NAMES == "Ann")).returning(TEAMS)
    assert await db.execute(plain) == [{"id": 3, "name": "Ann!", "size": 3}]
    with pytest.raises(KeyError, match="name"):
        await db.execute(statement)  # A function of the row has no row here.


async def test_an_update(db: Database) -> None:
    (row,) = await db.execute(update(PEOPLE).where(NAMES == "Ann").values(name="Zoe").returning(PEOPLE))
    assert (row["name"], row["changed"]) == ("Zoe", "yes")
    (row,) = await db.execute(
        update(PEOPLE).where(bindparam("who") == NAMES).returning(PEOPLE), {"who": "Bob", "id": 9}
    )
    assert (row["id"], row["changed"]) == (9, "yes")
    size = select(func.count()).where(PEOPLE.c.team_id == TEAMS.c.id).scalar_subquery()
    assert await db.execute(update(TEAMS).values(size=size)) == []
    assert [row["size"] for row in await db.execute(select(TEAMS).order_by(TEAMS.c.id))] == [3, 0]
    joined = update(PEOPLE).where(PEOPLE.c.team_id == TEAMS.c.id).values(label=TEAMS.c.name)
    await db.execute(joined)
    assert {row["label"] for row in await db.execute(select(PEOPLE.c.label))} == {"red"}
    with pytest.raises(TypeError, match="needs a value for who"):
        await db.execute(update(PEOPLE).where(bindparam("who") == NAMES).values(name="x"))


async def test_queries_of_many_kinds(db: Database) -> None:
    first = select(NAMES).where(NAMES == "Ann")
    assert sorted(await names(db, union(first, select(TEAMS.c.name)))) == ["Ann", "blue", "red"]
    team = select(TEAMS).where(TEAMS.c.name == "red").cte("team")
    assert len(await names(db, select(NAMES).join(team, team.c.id == PEOPLE.c.team_id))) == 3
    assert await names(db, select(NAMES).order_by(NAMES.desc()).limit(1).offset(1)) == ["Bob"]
    assert await names(db, select(NAMES).where(exists().where(TEAMS.c.name == NAMES))) == []
    kind = case((NAMES == "Ann", literal("first")), else_="other").label("name")
    assert sorted(await names(db, select(kind))) == ["first", "other", "other"]
    numbers = select(literal(1).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < 3))
    assert [row["n"] for row in await db.execute(select(numbers.c.n))] == [1, 2, 3]


async def test_an_upsert(db: Database) -> None:
    dialect: Any = postgresql if db.dialect.name == "postgresql" else sqlite
    given = dialect.insert(TEAMS).values([{"name": "red", "size": 9}, {"name": "green", "size": 1}])
    stored = given.on_conflict_do_update(index_elements=["name"], set_={"size": given.excluded.size})
    assert sorted(await names(db, stored.returning(TEAMS.c.name))) == ["green", "red"]
    assert (
        await names(db, dialect.insert(TEAMS).on_conflict_do_nothing().returning(TEAMS.c.name), {"name": "red"}) == []
    )


async def test_ctes_that_write(postgres_url: str) -> None:
    database = Database(postgres_url)
    await database.open()
    await database.create_all(METADATA)
    team = insert(TEAMS).values(name="green").returning(TEAMS.c.id).cte("team")
    person = insert(PEOPLE).from_select(["name", "team_id"], select(literal("Ann"), team.c.id))
    person = person.returning(NAMES, PEOPLE.c.team_id, PEOPLE.c["e-mail"])
    with pytest.raises(KeyError, match="name"):
        await database.execute(person)
    (row,) = await database.execute(select(insert(PEOPLE).values(name="Ann", label="a").returning(PEOPLE).cte("made")))
    assert (row["name"], row["e-mail"], row["uuid"].version) == ("Ann", "none", 4)
    other = insert(TEAMS).values(name="red").returning(TEAMS.c.size).cte("other")
    changed = update(PEOPLE).values(name="Bob").returning(PEOPLE.c.changed).cte("changed")
    assert await database.execute(select(changed.c.changed, other.c.size)) == [{"changed": "yes", "size": 3}]
    with pytest.raises(TypeError, match="give the others a value"):
        await database.execute(select(team.c.id, other.c.size))
    await database.close()


async def test_a_string_in_place_of_a_statement_is_refused(db: Database) -> None:
    statement: Any = "SELECT 1"
    with pytest.raises(TypeError, match=r"goes into sqlalchemy.text\(\)"):
        await db.execute(statement)


async def test_a_broken_rule_names_the_fields(db: Database) -> None:
    with pytest.raises(Conflict, match="A record with this name already exists"):
        await db.execute(insert(TEAMS).values(name="red"))
    for statement, values in ((insert(PEOPLE), {"name": "x", "team_id": 9}), (update(PEOPLE), {"team_id": 9})):
        with pytest.raises(BadRequest, match=r"^team_id refers to a record that does not exist") as raised:
            await db.execute(statement, values)
        assert list(raised.value.errors) == ["team_id"]
    with pytest.raises(BadRequest, match="is still referred to"):
        await db.execute(delete(TEAMS))


async def test_statements_in_a_transaction(db: Database) -> None:
    async def changed() -> None:
        async with db.transaction():
            await db.execute(text("UPDATE people SET name = :name WHERE id = 1"), {"name": "Zoe"})
            await db.execute(insert(PEOPLE), [{"name": "x"}, {"name": "y"}])
            assert await names(db, text("SELECT name FROM people WHERE id = 1")) == ["Zoe"]
            assert sorted(await names(db, select(NAMES).where(NAMES.in_(["x", "y", "Bob"])))) == ["Bob", "x", "y"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await changed()
    assert sorted(await names(db, text("SELECT name FROM people"))) == ["Ann", "Bob", "Eve"]


async def test_a_value_to_store_that_no_column_takes_is_refused(db: Database) -> None:
    for statement in (insert(TEAMS), update(TEAMS)):
        with pytest.raises(TypeError, match="no parameter or column for nmae"):
            await db.execute(statement, {"nmae": "x"})
    with pytest.raises(TypeError, match="no parameter or column for size"):
        await db.execute(insert(TEAMS), [{"id": 8}, {"id": 9, "size": 4}])
    assert not await db.execute(select(TEAMS).where(TEAMS.c.id > 7))
