"""The query language: what a dict becomes, and what is refused."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apex.encoding import encode
from apex.errors import BadRequest
from apex.query import coercion as coerce
from apex.query.coercion import integer, json
from apex.query.evaluation import holds, three_way
from apex.query.language import EVERYTHING, OPERATORS, PATTERNS, Compare, Junction, Query, Syntax, compared, every

FIELDS = {"name": coerce.text, "age": coerce.nullable(coerce.integer), "email": coerce.text}
SYNTAX = Syntax(FIELDS, OPERATORS | PATTERNS, {"$deep": coerce.boolean})
ANYTHING = Syntax()

KEYS = st.sampled_from([
    *FIELDS, *OPERATORS, *PATTERNS, "$limit", "$skip", "$sort", "$select", "$or", "$and", "$deep", "$foo", "nme", "$",
    "message", "errors",
]) | st.text(max_size=3)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["1", "-1", "a%", "\\", "12abc"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
QUERIES = st.dictionaries(KEYS, VALUES, max_size=5)


@given(st.sampled_from([SYNTAX, ANYTHING]), QUERIES)
def test_any_query_is_parsed_or_a_bad_request(syntax: Syntax, asked: dict[str, Any]) -> None:
    try:
        query = syntax.parse(asked)
    except BadRequest:
        return
    assert set(query) == set(asked)


@given(st.sampled_from([SYNTAX, ANYTHING]), QUERIES)
def test_a_parsed_query_is_its_own_parse(syntax: Syntax, asked: dict[str, Any]) -> None:
    try:
        query = syntax.parse(asked)
    except BadRequest:
        return
    assert syntax.parse(query) is query


@given(QUERIES)
def test_what_was_asked_parses_to_the_same(asked: dict[str, Any]) -> None:
    try:
        query = SYNTAX.parse(asked)
    except BadRequest:
        return
    again = SYNTAX.parse(dict(query))
    assert (again.where, again.limit, again.skip, again.sort) == (query.where, query.limit, query.skip, query.sort)


def test_an_empty_query_cannot_be_spoiled_for_the_next_call() -> None:
    asked: Any = Syntax().parse({}).asked
    with pytest.raises(TypeError):
        asked["$limit"] = 1
    assert Syntax().parse({}) == Query()


def test_an_empty_query_matches_everything() -> None:
    assert SYNTAX.parse({}) == Query({}, EVERYTHING)


def test_what_is_not_asked_for_is_not_there() -> None:
    query = SYNTAX.parse({"name": "Ann"})
    assert (query.limit, query.skip, query.sort, query.select) == (None, 0, (), None)
    assert (query.rank, query.paths, query.total, query.cursor) == (None, frozenset(), None, None)


def test_a_query_is_a_mapping_with_typed_values() -> None:
    query = SYNTAX.parse({"age": {"$gt": "5"}, "name": "x", "$limit": "3", "$deep": "true"})
    assert dict(query) == {"age": {"$gt": 5}, "name": "x", "$limit": 3, "$deep": True}
    assert query.where == every(Compare("age", "$gt", 5), Compare("name", "$eq", "x"))


def test_a_query_cannot_be_changed() -> None:
    query = SYNTAX.parse({"name": "x"})
    with pytest.raises(TypeError):
        query["name"] = "y"
    with pytest.raises(AttributeError):
        query.limit = 1  # type: ignore[misc]


def test_a_query_can_be_narrowed() -> None:
    query = SYNTAX.parse({"$or": [{"name": "a"}, {"name": "b"}], "$limit": 5})
    narrowed = query.narrow(Compare("age", "$eq", 1))
    assert narrowed.where == Junction("and", (Compare("age", "$eq", 1), query.where))
    assert (narrowed.limit, dict(narrowed)) == (5, dict(query))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(5, 5), ("5", 5), ("12abc", 12), (2.9, 2), (0, 0), (-1, None), ("abc", None), ("", None), (None, None),
     (True, None), ([5], None), ("9" * 30, 2**63 - 1)],
)  # fmt: skip
def test_limits_are_read_as_feathers_reads_them(limit: Any, expected: int | None) -> None:
    assert SYNTAX.parse({"$limit": limit}).limit == expected


def test_sort_and_select_keep_their_order() -> None:
    query = SYNTAX.parse({"$sort": {"name": "-1", "age": 1}, "$select": ["name", "age", "name"]})
    assert (query.sort, query.select) == ((("name", -1), ("age", 1)), ("name", "age"))


@pytest.mark.parametrize(
    ("query", "field", "near"),
    [
        ({"nmae": 1}, "nmae", "name"),
        ({"$sort": {"emial": 1}}, "emial", "email"),
        ({"$select": ["ages"]}, "ages", "age"),
        ({"$or": [{"nam": 1}]}, "nam", "name"),
        ({"$limti": 1}, "$limti", "$limit"),
        ({"limit": 1}, "limit", "$limit"),
        ({"age": {"$gte_": 1}}, "age", "$gte"),
        ({"$or": [{"$orr": 1}]}, "$orr", "$or"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(query: dict[str, Any], field: str, near: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(f"Did you mean '{near}'?")) as raised:
        SYNTAX.parse(query)
    assert list(raised.value.errors) == [field]


def test_an_unknown_operator_names_those_there_are() -> None:
    with pytest.raises(BadRequest, match=r"^Invalid query parameter \$foo$") as raised:
        Syntax(FIELDS).parse({"age": {"$foo": 1}})
    assert raised.value.errors == {"age": "Has no operator $foo: there are $gt, $gte, $in, $lt, $lte, $ne, $nin"}


def test_a_name_like_no_other_gets_none() -> None:
    with pytest.raises(BadRequest, match=r"^Unknown field 'zzz'$"):
        SYNTAX.parse({"zzz": 1})
    with pytest.raises(BadRequest, match=r"^Invalid filter value \$zzz$"):
        SYNTAX.parse({"$zzz": 1})


def test_an_error_names_the_field_and_the_rule() -> None:
    with pytest.raises(BadRequest) as raised:
        SYNTAX.parse({"age": {"$gt": "old"}})
    assert raised.value.errors == {"age": "must be an integer of at most 64 bits"}


def test_what_the_caller_wrote_does_not_shape_the_error() -> None:
    with pytest.raises(BadRequest, match=r"Invalid query parameter \$foo") as raised:
        ANYTHING.parse({"$or": [{"message": "mine", "errors": 5, "$foo": 1}]})
    assert raised.value.data == {"message": "mine", "errors": 5, "$foo": 1}
    assert encode(raised.value.to_dict())


def test_a_query_must_be_an_object() -> None:
    query: Any
    for query in ([], [1], "a=1", 5):
        with pytest.raises(BadRequest, match="The query must be an object"):
            SYNTAX.parse(query)


def test_operators_of_patterns_are_for_text() -> None:
    assert SYNTAX.parse({"name": {"$like": "a%"}}).where == Compare("name", "$like", "a%")
    with pytest.raises(BadRequest, match=r"age \$like needs a text"):
        SYNTAX.parse({"age": {"$like": "5"}})


def test_without_fields_any_name_is_taken() -> None:
    query = ANYTHING.parse({"any.thing": [1], "other": {"$in": [1, "a", None]}})
    assert query["any.thing"] == [1]


@pytest.mark.parametrize("kind", ["$or", "$and"])
def test_a_query_has_at_most_200_conditions(kind: str) -> None:
    syntax = Syntax({"age": integer})
    assert syntax.parse({kind: [{"age": number} for number in range(200)]})
    with pytest.raises(BadRequest, match="more than 200 conditions"):
        syntax.parse({kind: [{"age": number} for number in range(201)]})


@pytest.mark.parametrize("query", [{"extra": 1}, {"extra": {"$in": [[1]]}}, {"$sort": {"extra": 1}}])
def test_json_can_be_selected_but_not_asked_for(query: dict[str, Any]) -> None:
    syntax = Syntax({"extra": json})
    assert syntax.parse({"$select": ["extra"]}).select == ("extra",)
    with pytest.raises(BadRequest, match="it holds JSON"):
        syntax.parse(query)


def test_keys_of_json_have_the_types_that_are_named() -> None:
    syntax = Syntax({"extra": json}, paths={"extra": {"a.b": integer}})
    query = syntax.parse({"extra.a.b": {"$gt": "5"}, "$sort": {"extra.a.b": -1}})
    assert (query.where, query.paths) == (Compare("extra.a.b", "$gt", 5), frozenset({"extra.a.b"}))
    assert query.sort == (("extra.a.b", -1),)
    with pytest.raises(BadRequest, match=re.escape("Unknown field 'extra.a.c'. Did you mean 'extra.a.b'?")):
        syntax.parse({"extra.a.c": 1})


def test_a_query_is_plain_unless_it_asks_for_keys_of_json() -> None:
    syntax = Syntax({"extra": json, "age": integer}, paths={"extra": None})
    assert syntax.parse({"age": 5}).plain() == syntax.parse({"age": 5})
    for asked in ({"extra.a": 1}, {"$or": [{"extra.a": 1}]}, {"$sort": {"extra.a": 1}}):
        with pytest.raises(BadRequest) as raised:
            syntax.parse(asked).plain()
        assert list(raised.value.errors) == ["extra.a"]


def like(text: str, signs: list[str]) -> bool:
    """Match as ``$like`` does, one sign of the pattern after the other."""
    if not signs:
        return not text
    sign, *rest = signs
    if sign == "%":
        return any(like(text[start:], rest) for start in range(len(text) + 1))
    return bool(text) and (sign == "_" or text[0] == sign[-1]) and like(text[1:], rest)


SIGNS = st.lists(st.sampled_from(["%", "%", "_", "a", "b", ".", "\n", r"\%", r"\_", r"\\"]), max_size=7)


@given(st.text("ab.\n%_\\", max_size=6), SIGNS)
@example("aab", ["a", "%", "a", "_"])
@example("abbaab", ["%", "a", "%", "b", "%", "a", "%", "b"])
@example("bbab", ["%", "a", "%", "b", "%", "a", "%", "b"])
def test_a_pattern_is_matched_sign_by_sign(text: str, signs: list[str]) -> None:
    pattern, matches = "".join(signs), like(text, signs)
    assert holds(Compare("name", "$like", pattern), text) == matches
    assert holds(Compare("name", "$notlike", pattern), text) != matches
    assert holds(Compare("name", "$ilike", pattern.upper()), text) == matches


def test_values_of_all_types_have_one_order() -> None:
    values = [None, -1, 0.5, 2, "", "2", "a", False, True, [1], [2]]
    for (place, one), (other_place, other) in product(enumerate(values), repeat=2):
        order = three_way(one, other)
        assert order == (place > other_place) - (place < other_place), (one, other)
        signs = {"$above": order > 0, "$from": order >= 0, "$upto": order <= 0, "$below": order < 0}
        assert {sign: holds(Compare("name", sign, other), one) for sign in signs} == signs


@pytest.mark.parametrize("sign", ["$lt", "$lte", "$gt", "$gte", "$like", "$notlike", "$ilike", "$contains"])
def test_only_being_equal_holds_for_null(sign: str) -> None:
    assert not holds(Compare("name", sign, "a"), None)
    assert holds(Compare("name", "$eq", None), None)
    assert not holds(Compare("name", "$ne", "a"), None)
    assert holds(Compare("name", "$contains", "a"), "bab")


@pytest.mark.parametrize(
    ("value", "listed", "others"),
    [("a", True, ["a", "b"]), ("c", False, ["a", "b"]), (["a", "c"], True, ["a"]), (["c"], False, ["a"])],
)
def test_a_value_is_in_a_list_or_is_not(value: Any, listed: bool, others: list[str]) -> None:
    held = [holds(Compare("name", sign, others), value) for sign in ("$in", "$nin")]
    assert held == [listed, not listed]


def test_null_is_in_no_list_and_out_of_an_empty_one_alone() -> None:
    held = [holds(Compare("name", sign, others), None) for sign in ("$in", "$nin") for others in (["a"], [])]
    assert held == [False, False, False, True]


def test_the_fields_of_a_junction_are_those_of_its_parts() -> None:
    one, other = Compare("name", "$eq", "a"), Compare("age", "$gt", 1)
    assert list(compared(Junction("or", (one, every(other, one))))) == ["name", "age", "name"]
