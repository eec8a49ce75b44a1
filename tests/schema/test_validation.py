"""Schemas: what create, update and patch are given, and what is said about it."""

from __future__ import annotations

import subprocess
import sys
from enum import Enum
from typing import Any

import pytest

from apex import Apex, Context, MemoryService, Params, Schema, Service, rest, validate_data, validate_query
from apex.errors import BadRequest
from apex.query.coercion import integer, text
from apex.query.language import Query
from apex.schema.validation import Boolean, Email, Float, Text, ValidationError, fields, load, validate
from tests.support.serving import calling


class Address(Schema):
    street = Text(required=True, max=10)
    value = fields.Integer()


class Person(Schema):
    create_only = ("company",)

    id = fields.Integer(dump_only=True)
    name = Text(required=True, max=5)
    age = fields.Integer(strict=True)
    email = Email(max=50, allow_none=True)
    company = fields.Integer()
    role = fields.String(load_default="member", validate=validate.OneOf(["member", "admin"]))
    home = fields.Nested(Address)
    others = fields.List(fields.Nested(Address))
    extra = fields.Dict(keys=fields.String(), values=fields.Integer())
    active = Boolean()
    height = Float(validate=validate.Range(0, 3))
    nick = fields.String(validate=validate.Length(2, 5))
    born = fields.Date()
    seen = fields.DateTime()


class Echo(Service):
    methods = ("create", "update", "patch", "rename")
    multi = ("create",)

    async def create(self, data: Any, params: Params) -> Any:
        return data

    async def update(self, id: Any, data: Any, params: Params) -> Any:
        return data

    async def patch(self, id: Any, data: Any, params: Params) -> Any:
        return data

    async def rename(self, data: Any, params: Params) -> Any:
        return data


def people(schemas: Any = Person) -> Any:
    hooks = {"before": {"all": [validate_data(schemas, "Invalid person")]}}
    return Apex().use("people", Echo(), hooks=hooks).service("people")


async def errors_of(data: Any, method: str = "create") -> dict[str, str]:
    with pytest.raises(BadRequest) as caught:
        await people()._run(method, id=1, data=data)
    assert caught.value.message == "Invalid person"
    return dict(caught.value.errors)


async def test_data_becomes_what_the_schema_makes_of_it() -> None:
    data = {"name": " Ann ", "age": 5}
    assert await people().create(data) == {"name": "Ann", "age": 5, "role": "member"}
    assert data == {"name": " Ann ", "age": 5}


async def test_one_class_serves_create_update_and_patch() -> None:
    assert await people().update(1, {"name": "Ann"}) == {"name": "Ann", "role": "member"}
    assert await people().patch(1, {"age": 6}) == {"age": 6}
    assert await people().patch(1, {}) == {}
    for method in ("create", "update"):
        assert await errors_of({}, method) == {"name": "Is required"}


async def test_a_patch_may_not_change_what_create_has_set() -> None:
    assert (await people().create({"name": "Ann", "company": 1}))["company"] == 1
    assert await errors_of({"company": 2}, "patch") == {"company": "Can only be set on create"}


async def test_everything_that_is_wrong_is_said_at_once() -> None:
    data = {"id": 1, "name": "Annabel", "age": "x", "nmae": 1, "email": "x", "role": "king"}
    assert await errors_of(data) == {
        "id": "Is set by the server: leave it out",
        "name": "Must have at most 5 characters",
        "age": "Must be an integer",
        "nmae": "Unknown field. Did you mean 'name'?",
        "email": "Invalid email format",
        "role": "Must be one of: member, admin",
    }


