"""The errors of the AgentVoice API, with the texts of its contract."""

from __future__ import annotations

from typing import Any

import pytest

from apex.errors import MethodNotAllowed
from apex.testing import raises
from services.commands.demo_data import KEY
from services.shared.examples import uuid_of
from tests.services.agentvoice.voice import GONE, JOHN, PROOF, SALESFORCE, call, proof_of, send
from tests.services.crm import Crm
from tests.services.fixtures import SHARED

UNPROVEN = (401, {"error": "Invalid API key or organization ID"})


@SHARED
@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ("GET /api/contacts?limit=0", "limit: Must be from 1 to 1000"),
        ("GET /api/contacts?limit=1001&offset=-1", "limit: Must be from 1 to 1000; offset: Must be 0 or more"),
        ("GET /api/contacts?limit=x", "limit: Must be an integer"),
        ("GET /api/contacts?$limit=1", "$limit: Unknown field. Did you mean 'limit'?"),
        ("GET /api/contacts?organization_id=457", "organization_id: Unknown field"),
        (f"GET {JOHN}?x=1", "x: Unknown field"),
        (f"DELETE {JOHN}?id=1", "id: Unknown field"),
        ("GET /api/contacts/crm/lookup", "crm_id: Is required; crm_source: Is required"),
        ("GET /api/contacts/crm/lookup?crm_id=1&crm_id=2", "crm_id: Must be a string; crm_source: Is required"),
    ],
)  # fmt: skip
async def test_wrong_parameters_of_a_query_are_named(shared: Crm, request_: str, sentence: str) -> None:
    assert await call(shared, request_) == (400, {"error": sentence})
    assert len(await shared.rows()) == 4


@SHARED
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({}, "first_name: Is required unless crm_id and crm_source are given"),
        (None, "The body must be a JSON object"),
        ([{"first_name": "Jane"}], "The body must be a JSON object"),
        ({"first_name": "Jane", "crm_id": "1"}, "crm_source: Must be given together with crm_id"),
        ({"first_name": "Jane", "crm_source": "zoho"}, "crm_id: Must be given together with crm_source"),
        ({"first_name": "Jane", "id": 1}, "id: Is set by the server: leave it out"),
        (
            {"first_name": "", "email": "x", "phone": "+0", "frist_name": 1},
            "email: Invalid email format; phone: Must be digits, or + with a calling code and digits; "
            "frist_name: Unknown field. Did you mean 'first_name'?; "
            "first_name: Is required unless crm_id and crm_source are given",
        ),
    ],
)
async def test_wrong_data_are_named_and_not_stored(shared: Crm, data: Any, sentence: str) -> None:
    assert await call(shared, "POST /api/contacts", data) == (400, {"error": sentence})
    assert len(await shared.rows()) == 4


@SHARED
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": KEY},
        PROOF | {"x-api-key": "apex_000000000456_" + "x" * 43},
        PROOF | {"x-api-key": "nonsense"},
        PROOF | {"x-organization-id": "456"},
        PROOF | {"x-organization-id": "nonsense"},
        PROOF | {"x-organization-id": uuid_of(457)},
    ],
)
async def test_all_failed_authentications_get_the_same_error(shared: Crm, headers: dict[str, str]) -> None:
    for request, data in (("GET /api/contacts", None), (f"DELETE {JOHN}", None), ("POST /api/webhook/crm", {})):
        assert await call(shared, request, data, headers=headers) == UNPROVEN
    bearer = {"x-organization-id": PROOF["x-organization-id"], "authorization": f"Bearer {shared.token(789)}"}
    assert await call(shared, "GET /api/contacts", headers=bearer) == UNPROVEN


async def test_contacts_of_others_are_not_found(crm: Crm) -> None:
    theirs = f"/api/contacts/{uuid_of(201)}"
    foreign = await proof_of(crm, 457, 791)
    assert (await call(crm, f"GET {theirs}", headers=foreign))[0] == 200
    for request, data in (
        (f"GET {theirs}", None),
        (f"PATCH {theirs}", {"first_name": "X"}),
        (f"DELETE {theirs}", None),
    ):
        assert await call(crm, request, data) == GONE
    await call(crm, f"PATCH {JOHN}", SALESFORCE)
    assert await call(crm, "GET /api/contacts/crm/lookup?crm_id=CRM123&crm_source=salesforce", headers=foreign) == GONE
    assert [row["first_name"] for row in (await call(crm, "GET /api/contacts", headers=foreign))[1]] == ["Otto", "Olga"]


@SHARED
@pytest.mark.parametrize("id", ["123", "x", "00000000-0000-4000-8000-000000009999"])
async def test_missing_contacts_are_not_found(shared: Crm, id: str) -> None:
    assert await call(shared, f"GET /api/contacts/{id}") == GONE


@SHARED
@pytest.mark.parametrize(
    "request_", ["PATCH /api/contacts", "DELETE /api/contacts", f"PUT {JOHN}", f"POST {JOHN}", "GET /api/webhook/crm"]
)
async def test_unknown_methods_are_refused(shared: Crm, request_: str) -> None:
    status, body = await call(shared, request_, {})
    assert (status, list(body)) == (405, ["error"])


@SHARED
async def test_a_malformed_body_gets_an_error_in_the_shape_of_the_contract(shared: Crm) -> None:
    response = await send(
        shared, "POST /api/contacts", content=b"{", headers=PROOF | {"content-type": "application/json"}
    )
    assert (response.status_code, list(response.json())) == (400, ["error"])


async def test_calls_inside_the_process_ask_contacts_instead(crm: Crm) -> None:
    with raises(MethodNotAllowed):
        await crm.app.service("api/contacts").find()


async def test_a_viewer_reads_and_does_not_write(crm: Crm) -> None:
    memberships = crm.app.service("memberships")
    (mine,) = await memberships.find({"query": {"user_id": 789}, "paginate": False})
    await memberships.patch(mine["id"], {"role": "viewer"})
    assert (await call(crm, f"GET {JOHN}"))[0] == 200
    for request, data in ((f"PATCH {JOHN}", {}), (f"DELETE {JOHN}", None), ("POST /api/contacts", {"first_name": "X"})):
        status, body = await call(crm, request, data)
        assert (status, body["error"].partition(":")[0]) == (403, "Your role in organization 456 is viewer")


async def test_an_exceeded_limit_is_reported(crm: Crm) -> None:
    await crm.app.service("organizations").patch(456, {"rate_limit": 1, "rate_window": 60})
    await call(crm, "GET /api/contacts")
    response = await send(crm, "GET /api/contacts")
    assert (response.status_code, response.json()) == (429, {"error": "Rate limit exceeded"})
    assert int(response.headers["retry-after"]) > 0
