"""Tests of ``apex key`` and ``apex organization``, as scripts use them."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import httpx2

from services.commands.demo_data import KEY as DEMO_KEY
from tests.process.commands import COMMAND, QUICK, ROOT, apex, apex_here, environment, server
from tests.support.redis_server import redis_server
from tests.support.waiting import SECONDS

KEY = re.compile(r"apex_[0-9a-f]{12}_[A-Za-z0-9_-]{43}\n")
FOR_ADMIN = ("--organization", "456", "--user", "789")


def contacts(url: str, key: str) -> httpx2.Response:
    return httpx2.get(f"{url}/contacts", headers={"x-api-key": key.strip()})


def test_a_key_is_made_listed_rotated_and_revoked(demo_url: str) -> None:
    def run(*arguments: str) -> str:
        done = apex_here(*arguments, DATABASE_URL=demo_url)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    with server("serve", DATABASE_URL=demo_url) as (_, url):
        key = run("key", "create", *FOR_ADMIN, "--name", "Website")
        assert KEY.fullmatch(key)
        assert contacts(url, key).json()["total"] == 2
        made = json.loads(run("key", "create", *FOR_ADMIN, "--json"))
        assert set(made) == {"key", "organization_id", "organization_uuid"}
        assert made["organization_id"] == 456
        rows = json.loads(run("key", "list", "--organization", "456", "--json"))
        assert [(row["id"], row["name"]) for row in rows] == [(1, "Demo"), (2, "Website"), (3, None)]
        assert "Website" in run("key", "list", "--organization", "456")
        rotated = run("key", "rotate", "2")
        assert KEY.fullmatch(rotated)
        run("key", "revoke", "3")
        assert "only defined custom fields" in run("organization", "custom-fields", "456", "--strict")
        unsaid = apex_here("organization", "custom-fields", "456", DATABASE_URL=demo_url)
        assert (unsaid.returncode, "'--strict' or '--any'" in unsaid.stderr) == (2, True)
        run("organization", "limit", "456", "1", "--window", "60")
        deadline = time.monotonic() + SECONDS
        while (contacts(url, key).status_code, contacts(url, made["key"]).status_code) != (401, 401):
            assert time.monotonic() < deadline
        assert contacts(url, rotated).status_code == 429  # There was more than one in the last minute.
        token = run("token", "admin@example.com").strip()
        page = httpx2.get(
            f"{url}/audit?organization_id=456&service=organizations", headers={"authorization": f"Bearer {token}"}
        ).json()
        assert page["data"][0]["after"].items() >= {"rate_limit": 1, "rate_window": 60}.items()


def test_commands_end_where_there_is_a_redis(migrated_sqlite_url: str, tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        shared = {"DATABASE_URL": migrated_sqlite_url, "REDIS_URL": redis.url}
        for arguments in (("demo",), ("token", "admin@example.com"), ("key", "list", "--organization", "456")):
            assert apex(*arguments, **shared).returncode == 0


def test_a_key_for_an_unknown_user_is_refused_in_one_line(demo_sqlite_url: str) -> None:
    for arguments, line in (
        (("--organization", "999", "--user", "789"), "apex: there is no organization 999\n"),
        (("--organization", "456", "--user", "791"), "apex: user 791 is not a member of organization 456\n"),
    ):
        done = apex_here("key", "create", *arguments, DATABASE_URL=demo_sqlite_url)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", line)
    done = apex_here("key", "list", "--organization", "999", DATABASE_URL=demo_sqlite_url)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "apex: there is no organization 999\n")


def test_a_webhook_secret_is_made_and_taken_away(demo_sqlite_url: str) -> None:
    made = apex_here("organization", "webhook-secret", "456", DATABASE_URL=demo_sqlite_url)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", made.stdout)
    gone = apex_here("organization", "webhook-secret", "456", "--remove", DATABASE_URL=demo_sqlite_url)
    assert gone.stdout == "Organization 456: webhooks need no signature.\n"


def test_the_demo_shows_its_key_only_while_it_is_one(sqlite_url: str) -> None:
    def served() -> str:
        variables = environment(**QUICK, PORT="0", DATABASE_URL=sqlite_url)
        with subprocess.Popen(
            [*COMMAND, "demo", "--serve"], cwd=ROOT, env=variables, text=True, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            try:
                return next(line for line in process.stdout if "Demo API key" in line)
            finally:
                process.kill()

    assert DEMO_KEY in served()
    assert apex_here("key", "rotate", "1", DATABASE_URL=sqlite_url).returncode == 0
    assert "rotated or revoked" in served()
