"""Phone numbers: calling code, digits and country of a contact fit together, whichever API changes them."""

from __future__ import annotations

from asyncio import gather
from typing import Any

import pytest

from tests.services.agentvoice.voice import SALESFORCE, call, hook
from tests.services.crm import Crm, refused
from tests.services.fixtures import SHARED

PARTS = ("phone_country_iso", "phone_country_code", "phone")
US = ("US", "+1", "2025550143")


async def parts(crm: Crm, id: int = 123) -> tuple[Any, ...]:
    """Return country, calling code and digits of a contact."""
    _, contact = await crm.call(f"GET /contacts/{id}")
    return tuple(contact[name] for name in PARTS)


async def of(crm: Crm, country: str | None, code: str | None, digits: str | None) -> int:
    """Create a contact with this number, which Salesforce knows as CRM123, and return its id."""
    contact = await crm.create(**dict(zip(PARTS, (country, code, digits), strict=True)))
    await crm.app.service("contacts").patch(contact["id"], named(contact["id"]))
    return int(contact["id"])


def named(id: int) -> dict[str, str]:
    """Return the fields with the id of a contact in another system."""
    return {**SALESFORCE, "crm_id": f"CRM{id}"}


@SHARED
@pytest.mark.parametrize("changed_by", ["webhook", "patch"])
@pytest.mark.parametrize(
    ("stored", "sent", "kept"),
    [
        (US, "+12025550143", US),
        (US, "+1 (202) 555-0143", US),
        (US, "202 555 0143", US),
        (US, "12025550143", US),
        (US, "2025550144", ("US", "+1", "2025550144")),
        (US, "+12025550144", ("US", "+1", "2025550144")),
        (US, "+14165550123", (None, "+1", "4165550123")),
        (US, "+4930123456", (None, "+49", "30123456")),
        (US, "+112", (None, "+1", "12")),
        (US, None, (None, None, None)),
        (("DE", "+49", "30123456"), "30123457", ("DE", "+49", "30123457")),
        (("DE", "+49", "30123456"), "+493012345678", ("DE", "+49", "3012345678")),
        ((None, "+49", "30123456"), "30123457", (None, "+49", "30123457")),
        ((None, None, "30123456"), "30123457", (None, None, "30123457")),
    ],
)
async def test_agentvoice_keeps_the_parts_that_still_fit(
    shared: Crm, stored: Any, sent: str | None, kept: Any, changed_by: str
) -> None:
    id = await of(shared, *stored)
    if changed_by == "webhook":
        assert (await hook(shared, crm_id=f"CRM{id}", phone=sent))[0] == 200
    else:
        _, contact = await call(shared, "GET /api/contacts/crm/lookup", params=named(id))
        assert (await call(shared, f"PATCH /api/contacts/{contact['id']}", {"phone": sent}))[0] == 200
    assert await parts(shared, id) == kept


async def test_a_country_gives_the_calling_code(crm: Crm) -> None:
    ours = {"organization_id": 456, "first_name": "Jane", "phone": "30123456", "phone_country_iso": "DE"}
    for data in (ours, ours | {"phone_country_code": None}):
        _, made = await crm.call("POST /contacts", data)
        assert await parts(crm, made["id"]) == ("DE", "+49", "30123456")
    rows = {"organization_id": 456, "rows": [{"first_name": "A", "phone_country_iso": "GB", "phone": "2079460000"}]}
    _, imported = await crm.call("POST /contacts", rows, headers={"X-Service-Method": "import"})
    assert imported["created"] == 1
    assert await parts(crm, (await crm.rows())[-1]["id"]) == ("GB", "+44", "2079460000")


@SHARED
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"phone": "2025550199"}, ("US", "+1", "2025550199")),
        ({"phone_country_iso": "CA"}, ("CA", "+1", "2025550143")),
        ({"phone_country_iso": "DE"}, ("DE", "+49", "2025550143")),
        ({"phone_country_iso": "US"}, US),
        ({"phone_country_iso": None}, (None, "+1", "2025550143")),
        ({"phone_country_code": None}, US),
        ({"phone_country_code": "+1"}, US),
        ({"phone": None}, ("US", "+1", None)),
        ({"phone_country_code": "+49", "phone_country_iso": None}, (None, "+49", "2025550143")),
        ({"last_name": "Roe"}, US),
    ],
    ids=repr,
)
async def test_achieveapex_keeps_the_parts_that_still_fit(shared: Crm, sent: Any, kept: Any) -> None:
    id = await of(shared, *US)
    status, body = await shared.call(f"PATCH /contacts/{id}", sent)
    assert (status, await parts(shared, id)) == (200, kept), body


@SHARED
@pytest.mark.parametrize(
    ("stored", "sent", "wrong"),
    [
        (US, {"phone": "12"}, "phone"),
        (US, {"phone_country_code": "+49"}, "phone_country_code"),
        (US, {"phone": "30123456", "phone_country_code": "+49"}, "phone_country_code"),
        ((None, None, "12"), {"phone_country_iso": "US"}, "phone"),
        ((None, "+49", "12"), {"phone_country_iso": "US", "phone_country_code": "+49"}, "phone_country_code"),
    ],
    ids=repr,
)
async def test_a_contact_is_checked_as_it_will_be(shared: Crm, stored: Any, sent: Any, wrong: str) -> None:
    id = await of(shared, *stored)
    body = refused(await shared.call(f"PATCH /contacts/{id}", sent), 400, wrong)
    assert (body["message"], wrong in body["errors"]) == ("Invalid contact data", True)
    assert await parts(shared, id) == stored
    if "phone" in sent:
        status, body = await hook(shared, crm_id=f"CRM{id}", phone="12")
        assert (status, body["error"].partition(":")[0]) == (400, "phone")
    imported = {"organization_id": 456, "rows": [{**named(id), "first_name": "Jane", **sent}], "upsert": "crm_id"}
    _, body = await shared.call("POST /contacts", imported, headers={"X-Service-Method": "import"})
    assert (body["refused"], wrong in body["errors"][0]["errors"]) == (1, True)
    assert await parts(shared, id) == stored


async def test_one_of_two_conflicting_patches_is_stored(crm: Crm) -> None:
    for _ in range(5):
        id = await of(crm, None, None, "2025550143")
        patches = [{"phone_country_iso": "US"}, {"phone": "12"}]
        answers = await gather(*(crm.call(f"PATCH /contacts/{id}", patch) for patch in patches))
        assert sorted(status for status, _ in answers) == [200, 400]
        assert await parts(crm, id) in (US, (None, None, "12"))
        await crm.call(f"DELETE /contacts/{id}")