@pytest.mark.parametrize(
    ("data", "path", "sentence"),
    [
        ({"home": {"steret": "x", "street": "x"}}, "home.steret", "Unknown field. Did you mean 'street'?"),
        ({"home": {}}, "home.street", "Is required"),
        ({"home": {"street": "x", "value": "x"}}, "home.value", "Must be an integer"),
        ({"home": 1}, "home", "Must be an object"),
        ({"others": [{"street": "x"}, {"street": ""}]}, "others.1.street", "Must not be empty"),
        ({"others": [{"street": "x", "steret": "x"}]}, "others.0.steret", "Unknown field. Did you mean 'street'?"),
        ({"extra": {"a": "x"}}, "extra.a", "Must be an integer"),
    ],
)
async def test_an_error_inside_an_object_is_named_by_its_path(data: Any, path: str, sentence: str) -> None:
    assert await errors_of({"name": "Ann", **data}) == {path: sentence}


async def test_an_object_inside_a_patch_must_be_whole() -> None:
    assert await people().patch(1, {"home": {"street": "x"}}) == {"home": {"street": "x"}}
    assert await errors_of({"home": {}}, "patch") == {"home.street": "Is required"}
    assert await errors_of({"others": [{"value": 1}]}, "patch") == {"others.0.street": "Is required"}


@pytest.mark.parametrize(
    ("field", "values", "sentence"),
    [
        ("active", [0, 1, 1.0, "true", [], None], "Must be true or false"),
        ("height", ["1.5", True, []], "Must be a number"),
        ("height", [float("inf")], "Must be a finite number"),
        ("height", [-1, 3.5], "Must be greater than or equal to 0 and less than or equal to 3"),
        ("nick", [5, {}], "Must be a string"),
        ("nick", ["a", "abcdef"], "Must have a length from 2 to 5"),
        ("born", ["x", 5], "Must be a date such as 2023-01-31"),
        ("seen", ["x", 5], "Must be a date and time such as 2023-01-01T00:00:00.000Z"),
        ("others", [{}, "x"], "Must be a list"),
        ("extra", [[], 5], "Must be an object"),
    ],
)
async def test_a_value_of_another_type_is_told_what_it_must_be(field: str, values: list[Any], sentence: str) -> None:
    for value in values:
        expected = "Must not be null" if value is None else sentence
        assert await errors_of({field: value}, "patch") == {field: expected}


async def test_booleans_and_numbers_stay_booleans_and_numbers() -> None:
    data = {"active": False, "height": 1, "born": "2023-01-31"}
    patched = await people().patch(1, data)
    assert (patched["active"], patched["height"], str(patched["born"])) == (False, 1.0, "2023-01-31")


async def test_a_field_may_be_called_value() -> None:
    class Setting(Schema):
        value = fields.Integer(required=True)

    with pytest.raises(BadRequest) as caught:
        load(Setting(), {"value": "x"}, "Invalid")
    assert caught.value.errors == {"value": "Must be an integer"}


async def test_each_record_of_a_list_is_checked() -> None:
    assert [row["name"] for row in await people().create([{"name": "Ann"}, {"name": "Bo"}])] == ["Ann", "Bo"]
    assert await errors_of([{"name": "Ann"}, {"name": ""}, 1]) == {
        "1.name": "Must not be empty",
        "2": "Must be an object",
    }


@pytest.mark.parametrize("data", [None, 1, "x", True])
async def test_data_must_be_an_object(data: Any) -> None:
    with pytest.raises(BadRequest, match="Invalid person: the body must be a JSON object"):
        await people().create(data)


