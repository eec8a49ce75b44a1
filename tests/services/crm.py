"""The CRM on a database of its own with the demo data, and a client that calls it over HTTP.

Users 789 and 790 belong to organization 456, user 791 to organization 457.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import httpx2
from sqlalchemy import Table, select

from apex import Apex, load_config
from apex.sql.drivers.executor import Tuples, Values
from services import contacts
from services.app import CONFIG, create_app
from services.commands.demo_data import load_demo

Answer = tuple[int, Any]

CONTACT = {
    "id", "first_name", "last_name", "email", "phone", "phone_country_code", "phone_country_iso", "organization_id",
    "created_at", "updated_at", "deleted_at", "created_by_user_id", "owned_by_user_id", "company_id",
    "channel_whatsapp_wa_id", "channel_instagram_user_id", "system_type", "avatar_url", "custom_fields_by_name",
}  # fmt: skip
"""The fields of a contact in the contract."""

OURS = {"organization_id": 456}

JANE = {"organization_id": 456, "first_name": "Jane"}
"""The smallest valid data of a contact."""

LIST = "GET /contacts?organization_id=456"
SEARCH = {"X-Service-Method": "search"}

INTERNALS = ("sqlite", "psycopg", "postgres", "SELECT", "INSERT", "UPDATE", "Traceback", "marshmallow", "orjson")


class Crm:
    """A running CRM. ``statements`` collects the SQL that it runs."""

    def __init__(self, app: Apex, http: httpx2.AsyncClient) -> None:
        self.app, self.http = app, http
        self.statements: list[str] = []
        self._collect_statements()

    async def call(self, request: str, data: Any = None, user: int | None = 789, **options: Any) -> Answer:
        """Return status and body of a user's request such as ``GET /contacts/123``."""
        response = await self.send(request, data, user, **options)
        return response.status_code, response.json()

    async def send(
        self, request: str, data: Any = None, user: int | None = 789, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx2.Response:
        verb, _, path = request.partition(" ")
        proof = {} if user is None else {"authorization": f"Bearer {self.token(user)}"}
        if data is not None:
            more["json"] = data
        return await self.http.request(verb, path, headers=proof | (headers or {}), **more)

    async def create(self, **fields: Any) -> dict[str, Any]:
        """Create a contact of organization 456 as user 789."""
        status, contact = await self.call("POST /contacts", JANE | fields)
        assert status == 201, contact
        return dict(contact)

    async def define(self, **types: str) -> None:
        """Define custom fields for the contacts of organization 456: names with types."""
        for name, kind in types.items():
            data = {"organization_id": 456, "entity": "contacts", "name": name, "type": kind}
            assert (await self.call("POST /custom-fields", data))[0] == 201

    async def search(self, term: Any, where: Any = "name", user: int | None = 789, **more: Any) -> Answer:
        data = {"searchTerm": term, "searchIn": where, "organization_id": 456} | more
        return await self.call("POST /contacts", data, user, headers=SEARCH)

    async def found(self, term: str, where: str = "name", **more: Any) -> list[str]:
        """Return the first names that a search finds, best match first."""
        status, page = await self.search(term, where, **more)
        assert status == 200, page
        return [contact["first_name"] for contact in page["data"]]

    async def rows(self, table: Table = contacts.contacts) -> list[dict[str, Any]]:
        """Return all rows of a table as they are stored, including removed ones."""
        return list(await self.app.get("database").execute(select(table).order_by(table.c.id)))

    def token(self, user: Any) -> str:
        token: str = self.app.get("defaultAuthentication").tokens.create(user)[0]
        return token

    def _collect_statements(self) -> None:
        executor = self.app.get("database").executor
        fetch = executor.fetch

        async def collected(text: str, values: Values, *how: bool, **more: Any) -> Tuples:
            if not _is_of_processes(text):
                self.statements.append(text)
            rows: Tuples = await fetch(text, values, *how, **more)
            return rows

        executor.fetch = collected


def _is_of_processes(text: str) -> bool:
    """Return True if a statement reads the log or webhooks for the process, or writes a message for other ones."""
    if "webhook_progress" in text or text.startswith("UPDATE webhooks SET due_at=NULL"):
        return True
    return "last_id" in text or (text.startswith("INSERT INTO audit") and "service" not in text)


def refused(answer: Answer, status: int, *fields: str) -> dict[str, Any]:
    """Assert that the answer is an error for Feathers clients that names the fields. Return its body."""
    code, body = answer
    assert code == body["code"] == status, body
    assert {"name", "message", "code", "className"} <= set(body) <= {
        "name", "message", "code", "className", "errors", "data",
    }  # fmt: skip
    assert not any(word in str(body) for word in INTERNALS), body
    assert set(fields) <= set(body.get("errors", ())), body
    return dict(body)


@cache
def settings() -> Mapping[str, Any]:
    """Return the configuration of tests, which is read once for all apps."""
    return load_config(CONFIG, {"APEX_ENV": "test"})


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Crm]:
    """Run the CRM on a migrated database, and load the demo data if they are missing."""
    app = create_app({**settings(), "database": url})
    await app.setup()
    try:
        await load_demo(app)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://crm") as http:
            yield Crm(app, http)
    finally:
        await app.teardown()


async def make(crm: Crm, path: str, **data: Any) -> dict[str, Any]:
    """Create a record of organization 456 over HTTP, and return it."""
    status, record = await crm.call(f"POST /{path}", OURS | data)
    assert status == 201, str(record)
    return dict(record)


async def make_deal(crm: Crm, **data: Any) -> dict[str, Any]:
    """Create a deal in a new pipeline of organization 456, and return it."""
    pipeline = await make(crm, "pipelines", name="Sales")
    stage = await make(crm, "pipeline-stages", name="Proposal", pipeline_id=pipeline["id"])
    return await make(crm, "deals", name="Big", pipeline_stage_id=stage["id"], **data)


def heard(crm: Crm, *paths: str) -> list[str]:
    """Collect the events of services."""
    events: list[str] = []
    for path in paths:
        for event in ("patched", "removed"):
            crm.app.service(path).on(event, lambda row, *_, name=f"{path} {event}": events.append(name))
    return events


async def removed(crm: Crm) -> set[tuple[str, int]]:
    """Return the records whose removal is in the audit."""
    _, page = await crm.call("GET /audit?organization_id=456&method=remove")
    return {(entry["service"], entry["record_id"]) for entry in page["data"]}
