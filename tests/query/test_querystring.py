"""Query strings, read and written as qs does, which the clients and servers of Feathers use."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
import qs_codec
from hypothesis import given, settings
from hypothesis import strategies as st

from apex.encoding import encode
from apex.errors import BadRequest
from apex.query.querystring import MAX_PAIRS, parse, write

GENEROUS = qs_codec.DecodeOptions(depth=100, list_limit=1_000, parameter_limit=100_000)

SEGMENTS = st.sampled_from(["a", "b", "$in", "$or", "é", "a b", "x.y", "0", "1", "2", "19", "20", "25", "01", "-1", ""])
STRINGS = st.text(st.characters(codec="utf-8"), max_size=5) | st.sampled_from(["1", "", "null", "a&b", "[x]", "+", "%"])
KEYS = st.builds(
    lambda root, rest: root + "".join(f"[{name}]" for name in rest), SEGMENTS, st.lists(SEGMENTS, max_size=4)
)
# Lists in lists are left out: there qs_codec does not merge as qs does.
PLAIN_KEYS = KEYS.filter(lambda key: not re.search(r"\[[0-9]*\]\[[0-9]*\]", key))
PAIRS = st.lists(st.tuples(PLAIN_KEYS, STRINGS), max_size=8)

# A text in brackets is a list in JSON for $in.
LEAVES: st.SearchStrategy[Any] = st.text(st.characters(codec="utf-8", exclude_characters="\0["), max_size=5)
FIELDS = st.sampled_from(["name", "age", "$gt", "$in", "é", "a b"])
TREES = st.dictionaries(
    FIELDS,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, min_size=1, max_size=30) | st.dictionaries(FIELDS, inner, min_size=1),
        max_leaves=20,
    ),
)


def query_string(pairs: list[tuple[str, str]]) -> str:
    return "&".join(f"{quote(key)}={quote(value)}" for key, value in pairs)


@settings(max_examples=500)
@given(PAIRS)
def test_what_is_accepted_is_read_as_qs_reads_it(pairs: list[tuple[str, str]]) -> None:
    text = query_string(pairs)
    try:
        parsed = parse(text)
    except BadRequest:
        return
    assert parsed == qs_codec.decode(text, GENEROUS)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parsed = parse(text)
    except BadRequest:
        return
    assert isinstance(parsed, dict)


@given(TREES)
def test_what_a_client_writes_is_read_back(tree: dict[str, Any]) -> None:
    assert parse(qs_codec.encode(tree)) == tree


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("", {}),
        ("&&", {}),
        ("=1", {}),
        ("v", {"v": ""}),
        ("w=", {"w": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("x=null&y=true&z=1", {"x": "null", "y": "true", "z": "1"}),
        ("i=a+b%20c%26d", {"i": "a b c&d"}),
        ("p=100%&q=%zz", {"p": "100%", "q": "%zz"}),
        ("a;b=1", {"a;b": "1"}),
        ("a.b=1,2", {"a.b": "1,2"}),
        ("a[b]=1", {"a": {"b": "1"}}),
        ("a%5Bb%5D=1", {"a": {"b": "1"}}),
        ("a[]=1&a[]=2", {"a": ["1", "2"]}),
        ("a=1&a=2", {"a": ["1", "2"]}),
        ("a[0]=1&a[1]=2", {"a": ["1", "2"]}),
        ("a[]=1", {"a": ["1"]}),
        ("a[$in][]=1", {"a": {"$in": ["1"]}}),
        ("a[$in]=1", {"a": {"$in": "1"}}),
        ("a[5]=y&a[0]=x", {"a": ["x", "y"]}),
        ("a[0][b]=1&a[0][c]=2", {"a": [{"b": "1", "c": "2"}]}),
        ("a[][b]=1&a[][c]=2", {"a": [{"b": "1", "c": "2"}]}),
        ("a[0][0]=1&a[0][1]=2&a[1][]=3", {"a": [["1", "2"], ["3"]]}),
        ("a[0][0][b]=1&a[0][0][c]=2", {"a": [[{"b": "1", "c": "2"}]]}),
        ("5=x", {"5": "x"}),
        ("__proto__=1&constructor=2", {"__proto__": "1", "constructor": "2"}),
        ("$or[0][a]=1&$or[1][b]=2", {"$or": [{"a": "1"}, {"b": "2"}]}),
        ("$sort[name]=-1&$limit=10&$select[]=a", {"$sort": {"name": "-1"}, "$limit": "10", "$select": ["a"]}),
    ],
)
def test_forms(text: str, query: dict[str, Any]) -> None:
    assert parse(text) == query


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("$sort=-created, name", {"$sort": {"created": -1, "name": 1}}),
        ("$sort=-created&$sort=name", {"$sort": {"created": -1, "name": 1}}),
        ("$sort=", {"$sort": {}}),
        ("$select=a,b", {"$select": ["a", "b"]}),
        ("$select=a", {"$select": "a"}),
        ('$or=[{"a":1},{"a":null}]', {"$or": [{"a": 1}, {"a": None}]}),
        ('$and[0][$or]=[{"a":"x"}]', {"$and": [{"$or": [{"a": "x"}]}]}),
        ("id[$in]=[1,null]&id[$nin]=[2]", {"id": {"$in": [1, None], "$nin": [2]}}),
        ("a[$in]=x,y&a[$ne]=[1]&b=[1]", {"a": {"$in": "x,y", "$ne": "[1]"}, "b": "[1]"}),
    ],
)
def test_lists_and_objects_may_be_texts(text: str, query: dict[str, Any]) -> None:
    assert parse(text) == query


@pytest.mark.parametrize("text", ["$or=", "$or=a", '$and={"a":1}', "$or=[", "id[$in]=[x]", "$sort=a,-a"])
def test_a_text_that_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="Invalid query: ") as raised:
        parse(text)
    (name,) = raised.value.errors or {}
    assert name in text


@pytest.mark.parametrize("text", ["[object Object]", "{'$gt': 5}"])
def test_an_object_that_a_client_has_made_a_text_of_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match=r"'age' holds an object that is written as text: write age\[\$gt\]=5"):
        parse(f"age={quote(text)}")


@given(st.lists(st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"))))
def test_items_in_json_are_read_with_their_types(items: list[Any]) -> None:
    assert parse(f"a[$in]={quote(encode(items).decode())}") == {"a": {"$in": items}}


def test_what_feathers_rest_client_sends() -> None:
    text = (
        "a=&c=true&d=1970-01-01T00%3A00%3A00.000Z&e%5B0%5D=1&e%5B1%5D=2&g%5Bh%5D%5B%24in%5D%5B0%5D=x"
        "&i=a%20b%26c&k=%C3%A9&%24sort%5Bx%5D=-1&%24or%5B0%5D%5Ba%5D=1"
    )
    assert parse(text) == {
        "a": "", "c": "true", "d": "1970-01-01T00:00:00.000Z", "e": ["1", "2"], "g": {"h": {"$in": ["x"]}},
        "i": "a b&c", "k": "é", "$sort": {"x": "-1"}, "$or": [{"a": "1"}],
    }  # fmt: skip


def test_long_lists_stay_lists() -> None:
    many = [str(number) for number in range(5_000)]
    assert parse("&".join(f"id[$in][{place}]={value}" for place, value in enumerate(many))) == {"id": {"$in": many}}
    assert parse("&".join(f"id[$in][]={value}" for value in many)) == {"id": {"$in": many}}


@pytest.mark.parametrize("text", ["a[b=1", "a]=1", "a[[b]]=1", "[a]=1", "a[b]c=1", "a[b]]=1", "a[=1", "]=1"])
def test_malformed_brackets_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="Malformed query parameter"):
        parse(text)


@pytest.mark.parametrize(
    "text", ["a=1&a[b]=2", "a[b]=1&a=2", "a[]=1&a[b]=2", "a[0]=1&a[x]=2", "a=1&a[]=2", "a[b]=1&a[b][c]=2"]
)
def test_a_name_in_two_forms_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="use one form"):
        parse(text)


@pytest.mark.parametrize("text", ["a=%ff", "%ff=1", "a=%ed%a0%80"])
def test_what_is_not_utf_8_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="not valid UTF-8"):
        parse(text)


def test_nul_is_refused() -> None:
    for text in ("a=%00", "a%00=1", "a[%00]=1"):
        with pytest.raises(BadRequest, match="NUL"):
            parse(text)


def test_a_list_in_a_list_is_refused_unless_the_outer_one_has_numbers() -> None:
    for text in ("a[][]=1", "a[][0]=1", "a[b][][]=1"):
        with pytest.raises(BadRequest, match="'a' holds a list in a list"):
            parse(text)


def test_depth_has_a_limit() -> None:
    assert parse("a" + "[b]" * 9 + "=1")
    with pytest.raises(BadRequest, match="'a' is nested deeper than 10 levels"):
        parse("a" + "[b]" * 10 + "=1")


def test_the_number_of_parameters_has_a_limit() -> None:
    assert len(parse("&".join(f"a{number}=1" for number in range(MAX_PAIRS)))) == MAX_PAIRS
    with pytest.raises(BadRequest, match="more than 10000 parameters"):
        parse("&".join(f"a{number}=1" for number in range(MAX_PAIRS + 1)))


def test_an_index_that_is_no_number_is_a_name() -> None:
    assert parse("a[01]=x&a[-1]=y&a[1.5]=z") == {"a": {"01": "x", "-1": "y", "1.5": "z"}}


def test_a_malformed_name_is_shown_shortened() -> None:
    with pytest.raises(BadRequest) as raised:
        parse("[" * 5_000 + "=1")
    assert len(raised.value.message) < 200


@pytest.mark.parametrize("length", [1, 5_000])
def test_what_one_caller_changes_no_other_sees(length: int) -> None:
    text = f"id[$in][]={'1' * length}&id[$in][]=2&name=x"
    first = parse(text)
    first["id"]["$in"].clear()
    first["name"] = "y"
    assert parse(text) == {"id": {"$in": ["1" * length, "2"]}, "name": "x"}


def test_what_is_wrong_is_wrong_each_time() -> None:
    for _ in range(3):
        with pytest.raises(BadRequest):
            parse("a[b=1")


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
