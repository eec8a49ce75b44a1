"""The cost of events of the CRM webhook, alone and many in one request: ``python -m benchmarks webhook``.

Starts a PostgreSQL server of its own and the CRM. Events come over many connections at once. Another number of events
and of connections: ``python -m benchmarks webhook 5000 100``.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx2
import psycopg

from benchmarks.people import ORGANIZATION, Person, people
from benchmarks.servers import QUIET, Server, allow_open_files, database_processor, started
from benchmarks.stage import MEMORY
from services.agentvoice.dialect import ORGANIZATION_HEADER
from services.agentvoice.webhook import MOST_EVENTS
from services.commands.demo_data import KEY
from services.shared.examples import uuid_of
from tests.support.databases import Server as Database
from tests.support.databases import new_database, start_server

PROOF = {"x-api-key": KEY, ORGANIZATION_HEADER: uuid_of(ORGANIZATION)}
SECONDS = 300


def main(events: str = "5000", connections: str = "100") -> None:
    allow_open_files(10_000)
    database = start_server(MEMORY)
    try:
        with new_database(database.url) as url:
            environ = {**QUIET, "DATABASE_URL": url, "PORT": "0"}
            with started([sys.executable, "-m", "apex", "demo", "--serve"], environ) as server:
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute("UPDATE organizations SET rate_limit = 10000000")
                print(f"\n{events} events, {connections} connections\n")
                print("| events | seconds | events/s | apex (ms of processor each) | PostgreSQL (ms) | answers |")
                print("|---|---:|---:|---:|---:|---|", flush=True)
                rounds = Rounds(server, database, url, int(connections))
                asyncio.run(rounds.run(list(people(int(events)))))
    finally:
        database.stop()


class Rounds:
    """Measure rounds of events, each with the time of the process."""

    def __init__(self, server: Server, database: Database, url: str, connections: int) -> None:
        self.server, self.database, self.url, self.connections = server, database, url, connections

    async def run(self, persons: Sequence[Person]) -> None:
        for source, size in (("one at a time", 1), ("many at once", MOST_EVENTS)):
            for what, company in (("new", "Acme"), ("unchanged", "Acme"), ("changed", "Sample Inc")):
                events = [_event(source, number, person, company) for number, person in enumerate(persons)]
                parts = [events[start : start + size] for start in range(0, len(events), size)]
                await self.measure(f"{source}: {what}", parts)
                with psycopg.connect(self.url, autocommit=True) as connection:
                    connection.execute("VACUUM (ANALYZE) contacts, contact_values, companies, audit")  # As autovacuum.

    async def measure(self, name: str, parts: Sequence[Sequence[Any]]) -> None:
        before, begun = self.server.processor, time.monotonic()
        database = database_processor(self.database.data)
        limits = httpx2.Limits(max_connections=self.connections, max_keepalive_connections=self.connections)
        url = f"http://127.0.0.1:{self.server.port}"
        async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=SECONDS, headers=PROOF) as http:
            answers = await asyncio.gather(*(self.send(http, part) for part in parts))
        seconds, count = time.monotonic() - begun, sum(map(len, parts))
        used = self.server.processor - before
        stored = database_processor(self.database.data) - database
        statuses = ", ".join(f"{times:,} with {status}" for status, times in sum(answers, Counter()).items())
        figures = f"{seconds:.1f} | {count / seconds:,.0f} | {used / count * 1000:.2f} | {stored / count * 1000:.2f}"
        print(f"| {name} | {figures} | {statuses} |", flush=True)

    async def send(self, http: httpx2.AsyncClient, part: Sequence[Any]) -> Counter[int]:
        response = await http.post("/api/webhook/crm", json=part[0] if len(part) == 1 else part)
        if len(part) == 1 or response.status_code != 200:
            return Counter({response.status_code: len(part)})
        return Counter(answer["status"] for answer in response.json())


def _event(source: str, number: int, person: Person, company: str) -> dict[str, Any]:
    return {
        "source": source,
        "data": {
            "crm_id": number, "firstName": person.first, "lastName": person.last, "email": person.email,
            "phone": f"+1{person.phone}", "company": company, "LastModifiedDate": "2026-01-01T00:00:00Z",
        },
    }  # fmt: skip
