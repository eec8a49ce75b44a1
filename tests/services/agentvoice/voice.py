"""A client of the AgentVoice API, by default with the key of the demo."""

from __future__ import annotations

from typing import Any

import httpx2

from services.commands.demo_data import KEY
from services.shared.examples import uuid_of
from tests.services.crm import Answer, Crm

JOHN = f"/api/contacts/{uuid_of(123)}"
PROOF = {"x-api-key": KEY, "x-organization-id": uuid_of(456)}

CONTACT = [
    "id", "user_id", "first_name", "last_name", "email", "phone", "company", "created_at", "updated_at",
    "last_task_run", "total_tasks_run", "organization_id", "crm_id", "crm_source",
]  # fmt: skip
"""The keys of a contact, as the page lists them and in its order."""

GONE = (404, {"error": "Contact not found"})

SALESFORCE = {"crm_id": "CRM123", "crm_source": "salesforce"}


async def send(
    crm: Crm, request: str, data: Any = None, *, headers: dict[str, str] | None = None, **more: Any
) -> httpx2.Response:
    """Return the response to a request such as ``GET /api/contacts``. ``headers`` replace those of the demo's key."""
    return await crm.send(request, data, None, headers=PROOF if headers is None else headers, **more)


async def call(crm: Crm, request: str, data: Any = None, **options: Any) -> Answer:
    response = await send(crm, request, data, **options)
    return response.status_code, response.json()


async def hook(crm: Crm, *, source: Any = "salesforce", crm_id: Any = "CRM123", **data: Any) -> Answer:
    """Send an event of another system about a contact."""
    return await call(crm, "POST /api/webhook/crm", {"source": source, "data": {"crm_id": crm_id, **data}})


async def proof_of(crm: Crm, organization: int, user: int) -> dict[str, str]:
    """Return the headers of another key."""
    data = {"organization_id": organization, "user_id": user}
    made = await crm.app.service("api-keys")._run("create", data=data)
    return {"x-api-key": made.external["key"], "x-organization-id": uuid_of(organization)}
