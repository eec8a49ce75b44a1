"""The time until the processes of an app learn of a change in another one, by the log alone and with Redis.

``python -m benchmarks processes``. Two servers share a PostgreSQL database. One of them sends messages and ends logins,
the other one is asked until it knows. The time counts from the answer of the first one.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from apex import Apex, Params, Service, rest
from apex.auth import Tokens, new_key
from apex.server import serve_app
from benchmarks.servers import QUIET, Server, started
from tests.auth.several import SECRET, create_tables
from tests.auth.several import create_app as create_several
from tests.support.databases import new_database, start_server
from tests.support.redis_server import redis_server

MESSAGES, ENDED = 300, 100
TOKENS = Tokens(SECRET, {})
COMMAND = [sys.executable, "-m", "benchmarks.processes"]


class Pings(Service):
    """Sends the present moment to the other processes, and returns how long the moments of others took to arrive."""

    def __init__(self, app: Apex) -> None:
        self.app = app
        self.taken: list[float] = []
        app.bus.on("ping", lambda moment: self.taken.append(time.time() - moment))

    async def create(self, data: Any, params: Params) -> dict[str, Any]:
        self.app.bus.send("ping", time.time())
        return {}

    async def find(self, params: Params) -> list[float]:
        return self.taken


def create_app() -> Apex:
    """Return the app of the tests of several processes, served over REST and with a service for messages."""
    app = create_several(os.environ["DATABASE_URL"], **({"redis": url} if (url := os.environ.get("REDIS_URL")) else {}))
    app.configure(rest)
    return app.use("pings", Pings(app))


class Client:
    """A connection to a server."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port)

    def ask(self, method: str, path: str, token: str = "", data: Any = None) -> tuple[int, Any]:
        """Return the status and the body of an answer. The token may be an API key."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers |= {"x-api-key": token} if token.startswith("apex_") else {"Authorization": f"Bearer {token}"}
        self.connection.request(method, path, None if data is None else json.dumps(data), headers)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def seconds_until_refused(self, token: str) -> float:
        """Return how long a login is still let in."""
        start = time.perf_counter()
        while self.ask("GET", "/secrets", token)[0] == 200:
            pass
        return time.perf_counter() - start


def main() -> None:
    database = start_server()
    try:
        with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as redis:
            print("| | times | median ms | p99 ms | most ms |\n|---|---:|---:|---:|---:|")
            for name, more in (("log alone", {}), ("with Redis", {"REDIS_URL": redis.url})):
                with new_database(database.url) as url, served(url, more) as (here, there):
                    for what, seconds in (
                        ("message", messages(here, there)),
                        ("logout", logouts(here, there)),
                        ("API key removed", keys(here, there)),
                        ("user removed", users(here, there)),
                    ):
                        _report(f"{what}, {name}", seconds)
    finally:
        database.stop()


@contextmanager
def served(url: str, more: Mapping[str, str]) -> Iterator[tuple[Client, Client]]:
    """Yield clients of two processes on an empty database."""
    asyncio.run(create_tables(url))
    with ExitStack() as stack:
        environ = {**QUIET, "DATABASE_URL": url, **more}
        servers = [stack.enter_context(started(COMMAND, environ)) for _ in range(2)]
        time.sleep(1)  # By then the processes are connected to Redis.
        here, there = (Client(server) for server in servers)
        yield here, there


def messages(here: Client, there: Client) -> list[float]:
    for _ in range(MESSAGES):
        here.ask("POST", "/pings", data={})
        time.sleep(random.uniform(0, 0.03))
    while len(found := there.ask("GET", "/pings")[1]) < MESSAGES:
        time.sleep(0.01)
    seconds: list[float] = found
    return seconds


def logouts(here: Client, there: Client) -> Iterator[float]:
    """Log out users, each with a token that the other process has let in before."""
    for number in range(ENDED):
        here.ask("POST", "/users", data={"name": "Ann"})
        token = TOKENS.create(number + 1)[0]
        there.ask("GET", "/secrets", token)
        here.ask("DELETE", "/authentication", token)
        yield there.seconds_until_refused(token)


def keys(here: Client, there: Client) -> Iterator[float]:
    for number in range(ENDED):
        key = new_key()
        row = {"user_id": number + 1, "prefix": key.prefix, "hash": key.hash}
        id = here.ask("POST", "/keys", data=row)[1]["id"]
        there.ask("GET", "/secrets", key.text)
        here.ask("DELETE", f"/keys/{id}")
        yield there.seconds_until_refused(key.text)


def users(here: Client, there: Client) -> Iterator[float]:
    for number in range(ENDED):
        token = TOKENS.create(number + 1)[0]
        there.ask("GET", "/secrets", token)
        here.ask("DELETE", f"/users/{number + 1}")
        yield there.seconds_until_refused(token)


def _report(name: str, seconds: Iterable[float]) -> None:
    taken = sorted(one * 1_000 for one in seconds)
    figures = f"{median(taken):.1f} | {quantiles(taken, n=100)[98]:.1f} | {taken[-1]:.1f}"
    print(f"| {name} | {len(taken)} | {figures} |", flush=True)


if __name__ == "__main__":
    serve_app(create_app(), "127.0.0.1", 0, "Serving at {url}")
