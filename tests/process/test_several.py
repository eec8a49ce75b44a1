"""Changes by commands, in processes of their own, count in all servers on the same PostgreSQL, without Redis."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx2
import pytest

from tests.conftest import fill
from tests.process.commands import apex, apex_here, server
from tests.support.databases import new_database
from tests.support.waiting import SECONDS

ADMINS = {"456": "789", "457": "791"}
"""The administrators of the demo's organizations."""


def stdout_of(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def by_token(database: str, organization: str) -> tuple[str, dict[str, str]]:
    """Return a new member's address and token."""
    email = f"{secrets.token_hex(8)}@example.com"
    new = ("--first-name", "Mia", "--password", "a-secret", "--organization", organization)
    stdout_of(apex_here("user", "add", email, *new, DATABASE_URL=database))
    token = stdout_of(apex_here("token", email, DATABASE_URL=database)).strip()
    return email, {"authorization": f"Bearer {token}"}


def by_key(database: str, organization: str) -> tuple[str, dict[str, str]]:
    """Return the id of a new API key, and the key."""
    of = ("--organization", organization)
    key = stdout_of(apex_here("key", "create", *of, "--user", ADMINS[organization], DATABASE_URL=database)).strip()
    rows = json.loads(stdout_of(apex_here("key", "list", *of, "--json", DATABASE_URL=database)))
    return str(rows[-1]["id"]), {"x-api-key": key}


@pytest.fixture(scope="module")
def database(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """Yield the URL of a database with the demo data. Each test has a member or a key of its own in it."""
    with new_database(postgres_server, postgres_template) as url:
        fill(url)
        yield url


@pytest.fixture(scope="module")
def servers(database: str) -> Iterator[list[str]]:
    """Yield the URLs of two servers."""
    with ExitStack() as stack:
        yield [stack.enter_context(server("serve", DATABASE_URL=database))[1] for _ in range(2)]


def status(url: str, headers: dict[str, str], method: str, organization: str) -> int:
    query = {"organization_id": int(organization)}
    if method == "POST":
        return httpx2.post(f"{url}/contacts", headers=headers, json=query | {"first_name": "Ann"}).status_code
    return httpx2.get(f"{url}/contacts", headers=headers, params=query).status_code


@pytest.mark.parametrize(
    ("command", "proof", "organization", "method", "before", "after"),
    [
        ("member role {0} viewer --organization 456", by_token, "456", "POST", 201, 403),
        ("member remove {0} --organization 456", by_token, "456", "GET", 200, 403),
        ("user remove {0}", by_token, "456", "GET", 200, 401),
        ("key revoke {0}", by_key, "456", "GET", 200, 401),
        ("key rotate {0}", by_key, "456", "GET", 200, 401),
        ("organization limit 457 1", by_key, "457", "GET", 200, 429),
    ],
)
def test_a_command_counts_in_every_server(
    servers: list[str],
    database: str,
    command: str,
    proof: Callable[[str, str], tuple[str, dict[str, str]]],
    organization: str,
    method: str,
    before: int,
    after: int,
) -> None:
    who, headers = proof(database, organization)
    assert [status(url, headers, method, organization) for url in servers] == [before, before]
    stdout_of(apex(*command.format(who).split(), DATABASE_URL=database))
    deadline = time.monotonic() + SECONDS
    for url in servers:
        while status(url, headers, method, organization) == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert status(url, headers, method, organization) == after
