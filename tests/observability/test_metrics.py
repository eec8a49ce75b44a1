"""Metrics, as Prometheus reads them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import AsyncConnection
from sqlalchemy import Column, Integer, MetaData, Table

from apex import Apex, Context, MemoryService, SQLService, bus, database, rest, sockets
from apex.errors import Forbidden
from apex.limits.rates import rates
from apex.log import EventsService, log, log_table
from apex.observability.metrics import metrics
from apex.webhooks import Webhooks, webhooks_table
from tests.process.commands import ROOT, server
from tests.support.redis_server import redis_server
from tests.support.serving import serving
from tests.support.sockets import Held, connected
from tests.support.waiting import SECONDS, until

TOKEN = "a-token-for-prometheus"


def site(**settings: Any) -> Apex:
    app = Apex({"metrics": True, **settings})
    return app.configure(metrics).configure(rest).use("groups/:group/notes", MemoryService())


def read(text: str) -> Mapping[tuple[str, ...], float]:
    """The samples of an answer: name and values of the labels, by their names, to value."""
    families = text_string_to_metric_families(text)
    return {
        (one.name, *(one.labels[name] for name in sorted(one.labels))): one.value
        for family in families
        for one in family.samples
    }


async def samples(client: httpx2.AsyncClient) -> Mapping[tuple[str, ...], float]:
    response = await client.get("/metrics")
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    return read(response.text)


async def test_calls_are_counted_by_service_method_and_status() -> None:
    async with serving(site()) as client:
        for group in range(3):
            await client.get(f"/groups/{group}/notes")
        await client.post("/groups/1/notes", json={"text": "hi"})
        await client.get("/groups/1/notes/99")
        await client.post("/groups/1/notes", content="{", headers={"content-type": "application/json"})
        await client.delete("/nothing/here")
        found = await samples(client)
    path = "groups/:group/notes"
    counts = {key[1:]: value for key, value in found.items() if key[0] == "apex_call_seconds_count"}
    assert counts == {
        ("find", path, "200"): 3,
        ("create", path, "201"): 1,
        ("get", path, "404"): 1,
        ("POST", path, "400"): 1,
    }
    assert (found["apex_errors_total", "NotFound"], found["apex_errors_total", "BadRequest"]) == (1, 1)
    assert found["apex_call_seconds_bucket", "+Inf", "find", path, "200"] == 3
    assert 0 < found["apex_call_seconds_sum", "find", path, "200"] < 3


async def test_calls_over_a_socket_are_counted_like_all_others() -> None:
    app = site().configure(sockets)
    async with serving(app) as client:
        async with connected(client) as peer:
            await peer.call("find", "groups/1/notes")
            await peer.call("create", "groups/2/notes", {"text": "hi"})
            await peer.call("get", "groups/2/notes", 99)
            await peer.call("hidden", "groups/2/notes")
            found = await samples(client)
        assert found["apex_sockets_open",] == 1
        await until(lambda: not app.events.connections)
        assert (await samples(client))["apex_sockets_open",] == 0
    path = "groups/:group/notes"
    counts = {key[1:]: value for key, value in found.items() if key[0] == "apex_call_seconds_count"}
    assert counts == {("find", path, "200"): 1, ("create", path, "201"): 1, ("get", path, "404"): 1, ("", "", "405"): 1}
    assert (found["apex_errors_total", "NotFound"], found["apex_errors_total", "MethodNotAllowed"]) == (1, 1)


async def test_calls_that_are_not_answered_yet_are_told_of() -> None:
    held = Held()
    app = site().use("held", held).configure(sockets)
    async with serving(app) as client, connected(client) as peer:
        asked = asyncio.create_task(client.get("/held"))
        await peer.send('421["find","held"]')
        await until(lambda: held.begun == 2)
        assert (await samples(client))["apex_calls_in_flight",] == 2
        held.go.set()
        await asked
        await peer.answer(1)
        assert (await samples(client))["apex_calls_in_flight",] == 0


async def test_what_an_app_has_not_is_not_told_of(sqlite_url: str) -> None:
    async with serving(site().configure(database(sqlite_url))) as client:
        found = {key[0] for key in await samples(client)}
    gauges = {"apex_workers", "apex_calls_in_flight", "apex_sockets_open"}
    assert found == {*gauges, "apex_events_published_total", "apex_callbacks_failed_total"}


async def test_the_database_is_told_of(postgres_url: str) -> None:
    app = site().configure(database(postgres_url)).configure(rates)
    async with serving(app) as client:
        await app.get("database").executor.fetch("SELECT 1", {})
        for _ in range(3):
            await app.get("rates").take("anyone", 1, 60)
        found = await samples(client)
    assert (found["apex_lanes_connected",], found["apex_lanes_in_flight",]) == (4, 0)
    assert found["apex_lanes_groups_total",] == 1
    assert found["apex_pool_max",] == 10
    assert found["apex_rate_limits_refused_total",] == 2


async def test_the_log_is_told_of(empty_url: str) -> None:
    metadata = MetaData()
    notes = Table("notes", metadata, Column("id", Integer, primary_key=True))
    app = site().configure(database(empty_url)).configure(log(log_table(metadata)))
    app.use("notes", SQLService(notes)).use("events", EventsService())
    async with serving(app) as client:
        await app.get("database").create_all(metadata)
        waiting = asyncio.create_task(client.get("/events", params={"$after": "now", "$wait": 30}, timeout=SECONDS))
        await reads(client, lambda found: found["apex_events_waiting",] == 1)
        await app.service("notes").create({})
        found = await reads(client, lambda found: found["apex_log_handled_total",] == 1)
        app.emit("shutdown")
        await waiting
    names = ("position", "written_total", "behind", "kept_entries", "oldest_transaction_seconds")
    assert [found[f"apex_log_{name}",] for name in names] == [1, 1, 0, 1, 0]
    assert found["apex_log_kept_bytes",] > found["apex_log_lag_seconds",] >= 0


async def test_an_open_transaction_is_told_of_until_its_end(postgres_url: str) -> None:
    metadata = MetaData()
    notes = Table("notes", metadata, Column("id", Integer, primary_key=True))
    app = site().configure(database(postgres_url)).configure(log(log_table(metadata)))
    app.use("notes", SQLService(notes))
    async with serving(app) as client:
        await app.get("database").create_all(metadata)
        async with await AsyncConnection.connect(postgres_url) as other:
            await other.execute("SELECT pg_current_xact_id()")
            await app.service("notes").create({})  # Positions list the open transactions before their last entry.
            await reads(client, lambda found: found["apex_log_oldest_transaction_seconds",] > 0)
        await reads(client, lambda found: found["apex_log_oldest_transaction_seconds",] == 0)


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        ({}, {}, 200),
        ({}, {"X-Forwarded-For": "127.0.0.1"}, 403),
        ({"metricsToken": TOKEN}, {}, 401),
        ({"metricsToken": TOKEN}, {"Authorization": "Bearer another"}, 401),
        ({"metricsToken": TOKEN}, {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "1.2.3.4"}, 200),
        ({"metrics": False}, {}, 404),
    ],
)
async def test_only_who_may_reads_them(settings: dict[str, Any], headers: dict[str, str], status: int) -> None:
    async with serving(site(**settings)) as client:
        assert (await client.get("/metrics", headers=headers)).status_code == status


async def test_events_are_counted() -> None:
    app = site().configure(sockets).use("notes", MemoryService())
    app.publish(lambda data, context: None)
    async with serving(app) as client, connected(client):
        await client.post("/notes", json={})
        assert (await samples(client))["apex_events_published_total",] == 1


async def test_errors_of_hooks_are_told_by_their_class() -> None:
    def refuse(context: Context) -> None:
        raise KeyError if context.id == "1" else Forbidden("no")

    app = site().use("notes", MemoryService(), hooks={"before": {"get": [refuse]}})
    async with serving(app) as client:
        assert [(await client.get(f"/notes/{id}")).status_code for id in (1, 2)] == [500, 403]
        found = await samples(client)
    assert (found["apex_errors_total", "KeyError"], found["apex_errors_total", "Forbidden"]) == (1, 1)


async def test_the_page_of_operations_names_all_metrics_and_no_others(postgres_url: str, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    with redis_server(tmp_path) as redis:
        metadata = MetaData()
        app = site(redis=redis.url, authentication={"secret": "s" * 32}).configure(database(postgres_url))
        app.configure(log(log_table(metadata))).configure(bus).configure(rates)
        app.use("webhooks", Webhooks(webhooks_table(metadata, Column("user_id", Integer))))
        async with serving(app) as client:
            await app.get("database").create_all(metadata)
            await client.get("/groups/1/notes/99")
            families = list(text_string_to_metric_families((await client.get("/metrics")).text))
    served = {family.name + "_total" * (family.type == "counter") for family in families}
    told, alerts = page.split("## Alerts")
    assert set(re.findall(r"`(apex_\w+)`", told)) == served
    assert set(re.findall(r"apex_\w+", alerts)) <= served | {sample.name for one in families for sample in one.samples}


async def reads(
    client: httpx2.AsyncClient, expected: Callable[[Mapping[tuple[str, ...], float]], bool]
) -> Mapping[tuple[str, ...], float]:
    """Read the samples until they are as expected."""
    async with asyncio.timeout(SECONDS):
        while not expected(found := await samples(client)):
            await asyncio.sleep(0.01)
    return found


async def reaches(url: str, expected: Mapping[tuple[str, ...], float]) -> None:
    """Waits until a server tells of these samples."""
    async with asyncio.timeout(SECONDS):
        while not expected.items() <= (found := read(httpx2.get(f"{url}/metrics", timeout=SECONDS).text)).items():
            assert all(found.get(key, 0) <= value for key, value in expected.items() if "_total" in key[0]), found
            await asyncio.sleep(0.05)


def children(process: int) -> list[int]:
    return [int(id) for id in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


async def test_several_workers_are_counted_as_one_also_when_they_die(migrated_sqlite_url: str, tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        given = {"DATABASE_URL": migrated_sqlite_url, "REDIS_URL": redis.url, "METRICS": "true"}
        with server("serve", "--workers", "2", **given) as (process, url):
            async with httpx2.AsyncClient(base_url=url) as client, AsyncExitStack() as stack:
                for _ in range(7):
                    assert httpx2.get(f"{url}/contacts").status_code == 401
                peers = [await stack.enter_async_context(connected(client)) for _ in range(8)]
                for peer in peers:
                    await peer.call("find", "contacts")
                counted = {
                    ("apex_call_seconds_count", "find", "contacts", "401"): 7 + len(peers),
                    ("apex_errors_total", "NotAuthenticated"): 7 + len(peers),
                    ("apex_workers",): 2,
                    ("apex_bus_connected",): 2,
                }
                await reaches(url, {**counted, ("apex_sockets_open",): len(peers)})
                for worker in children(process.pid):
                    os.kill(worker, signal.SIGKILL)
                    await until(lambda worker=worker: worker not in children(process.pid))  # type: ignore[misc]
                await reaches(url, {**counted, ("apex_sockets_open",): 0})
            process.terminate()
            assert process.wait(30) == 0
