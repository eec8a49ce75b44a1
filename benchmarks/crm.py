"""The CRM for measurements: a server in its own process and a client with one connection."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlencode

from apex import load_config
from apex.auth import Tokens
from benchmarks.people import ORGANIZATION, USER
from benchmarks.servers import QUIET

Request = Callable[[], dict[str, Any]]


class Client:
    """A connection to the served CRM, with a token."""

    def __init__(self, port: int) -> None:
        authentication = load_config("config")["authentication"]
        token = Tokens(authentication["secret"], authentication["jwtOptions"]).create(USER)[0]
        self.connection = http.client.HTTPConnection("localhost", port)
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def find(self, query: dict[str, Any]) -> dict[str, Any]:
        url = "/contacts?" + urlencode({"organization_id": ORGANIZATION, **query})
        return self._request("GET", url)

    def create(self, path: str, data: dict[str, Any]) -> dict[str, Any]:
        return self._request("POST", f"/{path}", {"organization_id": ORGANIZATION, **data})

    def search(self, where: str, term: str) -> dict[str, Any]:
        data = {"searchTerm": term, "searchIn": where, "organization_id": ORGANIZATION}
        if where == "phone":
            data |= {"phone_country_iso": "US", "phone_country_code": "+1"}
        return self._request("POST", "/contacts", data, {"X-Service-Method": "search"})

    def _request(self, method: str, url: str, data: Any = None, more: dict[str, str] | None = None) -> dict[str, Any]:
        self.connection.request(method, url, data and json.dumps(data), {**self.headers, **(more or {})})
        response = self.connection.getresponse()
        body: dict[str, Any] = json.loads(response.read())
        if response.status not in (200, 201):
            raise SystemExit(f"{method} {url} answered {response.status}: {body}")
        return body


@contextmanager
def served(url: str) -> Iterator[Client]:
    """Serve the CRM on a database with the demo data."""
    environ = {**os.environ, **QUIET, "DATABASE_URL": url, "PORT": "0"}
    command = [sys.executable, "-m", "apex", "demo", "--serve"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = next(line for line in server.stdout if line.startswith("Serving at"))
            yield Client(int(line.rpartition(":")[2]))
        finally:
            server.terminate()


def timings(requests: list[Request]) -> tuple[float, float]:
    """Return median and 99th percentile in milliseconds, after ten requests to warm up."""
    for request in requests[:10]:
        request()
    taken = []
    for request in requests:
        start = time.perf_counter()
        request()
        taken.append((time.perf_counter() - start) * 1000)
    return median(taken), quantiles(taken, n=100)[98]


def report(name: str, figures: tuple[float, float]) -> None:
    print(f"| {name} | {figures[0]:.1f} | {figures[1]:.1f} |", flush=True)
