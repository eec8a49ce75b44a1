"""How search and lists behave as an organization grows, then the fan-out: ``make bench``.

Starts a PostgreSQL server of its own, fills an organization, serves the CRM and measures over HTTP, one request at a
time. Sizes: ``python -m benchmarks 10000 1000000``. The fan-out alone: ``python -m benchmarks fanout``.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlencode

from apex import load_config
from apex.tokens import Tokens
from benchmarks import fanout
from benchmarks.people import ORGANIZATION, USER, load, terms
from tests.databases import new_database, start_server

SIZES = (10_000, 1_000_000)
MEMORY = "shared_buffers = 1GB"
"""Enough for the table and its indexes, as a server of that size would have."""
SEARCHES, LISTS = 300, 100

Request = Callable[[], dict[str, Any]]


class Client:
    """One connection to the served CRM, with a token."""

    def __init__(self, port: int) -> None:
        authentication = load_config("config")["authentication"]
        token = Tokens(authentication["secret"], authentication["jwtOptions"]).create(USER)[0]
        self.connection = http.client.HTTPConnection("localhost", port)
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def find(self, query: dict[str, Any]) -> dict[str, Any]:
        url = "/contacts?" + urlencode({"organization_id": ORGANIZATION, **query})
        return self._request("GET", url)

    def search(self, where: str, term: str) -> dict[str, Any]:
        data = {"searchTerm": term, "searchIn": where, "organization_id": ORGANIZATION}
        if where == "phone":
            data |= {"phone_country_iso": "US", "phone_country_code": "+1"}
        return self._request("POST", "/contacts", data, {"X-Service-Method": "search"})

    def _request(self, method: str, url: str, data: Any = None, more: dict[str, str] | None = None) -> dict[str, Any]:
        self.connection.request(method, url, data and json.dumps(data), {**self.headers, **(more or {})})
        response = self.connection.getresponse()
        body: dict[str, Any] = json.loads(response.read())
        if response.status != 200:
            raise SystemExit(f"{method} {url} answered {response.status}: {body}")
        return body


@contextmanager
def served(url: str) -> Iterator[Client]:
    """The CRM on a database, with the demo data."""
    environ = {**os.environ, "DATABASE_URL": url, "PORT": "0", "APEX_ENV": "development"}
    command = [sys.executable, "-m", "apex", "demo", "--serve"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = next(line for line in server.stdout if line.startswith("Serving at"))
            yield Client(int(line.rpartition(":")[2]))
        finally:
            server.terminate()


def timings(requests: list[Request]) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds, after ten requests to warm up."""
    for request in requests[:10]:
        request()
    taken = []
    for request in requests:
        start = time.perf_counter()
        request()
        taken.append((time.perf_counter() - start) * 1000)
    return median(taken), quantiles(taken, n=100)[98]


def measure(client: Client, size: int) -> None:
    print(f"\n{size:,} contacts in one organization\n\n| request | median ms | p99 ms |\n|---|---:|---:|")
    page = {"$limit": 25, "$sort[created_at]": -1}
    lists: dict[str, Request] = {
        "count alone": lambda: client.find({"$limit": 0}),
        "first page of 25, newest first, with total": lambda: client.find(page),
    }
    for name, request in lists.items():
        _print(name, timings([request] * LISTS))
    everything: list[Request] = []
    for name, kind in terms(SEARCHES).items():
        requests: list[Request] = [lambda where=where, term=term: client.search(where, term) for where, term in kind]  # type: ignore[misc]
        everything += requests
        _print(f"search: {name}", timings(requests))
    _print("search: all of these", timings(everything))
    short: list[Request] = [lambda: client.search("name", "an")] * 10
    _print("search: two letters (no trigram)", timings(short))


def _print(name: str, figures: tuple[float, float]) -> None:
    print(f"| {name} | {figures[0]:.1f} | {figures[1]:.1f} |", flush=True)


def main() -> None:
    arguments = sys.argv[1:]
    if arguments != ["fanout"]:
        contacts([int(argument) for argument in arguments] or SIZES)
    if arguments in ([], ["fanout"]):
        fanout.main()


def contacts(sizes: Iterable[int]) -> None:
    server = start_server(MEMORY)
    try:
        for size in sizes:
            with new_database(server.url) as url, served(url) as client:
                load(url, size)
                measure(client, size)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
