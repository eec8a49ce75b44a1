"""Bad input over a socket: as over REST, an error that names the wrong fields, nothing stored, no statement."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.services.crm import JANE, Crm, refused
from tests.services.fixtures import SHARED, sqlite_alone
from tests.services.input.test_bad_input import (
    BODIES,
    FIELDS,
    ORGANIZATIONS,
    SEARCHES,
    SERVERS,
    TYPED,
    UNKNOWN,
    each,
)
from tests.support.serving import serving
from tests.support.sockets import Peer, connected

pytestmark = SHARED
shared_url = sqlite_alone

OURS = {"organization_id": 456}
WRITES: list[list[Any]] = [["create", "contacts", JANE], ["patch", "contacts", 123, {}]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peer(shared: Crm) -> AsyncIterator[Peer]:
    """Return a connection of user 789."""
    async with serving(shared.app) as http:
        proof = {"Authorization": f"Bearer {shared.token(789)}"}
        async with connected(http, additional_headers=proof) as peer:
            yield peer


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def nothing_is_stored(shared: Crm, peer: Peer) -> AsyncIterator[None]:
    """Assert that the calls of this module have changed no rows."""
    before = await shared.rows()
    yield
    assert await shared.rows() == before


async def refused_without_a_trace(crm: Crm, peer: Peer, code: int, *fields: str, ask: str) -> dict[str, Any]:
    """Assert that an event is refused before any statement runs. Return the error."""
    crm.statements.clear()
    (error,) = await peer.ask(ask)
    assert crm.statements == []
    return refused((code, error), code, *fields)


@pytest.mark.parametrize("event", WRITES, ids=lambda event: event[0])
@pytest.mark.parametrize(("field", "value"), each(FIELDS))
async def test_a_value_that_does_not_fit_its_field_is_refused(
    shared: Crm, peer: Peer, event: list[Any], field: str, value: Any
) -> None:
    *call, data = event
    ask = json.dumps([*call, data | {field: value}, {}])
    error = await refused_without_a_trace(shared, peer, 400, ask=ask)
    assert error["message"] == "Invalid contact data"
    assert [name.partition(".")[0] for name in error["errors"]] == [field]


@pytest.mark.parametrize("value", ORGANIZATIONS, ids=repr)
async def test_a_wrong_organization_id_is_refused(shared: Crm, peer: Peer, value: Any) -> None:
    organization = {"organization_id": value}
    search = {"searchTerm": "john", "searchIn": "name"} | organization
    for event in (["create", "contacts", JANE | organization], ["search", "contacts", search]):
        await refused_without_a_trace(shared, peer, 400, "organization_id", ask=json.dumps(event))
    if value != "456":
        ask = json.dumps(["find", "contacts", organization])
        await refused_without_a_trace(shared, peer, 400, "organization_id", ask=ask)


@pytest.mark.parametrize("name", [*SERVERS, *UNKNOWN])
@pytest.mark.parametrize("event", WRITES, ids=lambda event: event[0])
async def test_a_field_of_the_server_is_refused(shared: Crm, peer: Peer, event: list[Any], name: str) -> None:
    *call, data = event
    if call[0] == "create" or name in UNKNOWN:
        error = await refused_without_a_trace(shared, peer, 400, name, ask=json.dumps([*call, data | {name: None}]))
    else:  # It is compared with the record: a patch may hold the value that is stored.
        (error,) = await peer.ask(json.dumps([*call, data | {name: "theirs"}]))
        refused((400, error), 400, name)
    assert list(error["errors"]) == [name]


@pytest.mark.parametrize("event", ['["create","contacts",', '["patch","contacts",123,', '["search","contacts",'])
@pytest.mark.parametrize("body", [body for body in BODIES.values() if body != b""], ids=lambda body: repr(body[:20]))
async def test_data_that_are_not_an_object_are_refused(shared: Crm, peer: Peer, event: str, body: bytes) -> None:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        pytest.skip("a text frame is UTF-8")
    shared.statements.clear()
    (error,) = await peer.ask(f"{event}{text}]")
    refused((error["code"], error), error["code"])
    assert (error["code"] in (400, 405), shared.statements) == (True, [])


@pytest.mark.parametrize("query", TYPED, ids=lambda query: repr(query)[:50])
async def test_a_query_with_values_of_the_wrong_type(shared: Crm, peer: Peer, query: dict[str, Any]) -> None:
    await refused_without_a_trace(shared, peer, 400, ask=json.dumps(["find", "contacts", OURS | query]))


@pytest.mark.parametrize(("field", "value"), each(SEARCHES))
async def test_a_wrong_search_is_refused(shared: Crm, peer: Peer, field: str, value: Any) -> None:
    data = {"searchTerm": "john", "searchIn": "name", "organization_id": 456} | {field: value}
    error = await refused_without_a_trace(shared, peer, 400, ask=json.dumps(["search", "contacts", data, {}]))
    assert [name.partition("[")[0] for name in error["errors"]] == [field]


@pytest.mark.parametrize("id", [True, 1.5, [123], {"$gt": 0}], ids=repr)
@pytest.mark.parametrize("method", ["get", "patch", "remove"])
async def test_an_id_of_the_wrong_type_is_refused(shared: Crm, peer: Peer, method: str, id: Any) -> None:
    data = [{"first_name": "X"}] if method == "patch" else []
    await refused_without_a_trace(shared, peer, 400, ask=json.dumps([method, "contacts", id, *data, {}]))


@pytest.mark.parametrize("event", [["patch", "contacts", None, {"first_name": "X"}], ["remove", "contacts", None]])
async def test_many_contacts_are_not_changed_without_a_query(shared: Crm, peer: Peer, event: list[Any]) -> None:
    await refused_without_a_trace(shared, peer, 400, ask=json.dumps([*event, OURS]))


@pytest.mark.parametrize("method", ["get", "update", "hidden", "setup", "__init__", "_find"])
async def test_an_unknown_method_is_refused(shared: Crm, peer: Peer, method: str) -> None:
    (error,) = await peer.call(method, "contacts", *([None] if method in ("get", "update") else []))
    assert error["code"] in (400, 404, 405)
    refused((error["code"], error), error["code"])
