"""Custom fields: definitions, rules for values, and lists that filter and sort by them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update

from apex import Params
from services.contacts import contact_values, contacts
from tests.services.crm import JANE, LIST, SEARCH, Crm, refused
from tests.services.fixtures import SHARED

OURS = {"organization_id": 456}
FIELD = "custom_fields_by_name"
DEFINITIONS: list[dict[str, Any]] = [
    {"name": "Size", "type": "number"},
    {"name": "Since", "type": "date"},
    {"name": "Fan", "type": "boolean"},
    {"name": "Tier", "type": "select", "options": ["gold", "silver"]},
    {"name": "a.b 'c\" d", "type": "text"},
]


async def define(crm: Crm, *definitions: dict[str, Any], entity: str = "contacts") -> None:
    for definition in definitions or DEFINITIONS:
        status, answer = await crm.call("POST /custom-fields", OURS | {"entity": entity} | definition)
        assert status == 201, answer


async def be_strict(crm: Crm) -> None:
    """Let organization 456 accept only defined fields."""
    strict = {"strict_custom_fields": True}
    await crm.app.service("organizations").patch(456, strict, {"adapter": {"private": ()}})


async def listed(crm: Crm, query: str, path: str = "contacts") -> list[int]:
    status, page = await crm.call(f"GET /{path}?organization_id=456&{query}")
    assert status == 200, page
    return [record["id"] for record in page["data"]]


async def values(crm: Crm) -> list[tuple[Any, ...]]:
    """Return the table of custom values."""
    columns = [contact_values.c[name] for name in ("record_id", "name", "number", "text")]
    rows = await crm.app.get("database").execute(select(*columns).order_by(*columns[:2]))
    return [tuple(row.values()) for row in rows]


@SHARED
@pytest.mark.parametrize(
    ("definition", "field", "sentence"),
    [
        ({"type": "select"}, "options", "Are required for type select"),
        ({"type": "text", "options": ["a"]}, "options", "Are for fields of type select alone"),
        ({"type": "select", "options": ["a", " a"]}, "options", "Must differ from each other"),
        ({"type": "text", "name": "$set"}, "name", "Must not begin with $"),
        ({"type": "money"}, "type", "Must be one of: text, number, boolean, date, select"),
    ],
)
async def test_a_wrong_definition_is_refused(
    shared: Crm, definition: dict[str, Any], field: str, sentence: str
) -> None:
    answer = await shared.call("POST /custom-fields", OURS | {"entity": "contacts", "name": "New"} | definition)
    assert refused(answer, 400, field)["errors"] == {field: sentence}


async def test_options_can_change_only_for_select_fields(crm: Crm) -> None:
    refused(await crm.call("PATCH /custom-fields/301", {"options": ["a"]}), 400, "options")
    refused(await crm.call("PATCH /custom-fields/302", {"options": ["a", "a"]}), 400, "options")
    _, changed = await crm.call("PATCH /custom-fields/302", {"options": ["Letter"]})
    assert changed["options"] == ["Letter"]
    refused(await crm.call("POST /contacts", JANE | {FIELD: {"Preferred Contact Method": "Email"}}), 400)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"Size": "5"}, "Must be a number"),
    ({"Size": True}, "Must be a number"),
    ({"Fan": 1}, "Must be true or false"),
    ({"Since": "20230131"}, "Must be a date such as 2023-01-31"),
    ({"Since": "2023-02-31"}, "Must be a date such as 2023-01-31"),
    ({"Since": 5}, "Must be a date such as 2023-01-31"),
    ({"Tier": "Gold"}, "Must be one of: gold, silver"),
    ({"Tier": 5}, "Must be one of: gold, silver"),
    ({"Industry": 5}, "Must be a string"),
    ({"Industry": "x" * 501}, "Must have at most 500 characters"),
]


async def test_a_value_of_the_wrong_type_is_refused(crm: Crm) -> None:
    await define(crm)
    before = await crm.rows()
    for value, sentence in WRONG:
        for request, base in (("POST /contacts", JANE), ("PATCH /contacts/123", {})):
            error = refused(await crm.call(request, base | {FIELD: value}), 400)
            assert error["message"] == "Invalid contact data"
            assert error["errors"] == {f"{FIELD}.{name}": sentence for name in value}
    assert await crm.rows() == before


async def test_all_wrong_values_are_named(crm: Crm) -> None:
    await define(crm)
    wrong = {"Size": "5", "Fan": "yes", "Nothing": 1, "Industry": "right"}
    error = refused(await crm.call("POST /contacts", JANE | {FIELD: wrong}), 400)
    assert set(error["errors"]) == {f"{FIELD}.{name}" for name in ("Size", "Fan")}
    await be_strict(crm)
    error = refused(await crm.call("POST /contacts", JANE | {FIELD: wrong}), 400)
    assert set(error["errors"]) == {f"{FIELD}.{name}" for name in ("Size", "Fan", "Nothing")}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"Industri": "x"}, "Is not a custom field of contacts. Did you mean 'Industry'?"),
        ({"zzz": "x"}, "Is not a custom field of contacts. Define it first in custom-fields"),
    ],
    ids=repr,
)
async def test_a_strict_organization_refuses_undefined_fields(crm: Crm, value: dict[str, Any], sentence: str) -> None:
    taken = await crm.create(**{FIELD: value})
    assert taken[FIELD] == value
    assert (await crm.call("PATCH /contacts/124", {FIELD: value}))[1][FIELD] == value
    await be_strict(crm)
    for request, base in (("POST /contacts", JANE), ("PATCH /contacts/123", {})):
        error = refused(await crm.call(request, base | {FIELD: value}), 400)
        assert error["errors"] == {f"{FIELD}.{name}": sentence for name in value}
    _, kept = await crm.call(f"PATCH /contacts/{taken['id']}", {"last_name": "Roe", FIELD: value})
    assert (kept["last_name"], kept[FIELD]) == ("Roe", value)
    assert (await crm.call("PATCH /contacts/201", {FIELD: value}, user=791))[1][FIELD] == value


async def test_undefined_fields_take_any_plain_value(crm: Crm) -> None:
    values: dict[str, Any] = {"Text": "x" * 5000, "Number": 1.5, "Yes": True, "None": None, "a.b": ""}
    assert (await crm.create(**{FIELD: values}))[FIELD] == values
    refusals: list[dict[str, Any]] = [{"List": []}, {"Object": {}}, {"Long": "x" * 5001}, {"x" * 101: 1}]
    for wrong in refusals:
        refused(await crm.call("POST /contacts", JANE | {FIELD: wrong}), 400)


async def test_a_record_has_500_fields_at_most(crm: Crm) -> None:
    full = {f"F{number}": number for number in range(500)}
    made = await crm.create(**{FIELD: full})
    refused(await crm.call("POST /contacts", JANE | {FIELD: full | {"More": 1}}), 400, FIELD)
    for more in ({"More": 1}, {"More": 1, "F1": None}):
        refused(await crm.call(f"PATCH /contacts/{made['id']}", {FIELD: more}), 400, FIELD)
    assert (await crm.call(f"PATCH /contacts/{made['id']}", {FIELD: {"F1": None, "F2": 7}}))[0] == 200
    assert (await crm.call(f"PATCH /contacts/{made['id']}", {FIELD: {"More": 1}}))[0] == 200


async def test_lists_can_filter_by_undefined_fields(crm: Crm) -> None:
    ann = (await crm.create(**{FIELD: {"Foo": "bar", "Yes": True, "Size": 12}}))["id"]
    bob = (await crm.create(**{FIELD: {"Foo": "12"}}))["id"]
    assert await listed(crm, f"{FIELD}.Foo=bar") == await listed(crm, f"{FIELD}.Yes=true") == [ann]
    assert await listed(crm, f"{FIELD}.Foo=12") == [bob]
    assert await listed(crm, f"{FIELD}.Foo[$in][]=12&{FIELD}.Foo[$in][]=bar&$sort[{FIELD}.Foo]=-1") == [ann, bob]
    assert await listed(crm, f"{FIELD}.Nothing=x") == []
    assert await listed(crm, f"{FIELD}.Size=12") == []
    query = OURS | {f"{FIELD}.Size": {"$gt": 11}}
    assert [row["id"] for row in (await crm.call("GET /contacts", {"query": query}))[1]["data"]] == [ann]


async def test_a_later_definition_keeps_stored_values(crm: Crm) -> None:
    old = await crm.create(**{FIELD: {"Age": "many", "Foo": "bar"}})
    await define(crm, {"name": "Age", "type": "number"})
    assert (await crm.call(f"GET /contacts/{old['id']}"))[1][FIELD] == old[FIELD]
    whole = {FIELD: old[FIELD] | {"Foo": "baz"}}
    assert (await crm.call(f"PATCH /contacts/{old['id']}", whole))[1][FIELD] == whole[FIELD]
    refused(await crm.call(f"PATCH /contacts/{old['id']}", {FIELD: {"Age": "more"}}), 400, f"{FIELD}.Age")
    assert await listed(crm, f"{FIELD}.Age[$gt]=0") == []
    assert old["id"] in await listed(crm, f"{FIELD}.Age[$ne]=null")
    assert (await crm.call(f"PATCH /contacts/{old['id']}", {FIELD: {"Age": 7}}))[1][FIELD]["Age"] == 7


async def test_the_definitions_are_those_of_the_records_organization_and_kind(crm: Crm) -> None:
    await define(crm, {"name": "Staff", "type": "number"}, entity="companies")
    assert (await crm.call("PATCH /contacts/201", {FIELD: {"Industry": 5}}, user=791))[0] == 200
    assert (await crm.call("PATCH /contacts/123", {FIELD: {"Staff": "five"}}))[0] == 200
    refused(await crm.call("PATCH /companies/101", {FIELD: {"Staff": "five"}}), 400)
    _, company = await crm.call("PATCH /companies/101", {FIELD: {"Staff": 5}})
    assert company[FIELD] == {"Staff": 5}
    assert await listed(crm, f"{FIELD}.Staff[$gt]=4", "companies") == [101]


async def test_null_removes_the_value_of_a_removed_field(crm: Crm) -> None:
    await crm.call("DELETE /custom-fields/301")
    _, contact = await crm.call("PATCH /contacts/123", {FIELD: {"Industry": None}})
    assert contact[FIELD] == {"Preferred Contact Method": "Email"}


async def test_a_list_asks_for_custom_fields_by_their_types(crm: Crm) -> None:
    await define(crm)
    ten = await crm.create(custom_fields_by_name={"Size": 10, "Fan": True, "Since": "2024-02-29", "a.b 'c\" d": "x"})
    nine = await crm.create(custom_fields_by_name={"Size": 9.5, "Fan": False, "Tier": "gold", "Industry": "Farming"})
    ten, nine = ten["id"], nine["id"]
    for query, found in {
        "Size[$gt]=9.5": [ten],
        "Size[$in][]=10&F.Size[$in][]=9.5": [ten, nine],
        "Size[$ne]=10": [nine],
        "Size[$nin][]=10": [nine],
        "Size=null": [123, 124],
        "Size[$ne]=null": [ten, nine],
        "Size[$gte]=9&F.Size[$lt]=10": [nine],
        "Fan=true": [ten],
        "Fan[$ne]=true": [nine],
        "Since[$lt]=2024-03-01": [ten],
        "Since[$gt]=2024-03-01": [],
        "Tier=gold&F.Fan=false": [nine],
        "Industry=Technology": [123],
        "Industry[$gt]=Farming": [123],
        "Industry[$in][]=Farming&F.Industry[$in][]=Technology": [123, nine],
        "Preferred%20Contact%20Method=Email": [123],
        "a.b%20'c%22%20d=x": [ten],
    }.items():
        assert await listed(crm, f"{FIELD}.{query.replace('F.', FIELD + '.')}") == found, query
    either = f"$or[0][{FIELD}.Size]=10&$or[1][first_name]=John"
    assert await listed(crm, either) == [123, ten]


async def test_records_without_a_value_come_last_in_both_directions(crm: Crm) -> None:
    await define(crm)
    sizes = [3, None, 1, 2, 2]
    made = [await crm.create(custom_fields_by_name={} if n is None else {"Size": n}) for n in sizes]
    three, none, one, two, other = [contact["id"] for contact in made]
    orders = {1: [one, two, other, three, 123, 124, none], -1: [three, other, two, one, none, 124, 123]}
    for direction, order in orders.items():
        for skip in range(8):
            query = f"$sort[{FIELD}.Size]={direction}&$limit=3&$skip={skip}"
            assert await listed(crm, query) == order[skip : skip + 3]
    _, page = await crm.call(f"{LIST}&$sort[{FIELD}.Size]=1&$limit=2&$skip=1")
    assert (page["total"], page["limit"], page["skip"]) == (7, 2, 1)
    by_name = await listed(crm, f"$sort[first_name]=1&$sort[{FIELD}.Size]=-1")
    assert by_name == [three, other, two, one, none, 123, 124]


async def test_totals_do_not_count_removed_records(crm: Crm) -> None:
    definition = {"organization_id": 457, "entity": "contacts", "name": "Industry", "type": "text"}
    await crm.call("POST /custom-fields", definition, user=791)
    for id in (201, 202):
        await crm.call(f"PATCH /contacts/{id}", {FIELD: {"Industry": "Technology"}}, user=791)
    await crm.call("DELETE /contacts/201", user=791)
    other = await crm.create(custom_fields_by_name={"Industry": "Technology"})
    asked = f"{FIELD}.Industry=Technology&$sort[{FIELD}.Industry]=1&$limit=1"
    _, page = await crm.call(f"{LIST}&{asked}")
    assert (page["total"], [contact["id"] for contact in page["data"]]) == (2, [123])
    _, page = await crm.call(f"{LIST}&{asked}&$skip=1&id[$ne]=123")
    assert (page["total"], page["data"]) == (1, [])
    await crm.call("DELETE /contacts/123")
    _, page = await crm.call(f"{LIST}&{asked}")
    assert (page["total"], [contact["id"] for contact in page["data"]]) == (1, [other["id"]])
    _, page = await crm.call(f"GET /contacts?organization_id=457&{asked}", user=791)
    assert (page["total"], [contact["id"] for contact in page["data"]]) == (1, [202])


async def test_another_organizations_fields_cannot_be_asked_for(crm: Crm) -> None:
    foreign = f"GET /contacts?organization_id=457&{FIELD}.Industry=x"
    crm.statements.clear()
    refused(await crm.call(foreign), 403)
    assert not any("custom_fields" in text for text in crm.statements)
    assert (await crm.call(foreign, user=791))[1]["data"] == []


async def test_triggers_copy_the_values_of_records(crm: Crm) -> None:
    """The triggers run for every statement, whether it comes from a service or not."""
    theirs = [(123, "Industry", None, "Technology"), (123, "Preferred Contact Method", None, "Email")]
    assert await values(crm) == theirs
    long = {"Long": "é" * 900, "Deep": {"a": 1}, "Null": None, "Big": 2**62, "Yes": True, "x" * 101: 1}
    await crm.app.service("contacts").service.patch(124, {FIELD: long}, Params())
    kept = [(124, "Big", 2.0**62, None), (124, "Long", None, "é" * 500), (124, "Yes", None, "true")]
    assert await values(crm) == [*theirs, *kept]
    await crm.call("DELETE /contacts/123")
    assert await values(crm) == kept
    database = crm.app.get("database")
    await database.execute(update(contacts).where(contacts.c.id == 123).values(deleted_at=None))
    await database.execute(contacts.delete().where(contacts.c.id == 124))
    assert await values(crm) == theirs


async def test_a_migration_copies_the_values_of_existing_records(demo_url: str) -> None:
    """A downgrade and an upgrade fill the tables again."""
    from apex.migrations.migrate import downgrade, upgrade
    from tests.services.crm import running

    async with running(demo_url) as crm:
        before = await values(crm)
    downgrade(demo_url, "0002")
    upgrade(demo_url)
    async with running(demo_url) as crm:
        assert await values(crm) == before != []


@SHARED
@pytest.mark.parametrize(
    ("query", "field"),
    [
        (f"$select[]={FIELD}.Industry", f"{FIELD}.Industry"),
        (f"{FIELD}=x", FIELD),
        (f"{FIELD}.=x", f"{FIELD}."),
        ("email.x=1", "email.x"),
        (f"{FIELD}.Industry[$like]=x", None),
    ],
)
async def test_a_wrong_query_for_custom_fields_is_refused(shared: Crm, query: str, field: str | None) -> None:
    refused(await shared.call(f"{LIST}&{query}"), 400, *([field] if field else []))


async def test_a_list_of_a_strict_organization_refuses_undefined_fields(crm: Crm) -> None:
    await be_strict(crm)
    error = refused(await crm.call(f"{LIST}&{FIELD}.Industri=x"), 400)
    assert error["message"] == f"Unknown field '{FIELD}.Industri'. Did you mean '{FIELD}.Industry'?"
    refused(await crm.call(f"{LIST}&$sort[{FIELD}.Nothing]=1"), 400, f"{FIELD}.Nothing")
    assert await listed(crm, f"{FIELD}.Industry=Technology") == [123]


@SHARED
async def test_a_value_of_the_wrong_type_is_named(shared: Crm) -> None:
    query = {"organization_id": 456, f"{FIELD}.Industry": {"$gt": 5}}
    refused(await shared.call("GET /contacts", {"query": query}), 400, f"{FIELD}.Industry")


@SHARED
@pytest.mark.parametrize("request_line", ["GET /contacts/123", "PATCH /contacts/123", "DELETE /contacts/123"])
async def test_only_lists_can_filter_by_custom_fields(shared: Crm, request_line: str) -> None:
    shared.statements.clear()
    data: Any = {} if request_line.startswith("PATCH") else None
    answer = await shared.call(f"{request_line}?{FIELD}.Industry=Technology", data)
    error = refused(answer, 400, f"{FIELD}.Industry")
    assert error["errors"][f"{FIELD}.Industry"] == "can be asked for and sorted by in a list alone"
    search = {"searchTerm": "john", "searchIn": "name", "$sort": {f"{FIELD}.Industry": 1}}
    refused(await shared.call("POST /contacts", OURS | search, headers=SEARCH), 400, f"{FIELD}.Industry")
    assert shared.statements == []


@SHARED
async def test_a_list_asks_for_eight_custom_fields_at_most(shared: Crm) -> None:
    query = "&".join(f"{FIELD}.F{number}=x" for number in range(9))
    error = refused(await shared.call(f"{LIST}&{query}"), 400)
    assert error["message"] == "The query asks for more than 8 keys of JSON fields"


async def test_a_strict_organization_takes_no_other_field_not_even_with_null(crm: Crm) -> None:
    await be_strict(crm)
    data = {"organization_id": 456, "first_name": "Jane", FIELD: {"Industry": None, "Nope": None}}
    error = refused(await crm.call("POST /contacts", data), 400)
    assert list(error["errors"]) == [f"{FIELD}.Nope"]
