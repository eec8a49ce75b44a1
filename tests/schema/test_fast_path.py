"""The fast path of validation returns what a load of marshmallow returns."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from email_validator import validate_email
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import EXCLUDE, INCLUDE, post_load, pre_load, validates, validates_schema

from apex.schema.fast_path import NOT_LOADED, fast_load
from apex.schema.fields import PLAIN_EMAIL
from apex.schema.validation import Boolean, Email, Float, Id, Schema, Text, ValidationError, fields, validate


def outcome(schema: Schema, data: Any, many: bool) -> tuple[str, Any]:
    """Return the result of a load with types and order, or its errors."""
    try:
        return "loaded", repr(schema.load(data, many=many))
    except ValidationError as error:
        return "refused", error.messages
    except (LookupError, TypeError, ValueError) as error:  # Neither marshmallow nor a hook can take everything.
        return "failed", type(error)


def long_way(schema: Schema, data: Any, **options: Any) -> Any:
    """Load as marshmallow does, after empty strings became null."""
    return super(Schema, schema).load(schema._with_nulls(data), **options)


def agree(schema: Schema, data: Any, many: bool = False) -> str:
    """Assert that both ways have the same outcome, and return it."""
    before = copy.deepcopy(data)
    short = outcome(schema, data, many)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Schema, "load", long_way)
        assert outcome(schema, copy.deepcopy(data), many) == short
    assert repr(data) == repr(before)
    return short[0]


class Place(Schema):
    street = Text(required=True, max=5)
    number = fields.Integer(load_default=1)


class Sum(fields.Field[Any]):
    """Looks at the rest of the data too."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return value, attr, len(data), kwargs


class Everything(Schema):
    id = fields.Integer(dump_only=True)
    name = Text(required=True, max=5)
    email = Email(max=70, allow_none=True)
    owner = Id(allow_none=True)
    active = Boolean()
    height = Float(validate=validate.Range(0, 3))
    role = fields.String(load_default="member", validate=validate.OneOf(["member", "admin"]))
    code = fields.String(validate=validate.Regexp(r"[a-z]+\Z"))
    tags = fields.List(fields.String(validate=validate.Length(1, 3)))
    extra = fields.Dict(keys=fields.String(), values=fields.Integer())
    born = fields.Date()
    seen = fields.DateTime()
    home = fields.Nested(Place)
    limit = fields.Raw(data_key="$limit", allow_none=True)
    inner = Sum(attribute="outer")


class Checked(Everything):
    @validates_schema
    def check_role(self, data: Any, **_: Any) -> None:
        if data.get("role") == "admin" and not data.get("active"):
            raise ValidationError("Must be active", "role")

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_extra(self, data: Any, original: Any, partial: Any, many: bool, unknown: str) -> None:
        data["told"] = many, partial, unknown
        if isinstance(original, dict) and "extra" in original and not partial:
            raise ValidationError(["Must be left out"], "extra")


class Before(Place):
    @pre_load
    def numbered(self, data: Any, **_: Any) -> Any:
        return {"number": 5, **data}


class After(Place):
    @post_load
    def tag(self, data: Any, **_: Any) -> Any:
        return {**data, "tagged": True}


class One(Place):
    @validates("street")
    def check_street(self, value: str, data_key: str) -> None:
        if value == "bad":
            raise ValidationError("Must not be bad")


class All(Place):
    @validates_schema(pass_collection=True)
    def check_all(self, data: Any, many: bool, **_: Any) -> None:
        if many and isinstance(data, list) and len(data) > 1:
            raise ValidationError("Must be alone")


class Open(Place):
    class Meta:
        unknown = INCLUDE


class Dotted(Place):
    city = fields.String(attribute="place.city")


class Twice(Schema):
    """Both read the same key."""

    one = fields.String(data_key="x")
    two = fields.String(data_key="x", load_only=True)


SCHEMAS = [
    Everything(), Everything(partial=tuple(Everything().fields)), Everything(partial=True), Everything(only=("name",)),
    Everything(exclude=("name",)), Everything(partial=("name", "home.street")), Checked(),
    Checked(partial=("name", "role")),
]  # fmt: skip
GOOD = {
    "name": "Jane", "email": "jane@example.com", "owner": 7, "active": True, "height": 1.5, "role": "admin",
    "code": "abc", "tags": ["a"], "extra": {"a": 1}, "born": "2023-01-31", "seen": "2023-01-31T10:00:00Z",
    "home": {"street": " Main"}, "$limit": None, "inner": {},
}  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [None, True, False, 0, 1, -1, 7, 2**64, 1.5, float("nan"), "", " x ", "abc", "abcdef", "a\0b", "7"]
    ),
    st.sampled_from(["member", "2023-01-31", "Jane@Example.COM", "a@b", [], ["ab"], [1], {}, {"a": 1}, {"a": "x"}]),
    st.sampled_from([{"street": "x"}, {"number": 2}, {"street": "x", "y": 1}, b"x", (), {"street": None}]),
    st.text(max_size=8),
)


