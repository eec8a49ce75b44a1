"""Search, lists and custom fields as an organization grows: ``python -m benchmarks sizes``.

Starts a PostgreSQL server of its own, fills an organization, serves the CRM and measures over HTTP, one request at a
time. Sizes: ``python -m benchmarks sizes 10000 1000000``; custom fields alone: ``python -m benchmarks custom``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from benchmarks import custom_fields
from benchmarks.crm import Client, Request, report, served, timings
from benchmarks.people import load, terms
from tests.support.databases import new_database, start_server

SIZES = (10_000, 1_000_000)
MEMORY = "shared_buffers = 1GB"
"""Memory for the table and its indexes, as on a server of that size."""
SEARCHES, LISTS = 300, 100


def measure(client: Client, size: int) -> None:
    print(f"\n{size:,} contacts in one organization\n\n| request | median ms | p99 ms |\n|---|---:|---:|")
    page = {"$limit": 25, "$sort[created_at]": -1}
    lists: dict[str, Request] = {
        "count alone": lambda: client.find({"$limit": 0}),
        "first page of 25, newest first, with total": lambda: client.find(page),
    }
    for name, request in lists.items():
        report(name, timings([request] * LISTS))
    everything: list[Request] = []
    for name, kind in terms(SEARCHES).items():
        requests: list[Request] = [lambda where=where, term=term: client.search(where, term) for where, term in kind]  # type: ignore[misc]
        everything += requests
        report(f"search: {name}", timings(requests))
    report("search: all of these", timings(everything))
    short: list[Request] = [lambda: client.search("name", "an")] * 10
    report("search: two letters (no trigram)", timings(short))


def main(*sizes: str) -> None:
    numbers = list(map(int, sizes)) or SIZES
    with_server(contacts, numbers)
    with_server(custom_fields.measure, numbers)


def custom() -> None:
    with_server(custom_fields.measure, SIZES)


def contacts(url: str, size: int) -> None:
    with served(url) as client:
        load(url, size)
        measure(client, size)


def with_server(part: Callable[[str, int], None], sizes: Iterable[int]) -> None:
    """Measure each size in its own database."""
    server = start_server(MEMORY)
    try:
        for size in sizes:
            with new_database(server.url) as url:
                part(url, size)
    finally:
        server.stop()
