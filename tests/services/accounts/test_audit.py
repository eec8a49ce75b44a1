"""The audit: one entry for each record that is written. Admins read entries, and nobody changes them."""

from __future__ import annotations

from asyncio import gather
from typing import Any

import pytest
from sqlalchemy import text

from apex import load_config
from apex.migrations.revisions import connect
from services.accounts.audit import audit
from services.app import CONFIG, create_app
from services.contacts import Contacts
from services.shared.tenant import TenantService
from tests.security.attacks import body
from tests.security.stage import ATTACKER, staged
from tests.services.crm import JANE, OURS, Crm, make, make_deal, refused
from tests.support.serving import serving
from tests.support.sockets import connected

LIST = "GET /audit?organization_id=456"
ENTRY = {
    "id", "organization_id", "created_at", "user_id", "key_id", "api", "provider", "request_id", "service", "method",
    "record_id", "before", "after",
}  # fmt: skip


async def entries(crm: Crm, query: str = "") -> list[dict[str, Any]]:
    """Return the entries that an admin reads, newest first."""
    status, page = await crm.call(f"{LIST}&$limit=100&{query}")
    assert status == 200, page
    return list(page["data"])


async def changes(crm: Crm) -> list[dict[str, Any]]:
    """Return the entries of changes as they are stored."""
    return [row for row in await crm.rows(audit) if row["service"] is not None]


APP = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": "sqlite:///nothing.db"}))
PATHS = [path for path, bound in APP.services.items() if isinstance(bound.service, TenantService)]
CHANGES: dict[str, dict[str, Any]] = {
    "contacts": {"first_name": "Two", "company_id": None},
    "companies": {"name": "Two"},
    "api-keys": {"name": "Two"},
    "webhooks": {"description": "Two"},
    "pipelines": {"position": 2},
    "pipeline-stages": {"name": "Two"},
    "products": {"price": 2.5},
    "deals": {"status": "won"},
    "deal-products": {"quantity": "2"},
    "activities": {"done": True, "start_date": "2025-04-15"},
    "support-tickets": {"tags": ["a"], "contact_id": None},
    "support-ticket-messages": {"body": "Two"},
}
"""What changes a record, where that is more than its owner, which others lose."""


async def test_each_write_of_each_service_leaves_one_entry(demo_url: str) -> None:
    async with staged(demo_url) as stage:
        crm = Crm(stage.app, stage.http)

        async def written(
            path: str, method: str, request: str, data: Any = None
        ) -> tuple[dict[str, Any], dict[str, Any]]:
            """Return the answer without its joins, and the audit entry."""
            status, record = await crm.call(request, data, 791, headers={"X-Request-Id": method})
            assert status in (200, 201), record
            asked = f"GET /audit?organization_id={ATTACKER}&request_id={method}&service={path}"
            (entry,) = (await crm.call(asked, user=791))[1]["data"]
            assert set(entry) == ENTRY
            who = (entry["user_id"], entry["key_id"], entry["api"], entry["provider"], entry["organization_id"])
            assert who == (791, None, "achieveapex", "rest", ATTACKER)
            assert (entry["method"], entry["record_id"]) == (method, record["id"])
            return record, entry

        for path in PATHS:
            data = body(stage, stage.app.service(path), "create") or {}
            change = CHANGES.get(path, {"owned_by_user_id": None})
            created, entry = await written(path, "create", f"POST /{path}", data)
            on_demand = dict.fromkeys(stage.app.service(path).service.on_demand)
            stored = {name: created[name] for name in entry["after"]}
            assert (entry["before"], entry["after"]) == (None, stored)
            assert {"id", "organization_id", "created_at", "created_by_user_id", *data} <= set(stored)
            assert not {"uuid", "name_form", "name_search", "first_name_form"} & set(stored)
            changed, entry = await written(path, "patch", f"PATCH /{path}/{created['id']}", change)
            assert {*change, "updated_at"} <= set(entry["after"])
            assert entry["after"] == {name: changed[name] for name in entry["after"]}
            assert entry["before"] == {name: created[name] for name in entry["after"]}
            assert all(entry["before"][name] != entry["after"][name] for name in entry["after"])
            _, entry = await written(path, "remove", f"DELETE /{path}/{created['id']}")
            assert (entry["before"], entry["after"]) == (
                {name: (on_demand | changed)[name] for name in {**stored, **on_demand}},
                None,
            )


