"""The audience of an organization's events: the connections of its current members."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from apex import Apex, Connection, Context, load_config
from services.app import CONFIG, create_app
from services.shared.examples import DEMO_PASSWORD
from tests.services.accounts.test_api_keys import make_key, on_socket
from tests.services.crm import JANE, SEARCH, Crm, refused
from tests.support.waiting import until

ADMIN, OTHER = "admin@example.com", "other@example.com"

Sent = list[tuple[str, dict[str, Any], list[Connection]]]


async def connect(crm: Crm, email: str = ADMIN) -> Connection:
    """Return a connection of the app on which a user has logged in."""
    connection = Connection(provider="socketio", headers={})
    crm.app.events.connections.add(connection)
    await login(crm, connection, email)
    return connection


@asynccontextmanager
async def another_process(crm: Crm) -> AsyncIterator[Apex]:
    """Yield the app of another process on the same database."""
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": crm.app.get("database_url")}))
    async with app.lifespan():
        yield app


async def login(crm: Crm, connection: Connection, email: str) -> None:
    data = {"strategy": "local", "email": email, "password": DEMO_PASSWORD}
    await crm.app.service("authentication").create(data, {"provider": "socketio", "connection": connection})


def listen(crm: Crm) -> Sent:
    """Collect the messages to connections: event, payload and recipients."""
    sent: Sent = []

    def send(context: Context, recipients: dict[Connection, Any]) -> None:
        (payload,) = recipients.values()
        sent.append((f"{context.path} {context.event}", payload, list(recipients)))

    crm.app.on("publish", send)
    return sent


async def test_each_organization_gets_only_events_of_its_own_records(crm: Crm) -> None:
    ours, theirs, sent = await connect(crm), await connect(crm, OTHER), listen(crm)
    jane = await crm.create()
    await crm.call(f"PATCH /contacts/{jane['id']}", {"first_name": "Joan"})
    await crm.call(f"DELETE /contacts/{jane['id']}")
    await crm.call("POST /companies", {"organization_id": 457, "name": "Theirs"}, 791)
    heard = [(event, recipients) for event, _, recipients in sent]
    changes = [("contacts created", [ours]), ("contacts patched", [ours]), ("contacts removed", [ours])]
    assert heard == [*changes, ("companies created", [theirs])]


async def test_events_are_whole_whatever_the_caller_selects(crm: Crm) -> None:
    await connect(crm)
    sent = listen(crm)
    status, jane = await crm.call("POST /contacts?$select[]=first_name", JANE)
    assert (status, jane) == (201, {"first_name": "Jane", "id": jane["id"]})
    for verb, data in (("PATCH", {"last_name": "Doe"}), ("DELETE", None)):
        status, answer = await crm.call(f"{verb} /contacts/{jane['id']}?$select[]=email", data)
        assert (status, answer) == (200, {"email": None, "id": jane["id"]})
    whole = await crm.create()
    assert {frozenset(payload) for _, payload, _ in sent} == {frozenset(whole)}


async def test_refused_calls_and_reads_publish_no_events(crm: Crm) -> None:
    await connect(crm)
    sent = listen(crm)
    refused(await crm.call("POST /contacts", JANE | {"company_id": 9999}), 400, "company_id")
    refused(await crm.call("PATCH /contacts/201", {"first_name": "Joan"}), 403)
    await crm.call("GET /contacts/123")
    await crm.call("POST /contacts", {"searchTerm": "john", "searchIn": "name", "organization_id": 456}, headers=SEARCH)
    assert sent == []


async def test_a_membership_that_ends_or_begins_moves_open_connections_at_once(crm: Crm) -> None:
    connection, memberships = await connect(crm), crm.app.service("memberships")
    assert connection.channels == {"organizations/456", "organizations/456/admins"}
    (member,) = await memberships.find({"query": {"user_id": 789}, "paginate": False})
    await memberships.remove(member["id"])
    assert connection.channels == set()
    await memberships.create({"user_id": 789, "organization_id": 457})
    assert connection.channels == {"organizations/457"}


async def test_the_connection_of_a_key_follows_its_user_and_its_maker_in_the_keys_organization(crm: Crm) -> None:
    memberships = crm.app.service("memberships")
    keys = [await make_key(crm, user_id=790), await make_key(crm, user_id=790, services=["contacts", "deals"])]
    all_services, some = [await on_socket(crm, key["key"]) for key in keys]
    part = {"organizations/456/services/contacts", "organizations/456/services/deals"}
    channels = ({"organizations/456"}, part)
    (mine,) = await memberships.find({"query": {"user_id": 790}, "paginate": False})
    for role in ("admin", "viewer"):
        await memberships.patch(mine["id"], {"role": role})
        assert (all_services.channels, some.channels) == channels
    await memberships.create({"user_id": 790, "organization_id": 457, "role": "owner"})
    assert (all_services.channels, some.channels) == channels
    await crm.app.bus.sync()
    assert (all_services.channels, some.channels) == channels
    (maker,) = await memberships.find({"query": {"user_id": 789}, "paginate": False})
    await memberships.remove(maker["id"])
    assert (all_services.channels, some.channels) == (set(), set())


async def test_leaving_one_organization_keeps_the_events_of_another(crm: Crm) -> None:
    memberships = crm.app.service("memberships")
    more = await memberships.create({"user_id": 789, "organization_id": 457, "role": "member"})
    connection, member = await connect(crm), await connect(crm, "member@example.com")
    ours = {"organizations/456", "organizations/456/admins"}
    assert connection.channels == ours | {"organizations/457"}
    await memberships.patch(more["id"], {"role": "viewer"})
    assert connection.channels == ours | {"organizations/457"}
    await memberships.remove(more["id"])
    assert connection.channels == ours
    assert member.channels == {"organizations/456"}
    await crm.app.bus.sync()
    assert (connection.channels, member.channels) == (ours, {"organizations/456"})


@pytest.mark.parametrize(
    ("role", "channels"),
    [("member", {"organizations/456"}), (None, set()), ("owner", {"organizations/456", "organizations/456/admins"})],
)
async def test_a_role_changed_by_another_process_counts(crm: Crm, role: str | None, channels: set[str]) -> None:
    connection, other = await connect(crm), await connect(crm, OTHER)
    async with another_process(crm) as there:
        memberships = there.service("memberships")
        await memberships.create({"user_id": 791, "organization_id": 456, "role": "owner"})
        (theirs,) = await memberships.find({"query": {"user_id": 789}, "paginate": False})
        await (memberships.remove(theirs["id"]) if role is None else memberships.patch(theirs["id"], {"role": role}))
        await until(lambda: connection.channels == channels)
    assert other.channels >= {"organizations/457", "organizations/457/admins"}


async def test_an_organization_that_is_removed_has_no_audience(crm: Crm) -> None:
    connection = await connect(crm)
    await crm.app.service("organizations").remove(456)
    assert connection.channels == set()


async def test_a_login_as_somebody_else_and_a_logout_move_too(crm: Crm) -> None:
    connection = await connect(crm)
    await login(crm, connection, OTHER)
    assert connection.channels == {"organizations/457", "organizations/457/admins"}
    params = {"provider": "socketio", "connection": connection, "authentication": connection.authentication}
    await crm.app.service("authentication").remove(None, params)
    assert connection.channels == set()


async def test_a_change_made_past_the_app_is_noticed(crm: Crm) -> None:
    connection, database = await connect(crm), crm.app.get("database")
    crm.app.events.connections.add(Connection())  # Without a login.
    await database.executor.fetch("UPDATE memberships SET organization_id = 457 WHERE user_id = 789", {}, True)
    await crm.app.bus.sync()
    assert connection.channels == {"organizations/457", "organizations/457/admins"}


async def test_a_creator_who_left_is_noticed_at_the_next_sync(crm: Crm) -> None:
    key = await on_socket(crm, (await make_key(crm, user_id=790))["key"])
    assert key.channels == {"organizations/456"}
    database = crm.app.get("database")
    await database.executor.fetch("UPDATE memberships SET organization_id = 457 WHERE user_id = 789", {}, True)
    await crm.app.bus.sync()
    assert key.channels == set()


async def test_a_membership_that_ends_while_somebody_logs_in_counts(crm: Crm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The login reads the memberships again if one has changed meanwhile."""
    memberships = crm.app.service("memberships")
    find, reads = memberships.service.find, []

    async def find_then_remove(params: Any) -> Any:
        rows = await find(params)
        reads.append(rows)
        if len(reads) == 1:
            await memberships.remove(rows[0]["id"])
        return rows

    monkeypatch.setattr(memberships.service, "find", find_then_remove)
    memberships._steps.clear()
    connection = await connect(crm)
    assert (len(reads), connection.channels) == (2, set())


async def test_events_carry_no_private_field(crm: Crm) -> None:
    await connect(crm)
    sent = listen(crm)
    await crm.create()
    await crm.app.service("users").patch(789, {"password": "another secret"})
    ((_, payload, _),) = sent
    assert not {name for name in payload if "form" in name or "search" in name or name in ("uuid", "password")}


async def test_records_for_admins_are_published_to_nobody(crm: Crm) -> None:
    await connect(crm)
    sent, ours = listen(crm), {"organization_id": 456}
    _, key = await crm.call("POST /api-keys", ours | {"name": "Website"})
    await crm.call("POST /api-keys", ours | {"id": key["id"]}, headers={"X-Service-Method": "rotate"})
    await crm.call(f"PATCH /api-keys/{key['id']}", {"name": "Shop"})
    await crm.call(f"DELETE /api-keys/{key['id']}")
    assert sent == []
