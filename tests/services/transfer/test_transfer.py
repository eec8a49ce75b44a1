"""The methods import and export, on both databases."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from apex import Context, Params
from apex.errors import Unavailable
from services import companies, contacts, custom_fields
from services.tables import counters
from tests.services.crm import Crm, refused, running
from tests.services.fixtures import SHARED

PHONE = {"phone": "2025550143", "phone_country_iso": "US", "phone_country_code": "+1"}
CRM = {"crm_id": "SF-1", "crm_source": "salesforce"}


async def imports(crm: Crm, *rows: Any, path: str = "contacts", user: int = 789, **options: Any) -> dict[str, Any]:
    """Import rows, or the text of a file, and return the answer."""
    data = {"organization_id": 456, **({} if "text" in options else {"rows": rows}), **options}
    status, answer = await crm.call(f"POST /{path}", data, user, headers={"X-Service-Method": "import"})
    assert status == 200, answer
    return dict(answer)


async def exports(crm: Crm, organization: int = 456, path: str = "contacts", **options: Any) -> str:
    data = {"organization_id": organization, **options}
    response = await crm.send(f"POST /{path}", data, headers={"X-Service-Method": "export"})
    assert response.status_code == 200, response.text
    return str(response.text)


async def define(crm: Crm, name: str, type: str) -> None:
    data = {"organization_id": 456, "entity": "contacts", "name": name, "type": type}
    assert (await crm.call("POST /custom-fields", data))[0] == 201


def counts(answer: dict[str, Any]) -> tuple[int, ...]:
    """Return the numbers of skipped, created, updated and refused rows."""
    return tuple(answer[name] for name in ("skipped", "created", "updated", "refused"))


def errors(answer: dict[str, Any]) -> dict[int, Any]:
    """Return the errors by line."""
    return {error["line"]: error.get("errors", error["message"]) for error in answer["errors"]}


async def by_name(crm: Crm) -> dict[str, dict[str, Any]]:
    return {row["first_name"]: row for row in await crm.rows()}


async def test_rows_become_records_of_the_caller(crm: Crm) -> None:
    answer = await imports(crm, {"first_name": " Ann ", **PHONE, **CRM}, {"first_name": "Bob", "owned_by_user_id": 790})
    totals = {"rows": 2, "skipped": 0, "created": 2, "updated": 0, "refused": 0, "refused_before": 0}
    assert answer == {**totals, "errors": []}
    rows = await by_name(crm)
    ann, bob = rows["Ann"], rows["Bob"]
    assert ann.items() >= (CRM | PHONE | {"organization_id": 456, "owned_by_user_id": 789}).items()
    assert (bob["created_by_user_id"], bob["owned_by_user_id"]) == (789, 790)
    assert await crm.found("ann") == ["Ann"]


async def test_wrong_rows_are_reported_and_the_others_stored(crm: Crm) -> None:
    bad = {"first_name": "", "email": "nowhere", "phone": "1", "phone_country_iso": "US", "crm_id": "x", "nmae": 1}
    rows = [bad, {"first_name": "Good"}, {"first_name": "Far", "company_id": 201, "owned_by_user_id": 791}, 5, None]
    answer = await imports(crm, *rows)
    assert counts(answer) == (0, 1, 0, 4)
    missing = "Does not exist in this organization"
    assert errors(answer) == {
        1: {
            "first_name": "Must not be empty",
            "email": "Invalid email format",
            "crm_source": "Must be given together with crm_id",
            "phone": "Must be a phone number of US",
            "nmae": "Unknown field.",
        },
        3: {"owned_by_user_id": missing, "company_id": missing},
        4: "The row must be an object",
        5: "The row must be an object",
    }
    assert answer["errors"][0].items() >= {
        "line": 1, "name": "BadRequest", "message": "Invalid contact data", "code": 400, "className": "bad-request",
    }.items()  # fmt: skip
    assert "Good" in await by_name(crm)


async def test_a_row_that_the_database_refuses_is_refused_alone(crm: Crm) -> None:
    await imports(crm, {"first_name": "First", **CRM})
    rows = [{"first_name": f"Row {number}"} for number in range(8)]
    answer = await imports(crm, *rows[:3], {"first_name": "Second", **CRM}, *rows[3:])
    assert counts(answer) == (0, 8, 0, 1)
    assert [(error["line"], error["name"]) for error in answer["errors"]] == [(4, "Conflict")]
    assert {row["first_name"] for row in rows} < (await by_name(crm)).keys()


@pytest.mark.parametrize(
    ("upsert", "key"),
    [("email", {"email": "ann@example.com"}), ("phone", PHONE), ("crm_id", CRM)],
)
async def test_a_row_changes_the_record_with_its_key(crm: Crm, upsert: str, key: dict[str, Any]) -> None:
    await imports(crm, {"first_name": "Ann", "last_name": "Old", "custom_fields_by_name": {}, **key})
    rows = [{**key, "last_name": "New"}, {**key, "last_name": "Newest"}, {"first_name": "Keyless"}]
    assert counts(await imports(crm, *rows, upsert=upsert)) == (0, 1, 2, 0)
    assert (await by_name(crm))["Ann"]["last_name"] == "Newest"


async def test_the_second_row_with_a_key_changes_the_record_of_the_first(crm: Crm) -> None:
    rows = [{"first_name": "Ann", "email": " ann@EXAMPLE.com "}, {"email": "ann@example.com", "last_name": "Second"}]
    assert counts(await imports(crm, *rows, upsert="email")) == (0, 1, 1, 0)
    assert (await by_name(crm))["Ann"]["last_name"] == "Second"


async def test_a_key_of_several_records_is_refused(crm: Crm) -> None:
    await imports(crm, {"first_name": "Ann", "email": "a@example.com"}, {"first_name": "Bob", "email": "a@example.com"})
    answer = await imports(crm, {"first_name": "Who", "email": "a@example.com"}, upsert="email")
    ids = ", ".join(str(row["id"]) for name, row in (await by_name(crm)).items() if name in ("Ann", "Bob"))
    assert errors(answer) == {1: {"email": f"Is that of several records: {ids}"}}


async def test_a_phone_of_another_country_is_another_phone(crm: Crm) -> None:
    await imports(crm, {"first_name": "Ann", **PHONE})
    rows = [{"first_name": "Gus", "phone": PHONE["phone"], "phone_country_code": "+44"}]
    assert counts(await imports(crm, *rows, upsert="phone")) == (0, 1, 0, 0)


async def test_a_country_completes_the_key_of_a_phone_number(crm: Crm) -> None:
    await crm.create(first_name="Ann", **PHONE)
    rows = [{"first_name": country, "phone": PHONE["phone"], "phone_country_iso": country} for country in ("DE", "CA")]
    assert counts(await imports(crm, *rows, upsert="phone")) == (0, 1, 1, 0)
    assert [row["first_name"] for row in (await crm.rows())[-2:]] == ["CA", "DE"]


async def test_a_phone_is_found_where_one_side_has_no_country_code(crm: Crm) -> None:
    bare = {"phone": PHONE["phone"]}
    for stored, sent in (("Ann", PHONE), ("Bob", {"phone": "2025550188"})):
        await imports(crm, {"first_name": stored, **sent})
    rows = [{"last_name": "Ash", **bare}, {**PHONE, "phone": "2025550188", "last_name": "Birch"}]
    assert counts(await imports(crm, *rows, upsert="phone")) == (0, 0, 2, 0)
    assert [(await by_name(crm))[name]["last_name"] for name in ("Ann", "Bob")] == ["Ash", "Birch"]


async def test_records_of_others_and_removed_ones_are_not_found(crm: Crm) -> None:
    await crm.call("DELETE /contacts/123")
    rows = [{"first_name": "Olga", "email": "olga@example.org"}, {"first_name": "J", "email": "john.doe@example.com"}]
    assert counts(await imports(crm, *rows, upsert="email")) == (0, 2, 0, 0)


async def test_a_country_brings_its_calling_code(crm: Crm) -> None:
    text = "first_name,phone,phone_country_iso\nAnn,2025550143,US\nBob,(0)30 123456,DE\n"
    assert counts(await imports(crm, text=text, format="csv")) == (0, 2, 0, 0)
    rows = await by_name(crm)
    assert [rows[name]["phone_country_code"] for name in ("Ann", "Bob")] == ["+1", "+49"]
    text = "first_name,phone,phone_country_iso\nAnn,2025550143,US\n"
    assert counts(await imports(crm, text=text, format="csv", upsert="phone")) == (0, 0, 1, 0)
    assert (await by_name(crm))["Ann"]["phone_country_code"] == "+1"


async def test_a_row_names_at_most_100_wrong_fields(crm: Crm) -> None:
    answer = await imports(crm, {f"field {number}": 1 for number in range(900)})
    assert len(errors(answer)[1]) == 100


async def test_a_change_is_checked_together_with_the_stored_record(crm: Crm) -> None:
    await imports(crm, {"first_name": "Ann", "email": "ann@example.com", **PHONE}, {"first_name": "Bob"})
    rows = [{"email": "ann@example.com", "phone": "12"}, {"email": "ann@example.com", "phone": "2025550144"}]
    answer = await imports(crm, *rows, upsert="email")
    assert (counts(answer), errors(answer)) == (
        (0, 0, 1, 1),
        {1: {"phone": "Must have the length of a phone number of US"}},
    )
    assert (await by_name(crm))["Ann"].items() >= (PHONE | {"phone": "2025550144"}).items()


async def test_companies_are_found_by_their_name(crm: Crm) -> None:
    rows = [{"name": "Example Corp", "size": "10"}, {"name": "New Corp"}]
    assert counts(await imports(crm, *rows, path="companies", upsert="name")) == (0, 1, 1, 0)
    stored = {row["name"]: row["size"] for row in await crm.rows(companies.companies)}
    assert stored.items() >= {"Example Corp": "10", "New Corp": None}.items()


async def test_a_dry_run_reports_everything_and_stores_nothing(crm: Crm) -> None:
    before = await crm.rows()
    heard: list[Any] = []
    crm.app.service("contacts").on("created", lambda *event: heard.append(event))
    rows = [{"first_name": "Ann"}, {"email": "john.doe@example.com", "last_name": "New"}, {"email": "nowhere"}]
    assert counts(await imports(crm, *rows, upsert="email", dry_run=True)) == (0, 1, 1, 1)
    assert (await crm.rows(), heard) == (before, [])
    assert counts(await imports(crm, *rows, upsert="email")) == (0, 1, 1, 1)
    assert len(heard) == 1


async def test_the_same_rows_can_be_imported_again_after_others(crm: Crm) -> None:
    for name in ("Anna", "Anne", "Anna"):
        answer = await imports(crm, {"first_name": name, **CRM}, upsert="crm_id")
        assert (answer["skipped"], answer["created"] + answer["updated"]) == (0, 1)
        (stored,) = [row for row in await crm.rows() if row["crm_id"] == CRM["crm_id"]]
        assert stored["first_name"] == name


async def test_a_finished_import_leaves_nothing_behind(crm: Crm) -> None:
    for rows in ([], [{"first_name": "Ann"}, {"email": "nowhere"}], [{"first_name": "Ann"}, {"email": "nowhere"}]):
        answer = await imports(crm, *rows)
        assert (counts(answer), answer["refused_before"]) == ((0, len(rows) // 2, 0, len(rows) // 2), 0)
        assert await checkpoints(crm) == []


async def checkpoints(crm: Crm) -> list[str]:
    asked = select(counters.c.name).where(counters.c.name.like("import:%"))
    return [row["name"] for row in await crm.app.get("database").execute(asked)]


class Outage:
    """A context in which contacts with this name cannot be stored."""

    def __init__(self, crm: Crm, name: str) -> None:
        self.name, self.lasts = name, True
        crm.app.service("contacts").hooks({"before": {"create": [self.refuse]}})

    def refuse(self, context: Context) -> None:
        if self.lasts and any(row["first_name"] == self.name for row in context.items):
            raise Unavailable("Not now")


PEOPLE: list[Any] = [{"first_name": f"Person {number}"} for number in range(250)]
PEOPLE[5] = {"first_name": "Wrong", "email": "nowhere"}


async def broken_off(crm: Crm, **options: Any) -> Outage:
    """Interrupt an import of 250 rows after 200, one of which is refused."""
    outage = Outage(crm, "Person 220")
    data = {"organization_id": 456, "rows": PEOPLE, **options}
    refused(await crm.call("POST /contacts", data, headers={"X-Service-Method": "import"}), 503)
    outage.lasts = False
    return outage


async def test_an_interrupted_import_continues_where_it_ended(crm: Crm) -> None:
    before = len(await crm.rows())
    await broken_off(crm)
    answer = await imports(crm, *PEOPLE)
    assert (counts(answer), answer["refused_before"]) == ((200, 50, 0, 0), 1)
    assert (len(await crm.rows()) - before, await checkpoints(crm)) == (249, [])
    assert counts(await imports(crm, *PEOPLE)) == (0, 249, 0, 1)


async def test_other_rows_and_options_are_other_imports(crm: Crm) -> None:
    await broken_off(crm)
    others: list[dict[str, Any]] = [{"dry_run": True}, {"upsert": "email"}, {"user": 790}, {"path": "companies"}]
    for other in others:
        assert (await imports(crm, *PEOPLE, **other))["skipped"] == 0, other
    assert (await imports(crm, *PEOPLE[:249]))["skipped"] == 0
    assert counts(await imports(crm, *PEOPLE)) == (200, 50, 0, 0)


async def test_an_import_starts_over_when_asked_to_or_when_definitions_have_changed(crm: Crm) -> None:
    await broken_off(crm)
    assert counts(await imports(crm, *PEOPLE, again=True)) == (0, 249, 0, 1)
    await broken_off(crm)
    await define(crm, "Age", "number")
    assert counts(await imports(crm, *PEOPLE)) == (0, 249, 0, 1)


@pytest.mark.parametrize("batches", [1, 2])
async def test_of_runs_at_once_one_stores_each_row_and_the_others_end(crm: Crm, batches: int) -> None:
    before, rows = len(await crm.rows()), PEOPLE[6 : 6 + 100 * batches]
    call = partial(crm.call, "POST /contacts", {"organization_id": 456, "rows": rows})
    answers = await asyncio.gather(*(call(headers={"X-Service-Method": "import"}) for _ in range(3)))
    done = [answer for status, answer in answers if status == 200]
    ended = [answer for status, answer in answers if status == 409]
    assert done
    assert len(done) + len(ended) == 3
    assert all("another run of this import" in str(answer).lower() for answer in ended)
    # One that begins after another has ended is an import of its own.
    assert (len(await crm.rows()) - before, await checkpoints(crm)) == (len(done) * len(rows), [])


async def test_an_import_with_a_key_is_made_once(crm: Crm) -> None:
    before, headers = len(await crm.rows()), {"X-Service-Method": "import", "Idempotency-Key": "nightly-1"}
    rows = [*PEOPLE, {"first_name": "Ann", **CRM}, {"first_name": "Ben", **CRM}]
    data = {"organization_id": 456, "rows": rows}
    first, second = [await crm.send("POST /contacts", data, headers=headers) for _ in range(2)]
    assert (first.status_code, counts(first.json()), len(first.json()["errors"])) == (200, (0, 250, 0, 2), 2)
    assert (second.content, second.headers["idempotency-replayed"]) == (first.content, "true")
    assert len(await crm.rows()) - before == 250
    refused(await crm.call("POST /contacts", data | {"rows": []}, headers=headers), 422)


async def test_an_interrupted_import_with_an_idempotency_key_continues(crm: Crm) -> None:
    outage, headers = Outage(crm, "Person 220"), {"X-Service-Method": "import", "Idempotency-Key": "nightly-1"}
    call = partial(crm.call, "POST /contacts", headers=headers)
    data = {"organization_id": 456, "rows": PEOPLE}
    refused(await call(data), 503)
    outage.lasts = False
    status, answer = await call(data)
    assert (status, counts(answer)) == (200, (200, 50, 0, 0))
    before, headers["Idempotency-Key"] = await crm.rows(), "nightly-2"
    status, answer = await call(data | {"dry_run": True})
    assert (status, counts(answer), await crm.rows()) == (200, (0, 249, 0, 1), before)


async def test_an_import_may_be_part_of_a_transaction(crm: Crm) -> None:
    before, contacts = await crm.rows(), crm.app.service("contacts")
    rows = [*PEOPLE, {"first_name": "Ann", **CRM}, {"first_name": "Ben", **CRM}]
    data = {"organization_id": 456, "format": "json", "rows": rows, "again": False}
    inside = {"scope": {"organization_id": 456}, "loaded": True}
    for dry_run, created, stored in ((True, 251, 0), (False, 250, 250)):
        async with crm.app.get("database").transaction():
            answer = await getattr(contacts, "import")({**data, "dry_run": dry_run}, inside)
        assert (answer["created"], len(await crm.rows()) - len(before)) == (created, stored)
    with suppress(ZeroDivisionError):
        async with crm.app.get("database").transaction():
            await getattr(contacts, "import")({**data, "dry_run": False}, inside)
            raise ZeroDivisionError
    assert len(await crm.rows()) - len(before) == 250


async def test_rows_of_a_rolled_back_transaction_are_not_counted(crm: Crm) -> None:
    checkpoint = await crm.app.service("contacts").service.checkpoint(456, "broken off")
    await checkpoint.begin()
    with suppress(ZeroDivisionError):
        async with crm.app.get("database").transaction():
            await checkpoint.advance(10, 0)
            raise ZeroDivisionError
    assert (checkpoint.done, await checkpoint.begin()) == (0, 0)


CSV = """\ufefffirst_name, email,company_id,custom_fields_by_name.Age,custom_fields_by_name.Vip,id,created_at\r
Ann,ann@example.com,101,30,true,999,whenever\r
\r
"Two
Lines",nowhere,x,old,maybe,,\r
Bob,,,2.5\r
Many,,,,,,,more\r
"Open" quote,\r
"""


async def test_cells_are_read_by_the_type_of_their_column(crm: Crm) -> None:
    await define(crm, "Age", "number")
    await define(crm, "Vip", "boolean")
    answer = await imports(crm, text=CSV, format="csv")
    assert (counts(answer)[:3], sorted(errors(answer))) == ((0, 2, 0), [4, 7, 8])
    assert errors(answer)[4].items() >= {"email": "Invalid email format", "company_id": "Must be an integer"}.items()
    assert errors(answer)[7] == "There are 8 cells, but 7 columns"
    rows = await by_name(crm)
    assert rows["Ann"].items() >= {"company_id": 101, "custom_fields_by_name": {"Age": 30, "Vip": True}}.items()
    assert rows["Ann"]["id"] != 999
    assert (rows["Bob"]["email"], rows["Bob"]["custom_fields_by_name"]) == (None, {"Age": 2.5})


async def test_json_is_an_array_or_an_object_on_each_line(crm: Crm) -> None:
    array = ' [{"first_name": "Ann"}, {"first_name": "Bob"}]'
    assert counts(await imports(crm, text=array, format="json")) == (0, 2, 0, 0)
    lines = '{"first_name": "Cid"}\n\n{"first_name": \n{"first_name": "Dan"}\n'
    answer = await imports(crm, text=lines)
    assert (counts(answer), list(errors(answer))) == ((0, 2, 0, 1), [3])


@SHARED
@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"text": "first_name,emial\nAnn,a", "format": "csv"}, "emial"),
        ({"text": "email,email\na,a", "format": "csv"}, "email"),
        ({"rows": [], "text": ""}, "rows"),
        ({}, "rows"),
        ({"rows": [], "format": "csv"}, "rows"),
        ({"rows": [], "format": "xml"}, "format"),
        ({"rows": [], "upsert": "last_name"}, "upsert"),
        ({"rows": [1] * 10_001}, "rows"),
        ({"rows": [], "organization_id": None}, "organization_id"),
    ],
)
async def test_a_wrong_import_is_refused_at_once(shared: Crm, data: dict[str, Any], named: str) -> None:
    before = await shared.rows()
    answer = await shared.call(
        "POST /contacts", {"organization_id": 456} | data, headers={"X-Service-Method": "import"}
    )
    refused(answer, 400, named)
    assert await shared.rows() == before


@pytest.mark.parametrize("text", ['[{"first_name": "Ann"}, {"first', '[{"first_name": "Ann"}] more', "["])
async def test_truncated_json_is_refused_as_a_whole(crm: Crm, text: str) -> None:
    before = await crm.rows()
    data = {"organization_id": 456, "text": text}
    refused(await crm.call("POST /contacts", data, headers={"X-Service-Method": "import"}), 400)
    assert await crm.rows() == before


@pytest.mark.parametrize("method", ["import", "export"])
async def test_members_of_other_organizations_get_no_file(crm: Crm, method: str) -> None:
    data: dict[str, Any] = {"organization_id": 456} | ({"rows": []} if method == "import" else {})
    refused(await crm.call("POST /contacts", data, 791, headers={"X-Service-Method": method}), 403)


async def test_a_viewer_exports_and_does_not_import(crm: Crm) -> None:
    memberships = crm.app.service("memberships")
    (mine,) = await memberships.find({"query": {"user_id": 789, "organization_id": 456}, "paginate": False})
    await memberships.patch(mine["id"], {"role": "viewer"})
    assert len(json.loads(await exports(crm))) == 2
    data = {"organization_id": 456, "rows": []}
    refused(await crm.call("POST /contacts", data, headers={"X-Service-Method": "import"}), 403)


async def test_an_export_has_all_records_of_its_organization(crm: Crm) -> None:
    await imports(crm, *({"first_name": f"Row {number}"} for number in range(2_500)))
    await crm.call("DELETE /contacts/124")
    records = json.loads(await exports(crm))
    assert len(records) == 2_501
    assert {record["organization_id"] for record in records} == {456}
    assert [record["id"] for record in records] == sorted(record["id"] for record in records)
    assert records[0].items() >= {"id": 123, "crm_id": None, "created_at": "2023-01-01T00:00:00.000Z"}.items()


async def test_an_export_is_read_in_pages(crm: Crm) -> None:
    await imports(crm, *({"first_name": f"Row {number}"} for number in range(1_500)))
    crm.statements.clear()
    await exports(crm, format="csv")
    assert len([text for text in crm.statements if "FROM contacts" in text]) == 3


async def test_an_empty_organization_exports_an_empty_file(crm: Crm) -> None:
    for contact in (123, 124):
        await crm.call(f"DELETE /contacts/{contact}")
    assert json.loads(await exports(crm)) == []
    assert len((await exports(crm, format="csv")).splitlines()) == 1


async def test_custom_values_that_a_cell_would_change_are_in_the_last_cell(crm: Crm) -> None:
    await define(crm, "Age", "number")
    await define(crm, "Note", "text")
    await crm.app.service("contacts").service.patch(
        123,
        {"custom_fields_by_name": {"Age": 30, "Note": "", "Industry": None, "Preferred Contact Method": None}},
        Params(),
    )
    (line, _) = csv.DictReader(io.StringIO(await exports(crm, format="csv")))
    assert (line["custom_fields_by_name.Age"], line["custom_fields_by_name.Note"]) == ("30", "")
    assert json.loads(line["custom_fields_by_name"]) == {"Note": ""}


async def test_an_undefined_custom_field_is_imported_unless_the_organization_is_strict(crm: Crm) -> None:
    text = "first_name,custom_fields_by_name.Region\nAnn,North\n"
    assert counts(await imports(crm, text=text, format="csv")) == (0, 1, 0, 0)
    assert (await by_name(crm))["Ann"]["custom_fields_by_name"] == {"Region": "North"}
    await crm.app.service("organizations").patch(456, {"strict_custom_fields": True})
    ((line, wrong),) = errors(await imports(crm, text=text, format="csv")).items()
    assert (line, wrong.keys()) == (2, {"custom_fields_by_name.Region"})


# Text that a spreadsheet may mangle or run: quotes, separators, line breaks, letters beyond ASCII, formulas.
FREE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
FORMULA = st.builds("{}{}".format, st.text(st.sampled_from("=+-@'\t\r "), min_size=1, max_size=3), FREE)
TEXT = (FREE | FORMULA).filter(str.strip)
COMMAND = "=cmd|' /C calc'!A0"
VALUES = {
    "Text": TEXT | st.just(""),
    COMMAND: TEXT,
    "Number": st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9),
    "Yes": st.booleans(),
}
UNDEFINED = st.dictionaries(
    TEXT.map(str.strip).filter(lambda name: name not in VALUES),
    TEXT | st.just("") | st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9),
    max_size=3,
)
CUSTOM = st.builds(lambda defined, other: defined | other, st.fixed_dictionaries({}, optional=VALUES), UNDEFINED)
CONTACT = st.fixed_dictionaries(
    {"first_name": TEXT},
    optional={
        "last_name": TEXT,
        "email": st.sampled_from(["zoë@example.com", "a+b@example.org", "o'neil@example.com"]),
        "phone": st.from_regex(r"[0-9]{1,20}", fullmatch=True),
        "phone_country_code": st.sampled_from(["+1", "+49"]),
        "crm_source": TEXT,
        "custom_fields_by_name": CUSTOM,
    },
)
COMPANY = st.fixed_dictionaries(
    {"name": TEXT}, optional={"description": TEXT, "industry": TEXT, "size": TEXT, "custom_fields_by_name": CUSTOM}
)


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CONTACT, min_size=1, max_size=20), st.lists(COMPANY, min_size=1, max_size=5))
def test_an_export_imported_elsewhere_gives_the_same_records(
    demo_url: str, people: list[dict[str, Any]], firms: list[dict[str, Any]]
) -> None:
    people = [
        row | ({"crm_id": f"={number}"} if "crm_source" in row else {}) for number, row in enumerate(people)
    ]  # An id in another system is there once.

    async def round_trips() -> None:
        async with running(demo_url) as crm:
            for format in ("csv", "json"):
                await _round_trip(crm, format, contacts=people, companies=firms)

    asyncio.run(round_trips())


async def _round_trip(crm: Crm, format: str, **records: list[dict[str, Any]]) -> None:
    await crm.app.get("database").execute(delete(custom_fields.custom_fields))
    for organization in (456, 457):
        await _prepare(crm, organization)
    for path, rows in records.items():
        assert (await imports(crm, *rows, path=path))["created"] == len(rows)
        text = await exports(crm, path=path, format=format)
        if format == "csv":
            check_cells(text)
        answer = await imports(crm, path=path, organization_id=457, text=text, format=format)
        assert (answer["created"], answer["errors"]) == (len(rows), [])
        assert await _records(crm, path, 457) == await _records(crm, path, 456)


def check_cells(text: str) -> None:
    """Assert that no cell but a number begins like a formula."""
    for line in csv.reader(io.StringIO(text, newline="")):
        for cell in line:
            assert not cell.startswith(("=", "@", "\t", "\r")), cell
            assert not cell.startswith(("+", "-")) or float(cell) is not None


async def _prepare(crm: Crm, organization: int) -> None:
    """Create an organization of user 789 with custom fields, and without contacts and companies."""
    fields, memberships = crm.app.service("custom-fields"), crm.app.service("memberships")
    if organization not in await memberships.of_user(789):
        await memberships.create({"organization_id": organization, "user_id": 789})
    for name, kind in {"Text": "text", COMMAND: "text", "Number": "number", "Yes": "boolean"}.items():
        for entity in ("contacts", "companies"):
            field = {"organization_id": organization, "entity": entity, "name": name, "type": kind}
            await fields.create(field, {"user": {"id": 789}})
    for table in (contacts.contacts, companies.companies):
        await crm.app.get("database").execute(delete(table))


async def _records(crm: Crm, path: str, organization: int) -> list[dict[str, Any]]:
    """Return the records of an organization in their order, without the fields of the server."""
    own = {"id", "organization_id", "created_at", "updated_at"}
    records = json.loads(await exports(crm, organization, path))
    return [{name: value for name, value in record.items() if name not in own} for record in records]