async def test_writes_that_follow_from_a_call_are_audited_for_its_caller(crm: Crm) -> None:
    deal = await make_deal(crm)
    line = {"deal_id": deal["id"], "name": "Seat", "price": "10.00", "organization_id": 456}
    await crm.call("POST /deal-products", line, 790, headers={"X-Request-Id": "line"})
    follows, made = await entries(crm, "request_id=line")
    assert (made["service"], made["method"], made["user_id"]) == ("deal-products", "create", 790)
    assert (follows["service"], follows["method"], follows["user_id"]) == ("deals", "patch", 790)
    assert (follows["before"]["amount"], follows["after"]["amount"]) == (None, "10.00")


async def test_selecting_less_does_not_audit_less(crm: Crm) -> None:
    assert (await crm.call("PATCH /contacts/123?$select=id", {"last_name": "Roe"}))[1] == {"id": 123}
    (entry,) = await entries(crm)
    assert (entry["before"]["last_name"], entry["after"]["last_name"]) == ("Doe", "Roe")
    await crm.app.service("contacts").create(JANE, {"query": {"$select": ["id"]}})
    assert (await entries(crm))[0]["after"]["first_name"] == "Jane"


async def test_each_field_of_an_entry_may_be_selected_alone(crm: Crm) -> None:
    await crm.create()
    (entry,) = await entries(crm)
    for field in ENTRY:
        asked = f"organization_id=456&$select={field}"
        assert (await crm.call(f"GET /audit?{asked}"))[1]["data"] == [{name: entry[name] for name in {field, "id"}}]
        assert (await crm.call(f"GET /audit/{entry['id']}?$select={field}"))[0] == 200
    for hidden in ("record", "call", "origin", "event", "xid"):
        refused(await crm.call(f"GET /audit?organization_id=456&$select={hidden}"), 400)


async def test_fields_on_demand_are_audited(crm: Crm) -> None:
    own, other = ({"crm_id": name, "crm_source": name} for name in ("salesforce", "hubspot"))
    heard: list[Any] = []
    for event in ("created", "patched", "removed"):
        crm.app.service("contacts").on(event, lambda data, context: heard.append({*own} & {*data}))
    contact = await crm.create(**own)
    await crm.call(f"PATCH /contacts/{contact['id']}?$select=id", other)
    await crm.call(f"PATCH /contacts?organization_id=456&id={contact['id']}", own)
    _, removed = await crm.call(f"DELETE /contacts/{contact['id']}")
    restore = {"organization_id": 456, "id": contact["id"]}
    _, restored = await crm.call("POST /contacts", restore, headers={"X-Service-Method": "restore"})
    await crm.app.service("contacts").create([JANE | other], {"adapter": {"multi": True}})
    told = [
        tuple(part and {name: part.get(name) for name in own} for part in (entry["before"], entry["after"]))
        for entry in reversed(await entries(crm, "service=contacts"))
    ]
    assert told == [(None, own), (own, other), (other, own), (own, None), (None, own), (None, other)]
    assert (set(removed), set(restored), heard) == ({*contact}, {*contact}, [set()] * 6)


async def test_audited_custom_fields_include_unchanged_ones(crm: Crm) -> None:
    await crm.call("PATCH /contacts/123", {"custom_fields_by_name": {"Industry": "Retail"}})
    (entry,) = await entries(crm)
    told = [entry[when]["custom_fields_by_name"] for when in ("before", "after")]
    stays = {"Preferred Contact Method": "Email"}
    assert told == [stays | {"Industry": "Technology"}, stays | {"Industry": "Retail"}]