@given(
    st.sampled_from(SCHEMAS), st.fixed_dictionaries({}, optional={k: st.just(v) for k, v in GOOD.items()}), st.data()
)
def test_both_ways_agree(schema: Schema, good: dict[str, Any], draw: st.DataObject) -> None:
    bad = draw.draw(st.dictionaries(st.sampled_from([*GOOD, "id", "other", "outer", "limit"]), VALUES, max_size=2))
    agree(schema, good | bad)


@pytest.mark.parametrize("schema", [*SCHEMAS, *(Everything(unknown=unknown) for unknown in (INCLUDE, EXCLUDE))])
@pytest.mark.parametrize("data", [None, 1, "x", [], [{}], {}, GOOD, {**GOOD, "x": 1}, {"name": "Jane", 1: 1}])
def test_both_ways_agree_on_what_is_unusual(schema: Schema, data: Any) -> None:
    agree(schema, data)


ROW, OTHERS = (
    {"street": "x"},
    [GOOD, {"street": "y", "number": 2}, {"street": "too long"}, {"number": 1}, {"x": 1}, None, 7],
)


@pytest.mark.parametrize("schema", [Place(), Place(many=True), Place(partial=True), All(), Open(), Checked()])
@pytest.mark.parametrize("rows", [[], [ROW], [ROW, ROW], *([ROW, other] for other in OTHERS), (ROW,), ROW, None, "x"])
@pytest.mark.parametrize("many", [True, False])
def test_both_ways_agree_on_lists(schema: Schema, rows: Any, many: bool) -> None:
    agree(schema, rows, many)


@pytest.mark.parametrize("schema", [Before(), After(), One(), Open(), Dotted(), Twice()])
@pytest.mark.parametrize("data", [ROW, {"street": "bad"}, {"street": "x", "city": "y"}, {"x": "1"}, {"x": "1", "y": 1}])
def test_both_ways_agree_where_a_schema_does_more(schema: Schema, data: Any) -> None:
    agree(schema, data)


def test_the_options_of_a_load_count() -> None:
    assert Place().load({}, partial=True) == {}
    assert Place().load({"street": "x", "y": 1}, unknown=EXCLUDE) == {"street": "x", "number": 1}
    with pytest.raises(ValidationError):
        Place(partial=True).load({}, partial=False)


def test_a_schema_that_nested_has_cut_knows_its_own_fields() -> None:
    whole = Place()
    assert whole.load(ROW) == {"street": "x", "number": 1}

    class Home(Schema):
        place = fields.Nested(whole, only=("number",))

    assert agree(Home(), {"place": {"number": 2}}) == "loaded"
    assert agree(Home(), {"place": {"street": "x"}}) == "refused"


@pytest.mark.parametrize(
    "schema", [Everything(), Everything(partial=tuple(Everything().fields)), Checked(partial=True)]
)
@pytest.mark.parametrize("data", [GOOD, {"name": "Jane"}])
def test_data_without_errors_takes_the_fast_path(schema: Schema, data: dict[str, Any]) -> None:
    assert fast_load(schema)(data, False) is not NOT_LOADED
    assert fast_load(schema)([data, data], True) is not NOT_LOADED


def test_data_with_errors_does_not_take_the_fast_path() -> None:
    for data in ({}, {"name": ""}, {"name": "Jane", "other": 1}, [], [GOOD]):
        assert fast_load(Everything())(data, False) is NOT_LOADED


NAMES = st.one_of(st.from_regex(r"[a-z0-9._+-]{1,70}", fullmatch=True), st.just("a" * 65))
DOMAINS = st.one_of(
    st.from_regex(r"[a-z0-9.-]{1,70}", fullmatch=True),
    st.sampled_from(
        ["example.com", "a.test", "local", "b.local", "onion.org", "x.onion", "xn--a.de", "a--b.de", "1.2"]
    ),
)


@given(st.builds("{}@{}".format, NAMES, DOMAINS))
def test_an_address_that_is_not_looked_at_again_is_good_as_it_is(address: str) -> None:
    if PLAIN_EMAIL.fullmatch(address):
        assert validate_email(address, check_deliverability=False).normalized == address


@pytest.mark.parametrize("address", ["jane@example.com", "j.a-n_e+1@mail.ex-ample.co.uk", "7@1.2.io"])
def test_usual_addresses_are_not_looked_at_again(address: str) -> None:
    assert PLAIN_EMAIL.fullmatch(address)


@pytest.mark.parametrize(
    "address",
    [
        f"{'a' * 65}@example.com", f"a@{'b' * 64}.de", "a@b", "a@b.test", "a@b.local", "a@x--n.de", "a@b.c", "A@b.de",
        "a@b.de\n", " a@b.de", ".a@b.de", "a..b@b.de", "a@-b.de", "a@b.1", "é@b.de", "a@bücher.de", "a@@b.de",
    ],
)  # fmt: skip
def test_others_are(address: str) -> None:
    assert not PLAIN_EMAIL.fullmatch(address)
