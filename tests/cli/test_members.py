"""Tests of ``apex member``, as an operator uses it."""

from __future__ import annotations

import json

from tests.process.commands import apex_here


def test_members_are_listed_added_changed_and_removed(demo_sqlite_url: str) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        done = apex_here(*arguments, DATABASE_URL=demo_sqlite_url)
        assert done.returncode == code, done
        return done.stderr if code else done.stdout

    ours = ("--organization", "456")
    assert "789  admin  admin@example.com  Admin User\n" in run("member", "list", *ours)
    run("member", "add", "Other@example.com", *ours, "--role", "owner")
    run("member", "role", "member@example.com", "admin", *ours)
    rows = json.loads(run("member", "list", *ours, "--json"))
    assert {row["email"]: row["role"] for row in rows} == {
        "admin@example.com": "admin", "member@example.com": "admin", "other@example.com": "owner",
    }  # fmt: skip
    assert "keeps an owner" in run("member", "remove", "other@example.com", *ours, code=1)
    assert "keeps an owner" in run("member", "role", "other@example.com", "viewer", *ours, code=1)
    run("member", "remove", "member@example.com", *ours)
    assert "is not a member" in run("member", "remove", "member@example.com", *ours, code=1)
    assert "there is no user" in run("member", "add", "nobody@example.com", *ours, code=1)
    assert "there is no organization 9" in run("member", "list", "--organization", "9", code=1)
