"""Tests of writes that are repeated with their ``Idempotency-Key`` after their process was killed."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from tests.process.commands import server
from tests.process.test_serve import log_in
from tests.services.agentvoice.voice import PROOF
from tests.services.crm import JANE
from tests.support.waiting import SECONDS

SERVE = ("--app", "tests.process.dying:create_app", "serve")


@pytest.mark.parametrize(
    ("url", "data", "proof"), [("/contacts", JANE, {}), ("/api/contacts", {"first_name": "Jane"}, PROOF)]
)
async def test_a_write_whose_process_died_after_the_commit_has_one_event_when_it_is_repeated(
    demo_url: str, url: str, data: Any, proof: dict[str, str]
) -> None:
    with server(*SERVE, DATABASE_URL=demo_url, DIE="1") as (process, address), log_in(address) as client:
        token = client.headers["authorization"]
        headers = {"Idempotency-Key": "order-12", **(proof or {"Authorization": token})}
        with pytest.raises(httpx2.TransportError):
            httpx2.post(address + url, json=data, headers=headers, timeout=SECONDS)
        process.wait()
    with server(*SERVE, DATABASE_URL=demo_url) as (_, address), log_in(address) as client:
        for _ in "abc":
            again = await asyncio.to_thread(httpx2.post, address + url, json=data, headers=headers, timeout=SECONDS)
            assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
        await asyncio.to_thread(client.post, "/contacts", json=JANE | {"first_name": "Last"})
        told = client.get("/events?organization_id=456&service=contacts&event=created").json()["data"]
        assert [event["data"]["first_name"] for event in told] == ["Jane", "Last"]
        assert client.get("/contacts?organization_id=456&first_name=Jane").json()["total"] == 1