@pytest.mark.parametrize(
    ("method", "sentence"), [("update", "You can not replace multiple instances"), ("patch", "must be an object")]
)
async def test_create_alone_takes_a_list(method: str, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        await people()._run(method, id=1, data=[{"name": "Ann"}])


async def test_a_mapping_names_a_schema_for_each_method() -> None:
    class Name(Schema):
        name = Text(required=True, max=5)

    service = people({"create": Person, "rename": Name})
    assert await service.rename({"name": "Ann"}) == {"name": "Ann"}
    assert await service.patch(1, {"whatever": 1}) == {"whatever": 1}
    with pytest.raises(BadRequest):
        await service.rename({"name": "Ann", "age": 1})


async def test_a_rule_for_the_whole_record_is_named_data() -> None:
    from marshmallow import validates_schema

    class Strict(Person):
        @validates_schema
        def no_ann(self, data: Any, **options: Any) -> None:
            if data.get("name") == "Ann":
                raise ValidationError("No Ann here")

    with pytest.raises(BadRequest) as caught:
        await people(Strict).create({"name": "Ann"})
    assert caught.value.errors == {"data": "No Ann here"}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (1, "Must be a string"),
        (None, "Must not be null"),
        ({"$ne": 1}, "Must be a string"),
        ("", "Must not be empty"),
        (" \t\n", "Must not be empty"),
        ("a\0b", "Must not contain NUL characters"),
        ("abcdef", "Must have at most 5 characters"),
    ],
)
async def test_text_is_trimmed_and_bounded(value: Any, sentence: str) -> None:
    assert await errors_of({"name": value}) == {"name": sentence}


async def test_text_is_measured_after_trimming() -> None:
    assert (await people().create({"name": "  abcde  "}))["name"] == "abcde"


@pytest.mark.parametrize("value", ["a@b.co", "a+b@b.co", "jürgen@exämple.de", None])
async def test_addresses_are_taken(value: str | None) -> None:
    assert (await people().create({"name": "Ann", "email": value}))["email"] == value


@pytest.mark.parametrize("value", ["", "a", "a@", "@b.co", "a b@b.co", "a@b", "a@b..co", "a@b.co,c@d.co", "a@b.co\n.x"])
async def test_a_text_that_is_no_address_is_refused(value: str) -> None:
    assert list(await errors_of({"name": "Ann", "email": value})) == ["email"]


async def test_errors_reach_the_client_as_a_map() -> None:
    hooks = {"before": {"create": [validate_data(Person, "Invalid person")]}}
    async with calling(Apex().configure(rest).use("people", Echo(), hooks=hooks)) as client:
        response = await client.post("/people", json={"age": 1.5})
    assert (response.status_code, response.text) == (
        400,
        '{"name":"BadRequest","message":"Invalid person","code":400,"className":"bad-request","errors":'
        '{"name":"Is required","age":"Must be an integer"}}',
    )


async def test_a_query_is_checked_before_any_work_is_done() -> None:
    seen: list[Any] = []

    def work(context: Context) -> None:
        seen.append(context.params.query)

    service = MemoryService(fields={"id": integer, "name": text})
    app = Apex().configure(rest).use("people", service, hooks={"before": {"all": [validate_query, work]}})
    async with calling(app) as client:
        refused = await client.get("/people?nmae=Ann&id[$gt]=1")
        assert (refused.status_code, refused.json()["errors"]) == (400, {"nmae": "Unknown. Did you mean 'name'?"})
        assert (await client.get("/people?id[$gt]=1")).status_code == 200
    assert [type(query) for query in seen] == [Query]
    assert seen[0]["id"] == {"$gt": 1}


