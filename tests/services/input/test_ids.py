"""Ids that no record can have: not found, over REST and over a socket, and never an error of the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import pytest
import pytest_asyncio

from tests.services.crm import Crm, refused
from tests.services.fixtures import SHARED
from tests.support.serving import serving
from tests.support.sockets import Peer, connected

pytestmark = SHARED


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peer(shared: Crm) -> AsyncIterator[Peer]:
    """A connection of user 789."""
    async with serving(shared.app) as http:
        proof = {"Authorization": f"Bearer {shared.token(789)}"}
        async with connected(http, additional_headers=proof) as peer:
            yield peer


@pytest.mark.parametrize(
    "id",
    [
        "abc", "1e3", "-1", "0", "9999999999999999999", "1.5", "null", "%00", "%ff", "é", "123%20", "0x7b", "1'--",
        "[123]", "_", "%2e%2e", "123%2f",
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["GET", "PATCH", "DELETE"])
async def test_an_id_that_no_contact_can_have(shared: Crm, verb: str, id: str) -> None:
    data = {"first_name": "X"} if verb == "PATCH" else None
    refused(await shared.call(f"{verb} /contacts/{id}", data), 404)


IDS = ["abc", "1e3", "-1", "0", "1.5", "null", "%00", "é", "123%20", "0x7b", "1'--", "[123]", "..", "123/", ""]


@pytest.mark.parametrize("id", [*map(unquote, IDS), 0, -1, 2**63, -(2**63) - 1, 10**30], ids=repr)
@pytest.mark.parametrize("method", ["get", "patch", "remove"])
async def test_an_id_over_a_socket_that_no_contact_can_have(shared: Crm, peer: Peer, method: str, id: Any) -> None:
    data = [{"first_name": "X"}] if method == "patch" else []
    (error,) = await peer.call(method, "contacts", id, *data, {})
    refused((404, error), 404)