async def test_work_of_the_process_is_audited_without_a_user(crm: Crm) -> None:
    await crm.app.service("contacts").patch(123, {"last_name": "Roe"})
    (entry,) = await entries(crm)
    assert [entry[name] for name in ("user_id", "key_id", "api", "provider", "request_id")] == [None] * 5


async def test_a_call_over_a_socket_has_its_own_request_id(crm: Crm) -> None:
    proof = {"Authorization": f"Bearer {crm.token(790)}"}
    async with serving(crm.app) as http, connected(http, additional_headers=proof) as peer:
        for name in ("Roe", "Poe"):
            assert (await peer.call("patch", "contacts", 123, {"last_name": name}, {}))[0] is None
        last, first = await entries(crm)
    assert {(one["user_id"], one["provider"]) for one in (first, last)} == {(790, "socketio")}
    assert None is not first["request_id"] != last["request_id"] is not None


async def test_many_created_at_once_have_an_entry_each(crm: Crm) -> None:
    crm.app.service("contacts").service.multi = ("create",)
    await crm.call("POST /contacts", [JANE, JANE | {"first_name": "June"}])
    assert [entry["after"]["first_name"] for entry in await entries(crm)] == ["June", "Jane"]


async def test_a_failed_write_leaves_no_entry(crm: Crm) -> None:
    product = await make(crm, "products", name="Seat", sku="S-1")
    before = await entries(crm)
    for status, request, data in (
        (400, "POST /contacts", {"first_name": ""}),
        (400, "POST /contacts", JANE | {"company_id": 201}),
        (403, "POST /contacts", JANE | {"organization_id": 457}),
        (403, "PATCH /contacts/201", {"last_name": "Roe"}),
        (404, "PATCH /contacts/999", {"last_name": "Roe"}),
        (404, "PATCH /contacts/123?first_name=x", {"last_name": "Roe"}),
        (404, "DELETE /contacts/999", None),
        (409, "POST /products", OURS | {"name": "Other", "sku": "S-1"}),
        (400, "PATCH /contacts/123", {"company_id": 201}),
    ):
        refused(await crm.call(request, data), status)
    later = await make(crm, "products", name="Other", sku="S-2")
    refused(await crm.call(f"PATCH /products/{later['id']}", {"sku": "S-1"}), 409)
    assert [entry["record_id"] for entry in await entries(crm)] == [later["id"], product["id"]]
    assert len(before) == 1


async def test_nothing_is_stored_without_its_entry(crm: Crm, demo_url: str) -> None:
    await crm.call("POST /contacts", JANE)
    with connect(demo_url) as connection, connection.begin():
        connection.execute(text("CREATE UNIQUE INDEX one_entry_each ON audit (organization_id)"))
    before = await crm.rows()
    try:
        for request, data in (("POST /contacts", JANE), ("PATCH /contacts/123", JANE), ("DELETE /contacts/123", None)):
            data = {"last_name": "Roe"} if request.startswith("PATCH") else data
            refused(await crm.call(request, data), 409)
        assert await crm.rows() == before
    finally:  # Later tests use the same database.
        with connect(demo_url) as connection, connection.begin():
            connection.execute(text("DROP INDEX one_entry_each"))


async def test_concurrent_changes_are_audited_in_their_order(crm: Crm) -> None:
    await gather(*(crm.call("PATCH /contacts/123", {"last_name": f"L{number}"}) for number in range(10)))
    told = [(entry["before"]["last_name"], entry["after"]["last_name"]) for entry in reversed(await entries(crm))]
    assert told[0][0] == "Doe"
    assert [before for before, _ in told[1:]] == [after for _, after in told[:-1]]
    assert (await crm.call("GET /contacts/123"))[1]["last_name"] == told[-1][1]


