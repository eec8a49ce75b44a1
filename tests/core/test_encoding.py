"""The JSON that goes out, and the JSON that comes in."""

from __future__ import annotations

import math
from array import array
from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex.encoding import RawJSON, decode, encode, merge, timestamp

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)  # fmt: skip


class Text(str):
    pass


class Whole(int):
    pass


class Part(float):
    pass


class Kind(Enum):
    A = "a"


class Number(IntEnum):
    ONE = 1


class Pair(NamedTuple):
    one: int
    other: int


@dataclass
class Named:
    a: Any
    _hidden: int = 0


class Scalar:
    """A number as numpy has it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def tolist(self) -> int:
        return self.number


@given(JSON)
def test_what_is_encoded_is_decoded_to_the_same(value: Any) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2023, 1, 2, 3, 4, 5, 678901, UTC), '"2023-01-02T03:04:05.678Z"'),
        (datetime(2023, 1, 2, 3, 4, 5), '"2023-01-02T03:04:05.000Z"'),
        (datetime(2023, 1, 2, 1, 0, tzinfo=timezone(timedelta(hours=2))), '"2023-01-01T23:00:00.000Z"'),
        (datetime(1, 1, 1, tzinfo=UTC), '"0001-01-01T00:00:00.000Z"'),
        (date(2023, 1, 2), '"2023-01-02"'),
        (time(3, 4, 5), '"03:04:05"'),
        (Decimal("1.10"), '"1.10"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (math.nan, "null"),
        (math.inf, "null"),
        ({"b", "a"}, '["a","b"]'),
        ({1, "a"}, '["a",1]'),
        (Text("a"), '"a"'),
        (Whole(1), "1"),
        (Part(1.5), "1.5"),
        (Part(math.nan), "null"),
        (Kind.A, '"a"'),
        ({Text("a"): 1}, '{"a":1}'),
        ({Kind.A: 1}, '{"a":1}'),
        ({1: {2.5: 3}}, '{"1":{"2.5":3}}'),
        ({None: 1, True: 2}, '{"null":1,"true":2}'),
        ({Whole(1): 1}, '{"1":1}'),
        ({Number.ONE: 1}, '{"1":1}'),
        ({date(2023, 1, 2): 1}, '{"2023-01-02":1}'),
        ({Decimal("1.10"): 1}, '{"1.10":1}'),
        ({datetime(2023, 1, 2, tzinfo=UTC): 1}, '{"2023-01-02T00:00:00.000Z":1}'),
        ({UUID(int=1): 1}, '{"00000000-0000-0000-0000-000000000001":1}'),
        ({Scalar(7): 1}, '{"7":1}'),
        (Pair(1, 2), "[1,2]"),
        (deque([1, 2]), "[1,2]"),
        (range(2), "[0,1]"),
        ({"a": 1}.values(), "[1]"),
        (MappingProxyType({"a": {1: 2}}), '{"a":{"1":2}}'),
        (Scalar(7), "7"),
        (array("d", [1.5]), "[1.5]"),
        (Named({1: date(2023, 1, 2)}), '{"a":{"1":"2023-01-02"}}'),
        ({1: RawJSON(b'{"b": 1}')}, '{"1":{"b": 1}}'),
        ((1, 2), "[1,2]"),
        ("é\u2028", '"é\u2028"'),
    ],
)
def test_values_have_one_form(value: Any, text: str) -> None:
    assert encode(value).decode() == text
    assert encode({"in": [value]}).decode() == f'{{"in":[{text}]}}'


def test_what_has_no_form_is_refused() -> None:
    for value in (object(), 1j, 2**64, "\ud800", iter([1]), object, {(1, 2): 1}, {frozenset(): 1}, {object(): 1}):
        with pytest.raises(TypeError):
            encode({"value": value})


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (object(), "object has no JSON form (the value)"), ({"a": [1, {"b": object()}]}, "(a[1].b)"),
        ({1: object()}, "object has no JSON form (1)"), ([{2**70: 1}], "(a key of [0])"),
        ({"a": {(1, 2): 1}}, "A key of .a is a tuple, which no key of JSON can be"),
        ({"a": 2**70}, "Integer exceeds 64-bit range (a)"), ({1: 1, "1": 2}, "Two keys of the value are the same text"),
        (Named({"b": iter([1])}), "list_iterator has no JSON form (a.b)"),
    ],
)  # fmt: skip
def test_what_has_no_form_is_told_by_its_place(value: Any, sentence: str) -> None:
    with pytest.raises(TypeError) as raised:
        encode(value)
    assert sentence in str(raised.value)


def test_what_is_nested_too_deep_is_refused() -> None:
    value: Any = {1: 1}
    circle: list[Any] = [{1: 2}]
    circle.append(circle)
    for _ in range(100_000):
        value = [value]
    for deep in (value, circle, [value, {1: 2}]):
        with pytest.raises(TypeError, match="nested deeper than 250 levels"):
            encode(deep)


def test_json_of_a_database_goes_out_untouched() -> None:
    raw = RawJSON(b'{"a": 1.0}')
    assert encode(raw) == b'{"a": 1.0}'
    assert encode({"data": [raw]}) == b'{"data":[{"a": 1.0}]}'


def test_json_of_a_database_is_decoded_when_looked_at() -> None:
    assert RawJSON(b'{"a":[1]}').value == {"a": [1]}


@pytest.mark.parametrize(
    "text", [b"", b"{", b"nul", b"\xff", b'"\\ud800"', b"[1,]", b"NaN", b"[" * 2_000 + b"]" * 2_000]
)
def test_malformed_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_timestamps_sort_as_the_moments_do(moment: datetime) -> None:
    text = timestamp(moment)
    assert len(text) == 24
    assert datetime.fromisoformat(text) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def test_merging_keeps_old_keys_and_removes_null_ones() -> None:
    old = {"a": 1, "b": None, "c": {"x": 1}}
    assert merge(old, {"a": None, "c": {"y": 2}, "d": 4}) == {"b": None, "c": {"y": 2}, "d": 4}
    assert merge(None, {"a": 1, "b": None}) == {"a": 1}
    assert old == {"a": 1, "b": None, "c": {"x": 1}}
