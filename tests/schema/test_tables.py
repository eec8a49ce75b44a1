"""Schemas from tables: fields, rules and errors of each column, and that what they accept is stored."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    CHAR,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Identity,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    Uuid,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator, UserDefinedType

from apex import Apex, Schema, SQLService, TableSchema, database, validate_data
from apex.errors import BadRequest
from apex.openapi import document_of
from apex.openapi.declarations import declarations
from apex.schema import EmailField, IntegerField, TextField, ValidationError, validates_schema
from apex.schema.fast_path import NOT_LOADED, fast_load
from apex.service import BoundService
from apex.sql import Fixed, Json, Timestamp


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Shouted(TypeDecorator[str]):
    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value and value.upper()


class Point(UserDefinedType[Any]):
    """A type that nobody knows."""


metadata = MetaData()
users = Table("users", metadata, Column("id", Integer, primary_key=True))
issues = Table(
    "issues",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("title", String(20), nullable=False, comment="What is wrong"),
    Column("body", Text),
    Column("status", Enum("open", "closed", name="statuses"), nullable=False, default="open"),
    Column("votes", Integer, CheckConstraint("votes >= 0"), nullable=False, server_default="0"),
    Column("price", Numeric(10, 2), CheckConstraint("price > 0")),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("changed_at", Timestamp, onupdate=lambda: None),
    Column("shout", String(20), Computed("upper(title)", persisted=True)),
    Column("deleted_at", Timestamp),
    info={"live": "deleted_at"},
)


class IssueSchema(TableSchema):
    class Meta:
        table = issues
        dump_only = ("created_at", "user_id")


def errors(schema: type[Schema], **data: Any) -> Any:
    with pytest.raises(ValidationError) as raised:
        schema().load(data)
    messages: Any = raised.value.messages
    return {name: text[0] for name, text in messages.items()}


def test_a_field_has_the_rules_of_its_column() -> None:
    loaded = IssueSchema().load({"title": " Broken ", "votes": 3, "price": "1.50", "body": None})
    assert loaded == {"title": "Broken", "votes": 3, "price": pytest.approx(1.5), "body": None}
    assert errors(IssueSchema, title="x" * 21, body="", status="new", votes=-1, price="1.555") == {
        "title": "Must have at most 20 characters",
        "body": "Must not be empty",
        "status": "Must be one of: open, closed",
        "votes": "Must be greater than or equal to 0",
        "price": "Must have at most 2 decimal places",
    }
    assert errors(IssueSchema, status=None, votes="3") == {
        "title": "Is required", "status": "Must not be null", "votes": "Must be an integer"
    }  # fmt: skip


def test_callers_cannot_write_what_the_server_writes() -> None:
    written = {"id", "user_id", "created_at", "changed_at", "shout", "deleted_at"}
    assert IssueSchema().dump_fields.keys() - IssueSchema().load_fields.keys() == written


def test_a_declared_field_takes_the_place_of_the_derived_one_and_keeps_its_place() -> None:
    class Own(IssueSchema):
        title = EmailField(max=254)
        notify = IntegerField(min=1)

    assert errors(Own, title="x", notify=0, votes=-1) == {
        "title": "Invalid email format", "notify": "Must be at least 1",
        "votes": "Must be greater than or equal to 0",
    }  # fmt: skip
    assert list(Own().fields) == [*issues.columns.keys(), "notify"]


def test_meta_chooses_columns_as_in_marshmallow() -> None:
    class Few(TableSchema):
        class Meta:
            table = issues
            fields = ("title", "votes")

    class Fewer(IssueSchema):
        class Meta:
            exclude = ("price",)

    assert list(Few().fields) == ["title", "votes"]
    assert "price" not in Fewer().fields
    assert errors(Fewer, title="x", created_at="2026-01-01") == {"created_at": "Unknown field."}


def test_a_schema_of_another_table_keeps_what_is_declared_alone() -> None:
    class Base(TableSchema):
        title = TextField(max=3)

    class First(Base):
        class Meta:
            table = issues

    class Second(First):
        class Meta:
            table = users

    assert First().fields["title"].max == 3  # type: ignore[attr-defined]
    assert list(Second().fields) == ["id", "title"]


def test_rules_across_fields_and_the_fast_path_stay() -> None:
    class Checked(IssueSchema):
        @validates_schema
        def check(self, data: Any, **_: Any) -> None:
            if data.get("status") == "closed" and not data.get("votes"):
                raise ValidationError("Needs votes", "status")

    assert errors(Checked, title="x", status="closed") == {"status": "Needs votes"}
    assert fast_load(Checked())({"title": "x", "status": "closed", "votes": 1, "price": 1}, False) is not NOT_LOADED


def test_keys_that_callers_choose_can_only_be_set_on_create() -> None:
    table = Table("countries", MetaData(), Column("code", CHAR(2), primary_key=True), Column("name", String(9)))

    CountrySchema: Any = type("CountrySchema", (TableSchema,), {"Meta": type("Meta", (), {"table": table})})
    assert CountrySchema.create_only == ("code",)
    assert CountrySchema().load({"code": "DE"}) == {"code": "DE"}
    assert errors(CountrySchema, code="D") == {"code": "Must have at least 2 characters"}


@pytest.mark.parametrize(
    "key", [Column("id", Uuid, primary_key=True, default=uuid4), Column("id", Integer, Identity(), primary_key=True)]
)
def test_keys_that_are_generated_are_read_only(key: Column[Any]) -> None:
    made: Any = type("Made", (TableSchema,), {"Meta": type("Meta", (), {"table": Table("t", MetaData(), key)})})
    assert (made.create_only, list(made().load_fields)) == ((), [])


def made_of(*columns: Any, **meta: Any) -> type[Schema]:
    table = Table("things", MetaData(), Column("id", Integer, primary_key=True), *columns)
    return type("ThingSchema", (TableSchema,), {"Meta": type("Meta", (), {"table": table, **meta})})


def test_an_unknown_type_is_refused_with_the_fix_unless_it_is_not_used() -> None:
    with pytest.raises(
        TypeError, match=r"Column 'things.at': .*Point.* is not known: .* Or declare a field 'at' in Thi"
    ):
        made_of(Column("at", Point))
    with pytest.raises(TypeError, match=r"'things.user_id' has no type yet, which ThingSchema needs: give it one"):
        made_of(Column("user_id", ForeignKey("nowhere.id")))
    assert list(made_of(Column("at", Point), exclude=("at",))().fields) == ["id"]


@pytest.mark.parametrize("option", ["fields", "exclude", "dump_only", "load_only"])
def test_a_name_that_is_no_column_is_refused(option: str) -> None:
    with pytest.raises(
        TypeError, match=rf"Meta.{option} names 'nmae', which is no field or column. Did you mean 'name'"
    ):
        made_of(Column("name", String), **{option: ("nmae",)})


def test_a_mapped_class_is_refused_with_the_fix() -> None:
    class Base(DeclarativeBase):
        pass

    class Issue(Base):
        __tablename__ = "issues"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(TypeError, match=r"must be a Table of SQLAlchemy, a mapped class has it as its __table__"):
        type("S", (TableSchema,), {"Meta": type("Meta", (), {"table": Issue})})
    made: Any = type("S", (TableSchema,), {"Meta": type("Meta", (), {"table": Issue.__table__})})
    assert list(made().fields) == ["id"]


@pytest.mark.parametrize(
    ("check", "wrong", "rule"),
    [
        ("value > 0", 0, "Must be greater than 0"),
        ("value BETWEEN 1 AND 5", 6, "Must be less than or equal to 5"),
        ("value >= 1 AND value < 5", 5, "Must be less than 5"),
        ("value > 0 OR value < -5", 0, None),
        ("NOT value BETWEEN 1 AND 5", 3, None),
        ("value % 2 = 0", 1, None),
    ],
)  # fmt: skip
def test_a_check_counts_if_it_is_clear(check: str, wrong: int, rule: str | None) -> None:
    made = made_of(Column("value", Integer), CheckConstraint(check))
    if rule is None:
        assert made().load({"value": wrong}) == {"value": wrong}
    else:
        assert errors(made, value=wrong) == {"value": rule}


def test_a_check_may_be_an_expression_or_list_texts() -> None:
    value = Column("value", Numeric(5, 2))
    assert errors(made_of(value, CheckConstraint(value > 0)), value=0) == {"value": "Must be greater than 0"}
    kind = Column("kind", String(9), CheckConstraint("kind IN ('a', 'it''s')"))
    assert errors(made_of(kind), kind="b") == {"kind": "Must be one of: a, it's"}


async def test_the_documents_have_the_rules() -> None:
    class Issues(SQLService):
        table = issues

    app = Apex().configure(database("sqlite:///unused.db"))
    app.use("issues", Issues(), hooks={"before": {"all": [validate_data(IssueSchema)]}})
    shape = document_of(app)["components"]["schemas"]["IssuesCreate"]
    assert shape["required"] == ["title"]
    assert shape["properties"] == {
        "title": {"type": "string", "minLength": 1, "maxLength": 20, "description": "What is wrong"},
        "body": {"type": ["string", "null"], "minLength": 1},
        "status": {"type": "string", "enum": ["open", "closed"]},
        "votes": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
        "price": {
            "type": ["string", "number", "null"], "minimum": 0, "maximum": 99999999.99, "exclusiveMinimum": 0,
            "pattern": r"^-?[0-9]+(\.[0-9]{1,2})?$", "examples": ["1.5"],
        },
    }  # fmt: skip
    text = declarations(app)
    assert 'status?: "open" | "closed"' in text.replace("'", '"')
    assert "price?: string | number | null" in text


things = Table(
    "things",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("small", SmallInteger),
    Column("whole", Integer, CheckConstraint("whole BETWEEN -5 AND 2000000000")),
    Column("big", BigInteger),
    Column("number", Float),
    Column("price", Numeric(8, 2)),
    Column("cost", Fixed(2)),
    Column("rate", Fixed(4, as_float=True)),
    Column("plain", Numeric(6, 1, asdecimal=False)),
    Column("name", String(5)),
    Column("code", CHAR(3)),
    Column("body", Text),
    Column("kind", String(20), CheckConstraint("kind IN ('member', 'abc')")),
    Column("yes", Boolean),
    Column("day", Date),
    Column("clock", Time),
    Column("moment", Timestamp),
    Column("zoned", DateTime(timezone=True)),
    Column("naive", DateTime),
    Column("span", Interval),
    Column("key", Uuid),
    Column("photo", LargeBinary(4)),
    Column("state", Enum("open", "closed", name="states")),
    Column("level", Enum(Level)),
    Column("size", Enum(Size)),
    Column("data", Json),
    Column("shout", Shouted),
    Column("must", Integer, nullable=False, default=1),
)


class ThingSchema(TableSchema):
    class Meta:
        table = things


TRICKY = [
    None, True, False, 0, 1, -1, 7, 32767, 32768, -32769, 2**31, 2**63, 2**64, 10**30, 1.0, 1.5, 0.005, 1.555, 1e300,
    "", " x ", "abc", "abcdef", "a\0b", "7", "null", "true", "1e5", "1e999", "nan", "999999.99", "1000000", "12.345",
    "member", "open", "low", "LOW", "SMALL", "2023-01-31", "2023-02-30", "0001-01-01", "9999-12-31", "08:30", "24:00",
    "08:30+02:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999", "2023-01-02T03:04:05.678912Z", "20230101",
    str(uuid4()), "{00000000-0000-0000-0000-000000000001}", "AAH/", "AAECAwQF", "é", "\U0001f600", [], [1, "x"], {},
    {"a": [None, 1.5]}, {"a\0": 1}, [2**70],
]  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(TRICKY),
    st.integers(),
    st.floats(-1e15, 1e15),  # PostgreSQL writes larger floats in JSON as integers.
    st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str),
    st.text(max_size=6),
    st.dates().map(str),
    st.times().map(str),
    st.datetimes(timezones=st.none() | st.timezones()).map(lambda moment: moment.isoformat()),
    st.recursive(
        st.none() | st.text(max_size=3) | st.integers(), lambda inner: st.lists(inner, max_size=2), max_leaves=4
    ),
)


@pytest.fixture
async def service(empty_url: str) -> AsyncIterator[BoundService]:
    app = Apex().configure(database(empty_url))
    app.use("things", SQLService(things), hooks={"before": {"all": [validate_data(ThingSchema)]}})
    await app.setup()
    await app.get("database").create_all(metadata)
    yield app.service("things")
    await app.teardown()


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([column.name for column in things.columns if not column.primary_key]), VALUES)
async def test_what_is_accepted_is_stored_and_all_else_is_refused(service: BoundService, name: str, value: Any) -> None:
    try:
        loaded = ThingSchema().load({name: value})
    except ValidationError:
        with pytest.raises(BadRequest) as refused:
            await service.create({name: value})
        assert list(refused.value.errors or {}) == [name]
    else:
        created = await service.create({name: value})
        stored = await service.get(created["id"])
        reads: dict[str, Any] = {"shout": str.upper, "rate": float}
        read = reads.get(name)
        expected = loaded[name] if read is None or loaded[name] is None else read(loaded[name])
        assert (created[name], stored[name]) == (expected, expected)


def test_a_schema_of_a_table_is_one_expression() -> None:
    title = TextField(max=5, required=True)
    schema = TableSchema.of(
        issues, dump_only=("user_id", "created_at"), create_only=("status",), exclude=("body",), title=title
    )
    assert (schema.__name__, schema.create_only) == ("IssuesSchema", ("status",))
    assert schema().load({"title": " Wrong "}) == {"title": "Wrong"}
    with pytest.raises(ValidationError) as raised:
        schema().load({"title": "Too long", "user_id": 1, "body": "x"})
    assert sorted(raised.value.messages) == ["body", "title", "user_id"]
    with pytest.raises(TypeError, match=r"dump_only names 'titel'.* Did you mean 'title'"):
        TableSchema.of(issues, dump_only=("titel",))
