"""Lists filtered and sorted by custom fields, over HTTP, with the plans that the database makes of them.

``python -m benchmarks custom``.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from typing import Any

import psycopg

from apex import load_config
from apex.sql.drivers.executor import Tuples, Values
from benchmarks.crm import Client, Request, report, served, timings
from benchmarks.people import ORGANIZATION, load
from services.app import CONFIG, create_app

FIELD = "custom_fields_by_name"
INDUSTRIES = [f"Industry {number:02}" for number in range(20)]
FIELDS: Mapping[str, Mapping[str, Any]] = {
    "Sector": {"type": "select", "options": INDUSTRIES},
    "Size": {"type": "number"},
    "Account": {"type": "text"},
    "Renewal": {"type": "date"},
    "Subscribed": {"type": "boolean"},
    "VIP": {"type": "boolean"},
}
TIMES, SLOW = 50, 10

QUERIES: Mapping[str, tuple[int, dict[str, Any]]] = {
    "one in 20: `Sector=Industry 07`": (TIMES, {f"{FIELD}.Sector": "Industry 07"}),
    "one in 20, newest first": (TIMES, {f"{FIELD}.Sector": "Industry 07", "$sort[created_at]": -1}),
    "one alone: `Account=A-000777`": (TIMES, {f"{FIELD}.Account": "A-000777"}),
    "one in 1,000: `VIP=true`": (TIMES, {f"{FIELD}.VIP": "true"}),
    "range of one in 100: `Size[$gte]=9900`": (TIMES, {f"{FIELD}.Size[$gte]": 9900}),
    "range of half: `Size[$lt]=5000`": (SLOW, {f"{FIELD}.Size[$lt]": 5000}),
    "two fields: one in 20 and range of one in 100": (
        TIMES, {f"{FIELD}.Sector": "Industry 07", f"{FIELD}.Size[$gte]": 9900},
    ),
    "sorted by `Size`, ascending": (TIMES, {f"$sort[{FIELD}.Size]": 1}),
    "sorted by `Size`, descending": (TIMES, {f"$sort[{FIELD}.Size]": -1}),
    "sorted by `Renewal`, descending": (TIMES, {f"$sort[{FIELD}.Renewal]": -1}),
    "one in 20, sorted by `Size`": (TIMES, {f"{FIELD}.Sector": "Industry 07", f"$sort[{FIELD}.Size]": -1}),
    "sorted by `VIP`, which one in 1,000 has": (TIMES, {f"$sort[{FIELD}.VIP]": -1, "$skip": 5}),
    "sorted by `Size`, after 10,000": (SLOW, {f"$sort[{FIELD}.Size]": 1, "$skip": 10_000}),
    "sorted by `Size`, after half of all": (SLOW, {f"$sort[{FIELD}.Size]": 1, "$skip": 0.5}),
    "the rest: sorted by `VIP`, after all that have it": (SLOW, {f"$sort[{FIELD}.VIP]": -1, "$skip": 0.01}),
}  # fmt: skip


def values(number: int) -> str:
    """Return the custom fields of the n-th contact, which are the same in each run."""
    chance = random.Random(number)
    fields = {
        "Sector": chance.choice(INDUSTRIES),
        "Size": chance.randrange(10_000),
        "Account": f"A-{number:06}",
        "Renewal": f"{chance.randrange(2024, 2029)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}",
        "Subscribed": chance.random() < 0.7,
    }
    return json.dumps(fields | ({"VIP": True} if number % 1000 == 0 else {}))


def measure(url: str, size: int) -> None:
    with served(url) as client:
        load(url, size, values)
        for name, definition in FIELDS.items():
            client.create("custom-fields", {"entity": "contacts", "name": name, **definition})
        print(f"\n{size:,} contacts in one organization\n\n| list of 25 | median ms | p99 ms |\n|---|---:|---:|")
        for name, (times, query) in QUERIES.items():
            report(name, timings([_asking(client, query, size)] * times))
    for name, (_, query) in QUERIES.items():
        print(f"\n{name}")
        for line in asyncio.run(plans(url, _sized(query, size))):
            print(f"    {line}")


def _asking(client: Client, query: dict[str, Any], size: int) -> Request:
    sized = _sized(query, size)
    return lambda: client.find(sized)


def _sized(query: dict[str, Any], size: int) -> dict[str, Any]:
    """Return a share of all contacts as a number."""
    skip = query.get("$skip", 0)
    return {"$limit": 25, **query, "$skip": int(skip * size) if isinstance(skip, float) else skip}


async def plans(url: str, query: dict[str, Any]) -> list[str]:
    """Return the plans of the statements of a list."""
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": url}))
    await app.setup()
    executor, run = app.get("database").executor, []
    fetch = executor.fetch

    async def noted(text: str, values: Values, *how: bool) -> Tuples:
        run.append((text, values))
        rows: Tuples = await fetch(text, values, *how)
        return rows

    executor.fetch = noted
    try:
        await app.service("contacts").find({"query": _unflattened(query)})
    finally:
        await app.teardown()
    with psycopg.connect(url) as connection:
        explain = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF) "
        return [str(line) for text, given in run for (line,) in connection.execute((explain + text).encode(), given)]


def _unflattened(query: dict[str, Any]) -> dict[str, Any]:
    """Parse ``a[b]=c`` to nested objects, with numbers and booleans instead of their texts."""
    nested: dict[str, Any] = {"organization_id": ORGANIZATION}
    for key, value in query.items():
        outer, _, inner = key.rstrip("]").partition("[")
        typed = True if value == "true" else value
        nested |= {outer: {inner: typed}} if inner else {outer: typed}
    return nested


if __name__ == "__main__":
    raise SystemExit("python -m benchmarks custom")