def test_schemas_of_others_keep_the_words_of_marshmallow() -> None:
    code = """
import marshmallow
from marshmallow import fields, validate

known = validate.Range(1)
class Theirs(marshmallow.Schema):
    name = fields.String(required=True)
    age = fields.Integer(validate=[known, validate.OneOf([1])])
    tags = fields.List(fields.Integer(validate=validate.Length(min=3)))

def said():
    try:
        Theirs().load({"age": 0, "tags": ["x"], "more": 1})
    except marshmallow.ValidationError as error:
        return error.messages

before, texts = said(), dict(fields.Integer.default_error_messages)
import apex, apex.schema.validation, services.contacts, apex.config

class Ours(apex.schema.validation.Schema):
    age = fields.Integer(validate=known)

Ours().validate({"age": 0})
assert said() == before == {
    "name": ["Missing data for required field."], "age": ["Must be greater than or equal to 1.", "Must be one of: 1."],
    "tags": {0: ["Not a valid integer."]}, "more": ["Unknown field."],
}, said()
assert fields.Integer.default_error_messages == texts
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class Worded(fields.Integer):
    default_error_messages = {"invalid": "No number"}


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Deep(Schema):
    whole = fields.Integer(error_messages={"invalid": "Mine"})
    worded = Worded(required=True)
    listed = fields.List(fields.List(fields.Boolean(), validate=validate.Length(max=1)))
    mapped = fields.Dict(fields.String(validate=validate.Length(equal=1)), fields.Float())
    paired = fields.Tuple((fields.Date(), fields.UUID()))
    ranged = fields.Integer(validate=validate.And(validate.Range(1, min_inclusive=False), validate.OneOf([3])))
    bound = fields.Integer(validate=validate.Range(1, error="Too small"))
    member = fields.Enum(Color, by_value=True)


def test_every_field_inside_of_a_schema_has_its_sentence() -> None:
    data = {"whole": "x", "listed": [["x"], [True, True]], "mapped": {"ab": 1.5, "c": "x"}, "paired": ["x", "y"],
            "ranged": 1, "bound": 0, "member": "RED"}  # fmt: skip
    with pytest.raises(BadRequest) as raised:
        load(Deep(), data, "Invalid data")
    assert raised.value.errors == {
        "whole": "Mine", "worded": "Is required", "listed.0.0": "Must be true or false",
        "listed.1": "Must have a length of at most 1", "mapped.ab": "Must have a length of 1",
        "mapped.c": "Must be a number", "paired.0": "Must be a date such as 2023-01-31",
        "paired.1": "Must be a UUID", "ranged": "Must be greater than 1 Must be one of: 3", "bound": "Too small",
        "member": "Must be one of: red, blue",
    }  # fmt: skip


async def test_an_empty_string_means_null_where_a_schema_says_so() -> None:
    class Form(Schema):
        empty_is_null = True

        name = Text(required=True, max=5, allow_none=True)
        nick = fields.String(allow_none=True)
        age = fields.Integer(allow_none=True)
        born = fields.Date(allow_none=True, data_key="bornOn")
        role = fields.String(validate=validate.OneOf(["member"]))
        home = fields.Nested(Address, allow_none=True)
        extra = fields.Dict(allow_none=True)

    empty: Any = {"nick": "", "age": "", "bornOn": "", "home": "", "extra": {"nick": ""}}
    loaded = {"nick": None, "age": None, "born": None, "home": None, "extra": {"nick": ""}}
    assert load(Form(), {"name": "Ann", **empty}, "") == {"name": "Ann", **loaded}
    assert load(Form(), [{"name": "Ann", **empty}], "") == [{"name": "Ann", **loaded}]
    assert await people(Form).patch(1, empty) == loaded
    with pytest.raises(BadRequest) as caught:
        load(Form(), {"name": "", "role": ""}, "")
    assert caught.value.errors == {"name": "Must not be empty", "role": "Must be one of: member"}
    with pytest.raises(BadRequest):
        load(Person(), {"name": "Ann", "email": ""}, "")


async def test_a_record_that_is_sent_back_may_have_former_values_of_volatile_fields() -> None:
    class Key(Schema):
        name = Text()
        used = fields.Integer(dump_only=True)
        made = fields.Integer(dump_only=True)

    class Keys(MemoryService):
        volatile = ("used",)

    app = Apex().use("keys", Keys(), hooks={"before": {"patch": [validate_data(Key)]}})
    key = await app.service("keys").create({"name": "a", "used": 2, "made": 1})
    sent = {**key, "used": 1, "name": "b"}
    assert await app.service("keys").patch(key["id"], sent) == {**key, "name": "b"}
    for wrong in ({**key, "made": 2}, {"used": 1}):
        with pytest.raises(BadRequest):
            await app.service("keys").patch(key["id"], wrong)