async def test_concurrent_removals_of_a_record_are_audited_once(crm: Crm) -> None:
    await gather(*(crm.call("DELETE /contacts/123") for _ in range(5)))
    assert len(await entries(crm)) == 1


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("member", 403), ("admin", 200), ("owner", 200)])
async def test_only_admins_and_owners_read_the_audit(crm: Crm, role: str, status: int) -> None:
    await crm.create()
    (mine,) = await crm.app.service("memberships").find({"query": {"user_id": 790}, "paginate": False})
    await crm.app.service("memberships").patch(mine["id"], {"role": role})
    entry = (await changes(crm))[0]  # Messages between processes take ids, too.
    for request in (LIST, f"GET /audit/{entry['id']}"):
        answer = await crm.call(request, user=790)
        assert answer[0] == status, answer
        if status == 403:
            assert refused(answer, 403)["message"].startswith(f"Your role in organization 456 is {role}")


async def test_it_is_out_of_reach_for_others(crm: Crm) -> None:
    await crm.create()
    for request in (LIST, "GET /audit/1"):
        refused(await crm.call(request, user=791), 403)
        refused(await crm.call(request, user=None), 401)
    refused(await crm.call("GET /audit"), 400, "organization_id")
    assert (await crm.call("GET /audit?organization_id=457", user=791))[1]["data"] == []


async def test_nobody_writes_to_the_audit(crm: Crm) -> None:
    await crm.create()
    before = await changes(crm)
    for request in ("POST /audit", "PATCH /audit/1", "PUT /audit/1", "DELETE /audit/1"):
        refused(await crm.call(request, OURS | {"service": "contacts"}), 405)
    inside = crm.app.service("audit")
    for call in (inside.patch(1, {"user_id": 790}), inside.update(1, {"user_id": 790}), inside.remove(1)):
        with pytest.raises(Exception, match="can not call"):
            await call
    assert await changes(crm) == before


async def test_entries_are_asked_for(crm: Crm) -> None:
    jane, june = await crm.create(), await crm.create(first_name="June")
    await crm.call(f"PATCH /contacts/{jane['id']}", {"last_name": "Roe"}, 790, headers={"X-Request-Id": "mine"})
    newest = [("patch", jane["id"]), ("create", june["id"]), ("create", jane["id"])]
    for query, told in (
        ("", newest),
        ("$sort[id]=1", newest[::-1]),
        (f"service=contacts&record_id={jane['id']}", [newest[0], newest[2]]),
        ("user_id=790", newest[:1]),
        ("request_id=mine", newest[:1]),
        ("created_at[$gt]=2000-01-01", newest),
        ("created_at[$lt]=2000-01-01", []),
    ):
        assert [(entry["method"], entry["record_id"]) for entry in await entries(crm, query)] == told, query
    refused(await crm.call(f"{LIST}&before=x"), 400, "before")


async def test_secrets_are_hidden(crm: Crm) -> None:
    password = "canary-password"
    user = await crm.app.service("users").create(
        {"email": "new@example.com", "first_name": "New", "password": password}
    )
    await crm.app.service("memberships").create({"organization_id": 456, "user_id": user["id"]})
    login = {"strategy": "local", "email": "new@example.com", "password": password}
    assert (await crm.call("POST /authentication", login, user=None))[0] == 201
    await crm.define(**{"API key": "text", "Colour": "text"})
    contact = await crm.create(custom_fields_by_name={"API key": "canary-key", "Colour": "blue"})
    await crm.call(f"PATCH /contacts/{contact['id']}", {"custom_fields_by_name": {"API key": "canary-other"}})
    stored = await crm.rows(audit)
    assert not any(secret in str(stored) for secret in (password, "$argon2", crm.token(789)))
    changed, created = await entries(crm, "service=contacts")
    assert "canary" not in str([changed, created, *([row["before"], row["after"]] for row in stored)])
    assert created["after"]["custom_fields_by_name"] == {"API key": "***", "Colour": "blue"}


async def test_another_api_is_named(crm: Crm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Contacts, "api", "agentvoice", raising=False)
    await crm.create()
    assert (await entries(crm))[0]["api"] == "agentvoice"
