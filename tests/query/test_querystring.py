"""Query strings: written as the clients of Feathers write them, read back by the server as they were."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import qs_codec
from hypothesis import given
from hypothesis import strategies as st

from apex.errors import BadRequest
from apex.query.querystring import parse, write

NAMES = st.text("$abé_ .&=+%-/", min_size=1, max_size=5)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, min_size=1) | st.dictionaries(NAMES, inner, min_size=1), max_leaves=12
)
QUERIES = st.dictionaries(NAMES, VALUES)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def as_text(value: Any) -> Any:
    """The value as it arrives: all leaves are strings."""
    if isinstance(value, dict):
        return {name: as_text(child) for name, child in value.items()}
    if isinstance(value, list):
        return [as_text(child) for child in value]
    return {None: "", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)


@given(QUERIES.filter(lambda query: depth(query) <= 10))
def test_the_server_reads_back_what_is_written(query: dict[str, Any]) -> None:
    assert parse(write(query)) == as_text(query)


@given(QUERIES)
def test_the_query_string_is_that_of_qs(query: dict[str, Any]) -> None:
    assert write(query) == qs_codec.encode(query)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({}, ""),
        ({"a": None, "c": True, "n": 1.5}, "a=&c=true&n=1.5"),
        ({"$sort": {"x": -1}, "$or": [{"a": 1}]}, "%24sort%5Bx%5D=-1&%24or%5B0%5D%5Ba%5D=1"),
        ({"d": datetime(1970, 1, 1, tzinfo=UTC)}, "d=1970-01-01T00%3A00%3A00.000Z"),
        ({"id": {"$in": (1, 2)}}, "id%5B%24in%5D%5B0%5D=1&id%5B%24in%5D%5B1%5D=2"),
        ({"p": Decimal("1.50"), "u": UUID(int=0)}, "p=1.50&u=00000000-0000-0000-0000-000000000000"),
        ({"t": "a b+c&d=e~é"}, "t=a%20b%2Bc%26d%3De~%C3%A9"),
    ],
)
def test_values_are_written_as_json_writes_them(query: dict[str, Any], text: str) -> None:
    assert write(query) == text


@pytest.mark.parametrize("query", [{"id": {"$in": []}}, {"id": {}}, {"$or": [{}]}, {"$select": []}])
def test_what_would_ask_for_everything_is_refused(query: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="is empty, which a query string cannot say"):
        write(query)
