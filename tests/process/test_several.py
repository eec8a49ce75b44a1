"""Changes by commands, in processes of their own, count in all servers on the same PostgreSQL, without Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx2
import pytest

from services.commands.demo_data import KEY
from tests.process.commands import apex, server

MEMBER = "member@example.com"
OF_ORGANIZATION = ("--organization", "456")


def run(database: str, *arguments: str) -> str:
    done = apex(*arguments, DATABASE_URL=database)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def by_token(database: str) -> dict[str, str]:
    return {"authorization": f"Bearer {run(database, 'token', MEMBER).strip()}"}


def by_key(database: str) -> dict[str, str]:
    return {"x-api-key": KEY}


@pytest.fixture
def servers(demo_postgres_url: str) -> Iterator[list[str]]:
    """Yield the URLs of two servers."""
    with ExitStack() as stack:
        yield [stack.enter_context(server("serve", DATABASE_URL=demo_postgres_url))[1] for _ in range(2)]


def status(url: str, headers: dict[str, str], method: str) -> int:
    query = {"organization_id": 456}
    if method == "POST":
        return httpx2.post(f"{url}/contacts", headers=headers, json=query | {"first_name": "Ann"}).status_code
    return httpx2.get(f"{url}/contacts", headers=headers, params=query).status_code


@pytest.mark.parametrize(
    ("command", "proof", "method", "before", "after"),
    [
        (("member", "role", MEMBER, "viewer", *OF_ORGANIZATION), by_token, "POST", 201, 403),
        (("member", "remove", MEMBER, *OF_ORGANIZATION), by_token, "GET", 200, 403),
        (("user", "remove", MEMBER), by_token, "GET", 200, 401),
        (("key", "revoke", "1"), by_key, "GET", 200, 401),
        (("key", "rotate", "1"), by_key, "GET", 200, 401),
        (("organization", "limit", "456", "1"), by_key, "GET", 200, 429),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_a_command_counts_in_every_server(
    servers: list[str],
    demo_postgres_url: str,
    command: tuple[str, ...],
    proof: Callable[[str], dict[str, str]],
    method: str,
    before: int,
    after: int,
) -> None:
    headers = proof(demo_postgres_url)
    assert [status(url, headers, method) for url in servers] == [before, before]
    run(demo_postgres_url, *command)
    for url in servers:
        while status(url, headers, method) == before:
            pass
        assert status(url, headers, method) == after
