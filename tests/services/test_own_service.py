"""A service of a developer that has the hooks of the CRM's own services."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import MetaData, Table

from apex import Apex, MemoryService
from apex.permissions import can
from apex.query.coercion import integer, optional, text, timestamp
from apex.schema.validation import Text
from services.shared.tenant import TenantSchema, TenantService, serve, tenant_hooks
from tests.services.crm import Crm, refused, running

NUMBERS = ("id", "organization_id", "created_by_user_id", "owned_by_user_id")
MOMENTS = ("created_at", "updated_at", "deleted_at")
FIELDS = (
    {name: optional(integer) for name in NUMBERS} | {name: optional(timestamp) for name in MOMENTS} | {"text": text}
)


class NoteSchema(TenantSchema):
    text = Text(required=True, max=100)


class Notes(MemoryService):
    permissions = {"viewer": can("find", "get"), "member": can("create", "update", "patch", "remove")}


@pytest.fixture
async def notes(migrated_sqlite_url: str) -> AsyncIterator[Crm]:
    async with running(migrated_sqlite_url) as crm:
        service = Notes(fields=FIELDS, start_id=1, multi=("create",), paginate={"default": 10, "max": 10})
        crm.app.use("notes", service, hooks=tenant_hooks(service, NoteSchema, "Invalid note data"))
        yield crm


async def test_it_stamps_owns_and_pages(notes: Crm) -> None:
    status, note = await notes.call("POST /notes", {"organization_id": 456, "text": " Hello "})
    assert (status, note["text"], note["owned_by_user_id"], note["deleted_at"]) == (201, "Hello", 789, None)
    _, page = await notes.call("GET /notes?organization_id=456")
    assert page == {"total": 1, "limit": 10, "skip": 0, "data": [note]}


async def test_it_keeps_organizations_apart(notes: Crm) -> None:
    await notes.call("POST /notes", {"organization_id": 456, "text": "Ours"})
    refused(await notes.call("GET /notes/1", user=791), 403)
    refused(await notes.call("DELETE /notes/1", user=791), 403)
    refused(await notes.call("GET /notes?organization_id=456", user=791), 403)
    refused(await notes.call("GET /notes/1", user=None), 401)
    assert (await notes.call("GET /notes/1", user=790))[0] == 200


async def test_it_takes_many_at_once_where_it_says_so(notes: Crm) -> None:
    rows = [{"organization_id": 456, "text": text} for text in ("one", "two")]
    status, created = await notes.call("POST /notes", rows)
    assert (status, [note["text"] for note in created]) == (201, ["one", "two"])
    assert {note["created_by_user_id"] for note in created} == {789}
    error = refused(await notes.call("POST /notes", [rows[0], {"organization_id": 456, "text": ""}]), 400)
    assert error["errors"] == {"1.text": "Must not be empty"}
    refused(await notes.call("POST /notes", [rows[0], rows[0] | {"organization_id": 457}]), 400, "organization_id")
    refused(await notes.call("POST /notes", [rows[0] | {"owned_by_user_id": 791}]), 400, "0.owned_by_user_id")
    assert (await notes.call("GET /notes?organization_id=456"))[1]["total"] == 2


async def test_removed_records_stay_in_the_table(notes: Crm) -> None:
    await notes.call("POST /notes", {"organization_id": 456, "text": "Gone"})
    assert (await notes.call("DELETE /notes/1"))[1]["deleted_at"]
    refused(await notes.call("GET /notes/1"), 404)
    assert notes.app.service("notes").service.store[1]["text"] == "Gone"


def test_hooks_of_create_need_a_transaction() -> None:
    class Plates(TenantService):
        table, schema, noun = Table("plates", MetaData()), NoteSchema, "plate"

    for more in ({"hooks": {"after": {"create": [print]}}}, {"locks": {"create": [print]}}):
        with pytest.raises(TypeError, match=r"'plates' has hooks of create.*add create to its transactions"):
            serve(Apex(), "plates", Plates, **more)
