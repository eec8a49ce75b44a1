"""Personal data and erasure: ids, times and the users of the audit stay, and nothing of the person."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy import delete, func, insert, select, update

from apex.common import now
from apex.common.trash import prune_trash
from apex.encoding import encode
from apex.errors import Forbidden
from apex.log import Log, Position
from apex.sql import Database
from apex.tenant import NO_TENANTS, tenant_context
from services.accounts.audit import audit
from services.commands.demo_data import KEY
from services.support_tickets import support_tickets
from services.tables import answers, metadata
from tests.services.accounts.test_api_keys import make_key, with_key
from tests.services.accounts.test_audit import changes
from tests.services.crm import OURS, Crm, make, make_deal, refused, running

JOHN = "/api/contacts/00000000-0000-4000-8000-000000000123"
VOICE = {"x-api-key": KEY, "x-organization-id": "00000000-0000-4000-8000-000000000456"}
PERSONAL = ("Zacharias", "Quist", "zq@example.com", "2025550199", "Zebra-Field", "CRM-Z-9")
ERASE, KNOWN = {"X-Service-Method": "erase"}, {"X-Service-Method": "personal_data"}
ONCE = {"Idempotency-Key": "once"}


async def known_everywhere(crm: Crm) -> dict[str, Any]:
    """Create a contact whose data are in every possible place, with records that refer to it."""
    data = {"first_name": "Zacharias", "last_name": "Quist", "email": "zq@example.com", "phone": "2025550199"}
    await crm.define(Secret="text")
    person = await crm.create(**data, phone_country_iso="US", custom_fields_by_name={"Secret": "Zebra-Field"})
    mine = {"contact_id": person["id"]}
    deal = await make_deal(crm, **mine)
    activity = await make(crm, "activities", subject="Call", activity_type="call", **mine)
    ticket = await make(crm, "support-tickets", subject="Order", **mine)
    gone = await make(crm, "support-tickets", subject="Old", **mine)
    await make(crm, "support-ticket-messages", support_ticket_id=ticket["id"], body="On its way")
    await crm.call(f"DELETE /support-tickets/{gone['id']}")
    moved = await make(crm, "support-tickets", subject="Moved", **mine)
    await crm.call(f"PATCH /support-tickets/{moved['id']}", {"contact_id": 124})
    await crm.call(f"PATCH /contacts/{person['id']}", {"last_name": "Quist", "first_name": "Zacharias"})
    once = {"Idempotency-Key": "once"}
    assert (await crm.call(f"PATCH /contacts/{person['id']}", {"email": "zq@example.com"}, headers=once))[0] == 200
    return {"person": person, "deals": deal, "activities": activity, "support-tickets": ticket, "moved": moved}


async def stored(crm: Crm) -> str:
    """Return the whole database as text."""
    database: Database = crm.app.get("database")
    rows = [row for table in metadata.sorted_tables for row in await database.execute(select(table))]
    return json.dumps([row for row in rows if row.get("event") != "rates"], default=str)


async def remembered(crm: Crm, begin: Position) -> str:
    """Return the entries that the process keeps in memory, as JSON."""
    log = cast(Log, crm.app.log)
    await log.catch_up()
    read = log.recent(begin)
    return json.dumps([] if read is None else [(entry.record, entry.before) for entry in read.entries])


async def erased(crm: Crm, id: int, user: int | None = 789, organization: int = 456) -> tuple[int, Any]:
    return await crm.call("POST /contacts", {"organization_id": organization, "id": id}, user, headers=ERASE)


@pytest.mark.parametrize("way", ["erase", "agentvoice", "removed before"])
async def test_an_erased_person_leaves_no_personal_data(crm: Crm, way: str) -> None:
    begin = cast(Log, crm.app.log).watermark
    made = await known_everywhere(crm)
    id, before = made["person"]["id"], await changes(crm)
    there = await stored(crm)
    assert PERSONAL[0] in await remembered(crm, begin)
    assert all(word in there for word in PERSONAL[:5])
    if way == "agentvoice":
        (row,) = [row for row in await crm.rows() if row["id"] == id]
        assert (await crm.call(f"DELETE /api/contacts/{row['uuid']}", user=None, headers=VOICE))[0] == 200
    else:
        if way == "removed before":
            await crm.call(f"DELETE /contacts/{id}")
        status, answer = await erased(crm, id)
        changed = {"deals": 1, "activities": 1, "support-tickets": 1}
        assert (status, answer) == (200, {"id": id, "changed": changed})
    left = await stored(crm) + await remembered(crm, begin)
    assert not [word for word in PERSONAL if word in left]
    after = {row["id"]: row for row in await changes(crm)}
    same = ("id", "organization_id", "created_at", "user_id", "key_id", "service", "method", "record_id", "request_id")
    assert all({name: row[name] for name in same}.items() <= after[row["id"]].items() for row in before)
    created = next(row for row in after.values() if row["service"] == "contacts" and row["method"] == "create")
    told = tuple(created["record"][name] for name in ("id", "email", "owned_by_user_id"))
    assert told == (id, "***", 789)
    refused(await crm.call(f"GET /contacts/{id}"), 404)
    refused(await erased(crm, id), 404)


async def test_records_that_refer_to_the_person_are_changed_by_their_services(crm: Crm) -> None:
    made = await known_everywhere(crm)
    heard: list[str] = []
    for path in ("deals", "activities", "support-tickets"):
        crm.app.service(path).on("patched", lambda row, context: heard.append(context.path))
    before = len(await changes(crm))
    await erased(crm, made["person"]["id"])
    assert sorted(heard) == ["activities", "deals", "support-tickets"]
    for path in heard:
        _, record = await crm.call(f"GET /{path}/{made[path]['id']}")
        assert record["contact_id"] is None
        assert record["updated_at"] > made[path]["updated_at"]
    told = [(row["service"], row["method"], row["user_id"]) for row in (await changes(crm))[before:]]
    assert told == [*((path, "patch", 789) for path in heard), ("contacts", "remove", 789)]
    (moved,) = [row for row in await crm.rows(support_tickets) if row["id"] == made["moved"]["id"]]
    assert moved["meta_contact_first_name"] == "Johnny"


async def test_a_stored_answer_is_repeated_without_the_person(crm: Crm) -> None:
    headers = {"Idempotency-Key": "once"}
    data = OURS | {"first_name": "Zacharias", "email": "zq@example.com"}
    _, person = await crm.call("POST /contacts", data, headers=headers)
    await erased(crm, person["id"])
    status, again = await crm.call("POST /contacts", data, headers=headers)
    assert (status, again["id"], again["email"], again["first_name"]) == (201, person["id"], "***", "***")
    assert len(await crm.app.get("database").execute(select(answers.c.key))) == 1


async def test_a_stored_answer_loses_former_data_of_the_person(crm: Crm) -> None:
    await crm.define(Age="number", Secret="text")
    field = {"custom_fields_by_name": {"Age": 4_242_424, "Secret": "Zebra-Field"}}
    _, person = await crm.call(
        "POST /contacts", OURS | {"first_name": "Zacharias", "email": "zq@example.com"} | field, headers=ONCE
    )
    await crm.call(f"PATCH /contacts/{person['id']}", {"first_name": "Jo", "email": None, "custom_fields_by_name": {}})
    event = {"source": "zoho", "data": {"crm_id": "CRM-Z-9", "name": "Quist", "phone": "+12025550199"}}
    hook = "POST /api/webhook/crm"
    assert (await crm.call(hook, event, None, headers=VOICE | ONCE))[0] == 201
    event["data"] = {"crm_id": "CRM-Z-9", "name": "Jim", "phone": "+15005550000"}
    assert (await crm.call(hook, event, None, headers=VOICE))[0] == 200
    assert "4242424" in await stored(crm)
    for row in [row for row in await crm.rows() if row["id"] >= person["id"]]:
        assert (await erased(crm, row["id"]))[0] == 200
    left = await stored(crm)
    assert not [word for word in (*PERSONAL, "4242424") if word in left]


async def test_erasure_changes_only_the_answers_of_its_organization(crm: Crm) -> None:
    """A record of another service with the same id and text belongs to another organization."""
    query = "?$select[]=first_name&$select[]=id"
    data = OURS | {"first_name": "Zacharias"}
    _, person = await crm.call(f"POST /contacts{query}", data, headers=ONCE)
    other = {"id": person["id"], "organization_id": 457, "name": "Zacharias"}
    body = encode(other).decode()
    row = {"caller": "jwt 791", "key": "other", "request": "x", "created_at": now(), "body": body}
    await crm.app.get("database").execute(insert(answers).values(row | {"about": [{"organization_id": 457}]}))
    await erased(crm, person["id"])
    status, again = await crm.call(f"POST /contacts{query}", data, headers=ONCE)
    assert (status, again) == (201, {"first_name": "***", "id": person["id"]})
    left = await crm.app.get("database").execute(select(answers.c.body).where(answers.c.key == "other"))
    assert left == [{"body": body}]


async def test_a_person_whose_record_was_pruned_is_erased_from_the_audit(crm: Crm) -> None:
    person = await crm.create(first_name="Zacharias", email="zq@example.com")
    await crm.call(f"DELETE /contacts/{person['id']}")
    await prune_trash(crm.app, now() + timedelta(days=1))
    ours = OURS | {"id": person["id"]}
    _, known = await crm.call("POST /contacts", ours, headers=KNOWN)
    assert (known["contacts"], len(known["audit"])) == (None, 2)
    assert (await erased(crm, person["id"]))[0] == 200
    assert "zq@example.com" not in await stored(crm)
    refused(await erased(crm, person["id"]), 404)
    refused(await crm.call("POST /contacts", ours, headers=KNOWN), 404)


async def test_a_key_reads_personal_data_only_if_it_covers_all_services(crm: Crm) -> None:
    made = await known_everywhere(crm)
    data, told = {"id": made["person"]["id"]}, ["deals", "activities", "support-tickets", "support-ticket-messages"]
    some = (await make_key(crm, services=["contacts", *told], read_only=True))["key"]
    assert "'audit'" in refused(await with_key(crm, some, "POST /contacts", data, **KNOWN), 403)["message"]
    every = (await make_key(crm, services=["contacts", *told, "deal-products", "audit"], read_only=True))["key"]
    assert (await with_key(crm, every, "POST /contacts", data, **KNOWN))[0] == 200


async def test_personal_data_are_complete(crm: Crm) -> None:
    made = await known_everywhere(crm)
    data = OURS | {"id": made["person"]["id"]}
    status, known = await crm.call("POST /contacts", data, headers=KNOWN)
    assert status == 200, known
    assert set(known) == {
        "contacts", "deals", "deal-products", "activities", "support-tickets", "support-ticket-messages", "audit",
    }  # fmt: skip
    assert known["contacts"]["custom_fields_by_name"] == {"Secret": "Zebra-Field"}
    assert [len(known[path]) for path in ("deals", "activities", "support-tickets")] == [1, 1, 2]
    assert [row["body"] for row in known["support-ticket-messages"]] == ["On its way"]
    assert [row["method"] for row in known["audit"]] == ["create", "patch", "patch"]


@pytest.mark.parametrize("method", [ERASE, KNOWN])
async def test_both_are_for_admins_of_the_organization(crm: Crm, method: dict[str, str]) -> None:
    before = await stored(crm)
    ours = OURS | {"id": 123}
    for status, user, data in (
        (403, 790, ours), (403, 791, ours), (401, None, ours), (404, 791, {"organization_id": 457, "id": 123}),
        (404, 789, OURS | {"id": 99_999}), (400, 789, OURS), (400, 789, {"id": 123}),
    ):  # fmt: skip
        refused(await crm.call("POST /contacts", data, user, headers=method), status)
    assert await stored(crm) == before


async def test_the_app_hides_within_its_reach_and_changes_no_entry_otherwise(
    migrated_postgres_url: str,
) -> None:
    async with running(migrated_postgres_url) as crm:
        await crm.call("PATCH /contacts/123", {"last_name": "Roe"})
        database, before = crm.app.get("database"), await changes(crm)
        hidden = select(func.audit_erase("456", "contacts", "123", "last_name").label("changed"))
        for reach in ("457", NO_TENANTS):
            with tenant_context(reach):
                assert await database.fetch(database.compile(hidden, writes=True)) == [{"changed": 0}]
        with pytest.raises(Forbidden):
            await database.execute(update(audit).values(after=None))
        await database.execute(delete(audit))  # It deletes messages between processes alone.
        assert await changes(crm) == before
        with tenant_context("456"):
            assert await database.fetch(database.compile(hidden, writes=True)) == [{"changed": 1}]
        (entry,) = await changes(crm)
        assert (entry["before"]["last_name"], entry["after"]["last_name"]) == ("***", "***")
