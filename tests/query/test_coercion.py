"""Values from outside, made into the type of a column or refused with a sentence."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Boolean, Column, Date, Float, Integer, MetaData, Numeric, String, Table, Text, Uuid

from apex.query import coercion as coerce
from apex.query.coercion import LONGEST, Coerce
from apex.sql import Json, Timestamp
from apex.sql.types.registry import coercers

NOON = datetime(2023, 1, 2, 12, 0, tzinfo=UTC)
ALL = (
    coerce.integer, coerce.small_integer, coerce.number, coerce.decimal, coerce.text, coerce.boolean,
    coerce.timestamp, coerce.day, coerce.clock, coerce.seconds, coerce.binary, coerce.uuid, coerce.scalar,
)  # fmt: skip


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (coerce.integer, "42", 42),
        (coerce.integer, -(2**63), -(2**63)),
        (coerce.integer, str(2**63 - 1), 2**63 - 1),
        (coerce.small_integer, "-2147483648", -(2**31)),
        (coerce.number, "1.5", 1.5),
        (coerce.number, "-2e3", -2000.0),
        (coerce.number, 3, 3),
        (coerce.decimal, "1.10", Decimal("1.10")),
        (coerce.decimal, 0.1, Decimal("0.1")),
        (coerce.decimal, 7, Decimal(7)),
        (coerce.text, "", ""),
        (coerce.text, "é\U0001f600", "é\U0001f600"),
        (coerce.boolean, "true", True),
        (coerce.boolean, "1", True),
        (coerce.boolean, "false", False),
        (coerce.boolean, "0", False),
        (coerce.boolean, False, False),
        (coerce.timestamp, "2023-01-02T12:00:00.000Z", NOON),
        (coerce.timestamp, "2023-01-02T14:00:00.0009+02:00", NOON),
        (coerce.timestamp, "2023-01-02T12:00:00", NOON),
        (coerce.timestamp, "2023-01-02", NOON.replace(hour=0)),
        (coerce.timestamp, NOON.replace(microsecond=999), NOON),
        (coerce.day, "2023-01-02", date(2023, 1, 2)),
        (coerce.clock, "14:30:00", time(14, 30)),
        (coerce.clock, time(14, 30, fold=1), time(14, 30)),
        (coerce.seconds, "1.5", timedelta(seconds=1.5)),
        (coerce.seconds, LONGEST, LONGEST),
        (coerce.binary, "YQ==", b"a"),
        (coerce.binary, bytearray(b"a"), b"a"),
        (coerce.uuid, "00000000-0000-0000-0000-000000000001", UUID(int=1)),
        (coerce.scalar, None, None),
        (coerce.scalar, False, False),
        (coerce.scalar, 1.5, 1.5),
        (coerce.scalar, "5", "5"),
        (coerce.json, {"a": [1, None, {"b": -(2**63)}]}, {"a": [1, None, {"b": -(2**63)}]}),
        (coerce.json, 2**63 - 1, 2**63 - 1),
    ],
)
def test_values_are_taken(function: Coerce, value: Any, expected: Any) -> None:
    result = function(value)
    assert (result, type(result)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (coerce.integer, ("", "1.0", " 1", "+1", "1_0", "१", "0x1", "1\n", "9" * 20, 2**63, 1.0, True, None, [1])),
        (coerce.small_integer, (2**31, -(2**31) - 1, "2147483648", "1.5", True, None)),
        (coerce.number, ("", "abc", "nan", "inf", "1e999", "1_0", " 1", "१", math.nan, math.inf, 10**400, True, None)),
        (coerce.decimal, ("", "abc", "nan", "Infinity", "1_0", " 1", "1e9999999", math.nan, 10**5_000, True, None)),
        (coerce.text, (1, True, None, ["a"], {}, b"a", "a\0b", "\ud800")),
        (coerce.boolean, ("", "yes", "TRUE", 0, 1, None, [])),
        (coerce.timestamp, ("", "noon", "2023-13-01", 1672531200, None, "0001-01-01T00:00:00+14:00", [], True)),
        (coerce.day, ("", "2023-02-30", "2023-01-02T00:00:00", NOON, 5, None)),
        (coerce.clock, ("", "25:00", "14:30:00+01:00", 5, None)),
        (coerce.seconds, ("", "x", math.inf, 1e300, LONGEST + timedelta.resolution, -LONGEST * 1.1, True, None)),
        (coerce.binary, ("YQ", "Y Q==", "é", 5, None)),
        (coerce.uuid, ("", "abc", "0" * 31, 1, None, [])),
        (coerce.scalar, ("a\0b", math.nan, [], {}, b"a")),
        (coerce.json, ("a\0b", [["\ud800"]], {"a": {"b\0": 1}}, {"a": [{"b": "c\0"}]}, 2**63, [-(2**63) - 1])),
    ],
)
def test_values_of_another_type_are_refused(function: Coerce, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=r"^must (not )?(be|contain|hold) "):
            function(value)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(ALL), JSON)
def test_a_value_is_taken_or_is_a_value_error(function: Coerce, value: Any) -> None:
    try:
        result = function(value)
    except ValueError:
        return
    assert function(result) == result


def test_a_refusal_states_the_rule() -> None:
    with pytest.raises(ValueError, match=r"^must be an integer of at most 64 bits$"):
        coerce.integer("abc")


def test_null_from_a_url_is_null_or_nothing() -> None:
    taken = coerce.nullable(coerce.integer)
    assert [taken(value) for value in (None, "null", "", "5", 5)] == [None, None, None, 5, 5]


def test_optional_text_keeps_null_and_nothing_apart() -> None:
    taken = coerce.optional(coerce.text)
    assert [taken(value) for value in (None, "null", "")] == [None, "null", ""]


def test_null_is_taken_as_the_type_can_have_it() -> None:
    taken = [coerce.taking_null(function) for function in (coerce.text, coerce.integer, dict)]
    assert [function(value) for function, value in zip(taken, ("null", "null", {}), strict=True)] == ["null", None, {}]
    assert (taken[0](None), taken[1](None), taken[2]) == (None, None, dict)


def test_what_cannot_be_asked_for_says_what_it_holds() -> None:
    sealed = coerce.opaque(coerce.text, "a secret")
    assert [coerce.held(function) for function in (coerce.json, sealed, coerce.text)] == ["JSON", "a secret", None]
    assert all(coerce.shape(function) for function in ALL if function is not coerce.scalar)
    shapes = [coerce.shape(function) for function in (sealed, coerce.optional(coerce.integer), coerce.json)]
    assert (sealed("a"), shapes) == ("a", [{"type": "string"}, {"type": "integer"}, None])


TYPES: tuple[tuple[Any, Any, Any], ...] = (
    (Integer, "5", 5),
    (BigInteger, 2**40, 2**40),
    (Float, "1.5", 1.5),
    (Numeric, "1.5", Decimal("1.5")),
    (Text, "", ""),
    (String(3), "abc", "abc"),
    (Boolean, "true", True),
    (Timestamp, "2023-01-02T12:00:00Z", NOON),
    (Date, "2023-01-02", date(2023, 1, 2)),
    (Uuid, str(UUID(int=1)), UUID(int=1)),
    (Json, {"a": [1]}, {"a": [1]}),
)


@pytest.mark.parametrize(("kind", "value", "expected"), TYPES)
def test_a_columns_type_decides(kind: Any, value: Any, expected: Any) -> None:
    table = Table("t", MetaData(), Column("required", kind, nullable=False), Column("optional", kind))
    functions = coercers(table)
    assert functions["required"](value) == functions["optional"](value) == expected
    assert functions["optional"](None) is None


def test_a_text_column_knows_its_length() -> None:
    functions = coercers(Table("t", MetaData(), Column("name", String(3)), Column("code", String(3), nullable=False)))
    for name in ("name", "code"):
        assert [functions[name](value) for value in ("", "abc")] == ["", "abc"]
        with pytest.raises(ValueError, match="must have at most 3 characters"):
            functions[name]("abcd")


def test_an_integer_column_has_32_bits() -> None:
    functions = coercers(Table("t", MetaData(), Column("small", Integer), Column("big", BigInteger)))
    assert functions["big"](2**31) == 2**31
    with pytest.raises(ValueError, match="32 bits"):
        functions["small"](2**31)
