"""Tests of ``apex person`` and ``apex audit``, as an operator uses them."""

from __future__ import annotations

import json
import secrets

from sqlalchemy import text

from apex.migrations.revisions import connect
from tests.process.commands import apex_here

NOBODY = f"nobody_{secrets.token_hex(4)}"
OURS = ("--organization", "456")
ENTRY = (
    "INSERT INTO audit (organization_id, created_at, service, method, record_id) "
    "VALUES (456, '{day}T12:00:00.000Z', 'contacts', 'patch', 123)"
)


def run(url: str, *arguments: str, code: int = 0) -> str:
    done = apex_here(*arguments, DATABASE_URL=url)
    assert done.returncode == code, done
    return done.stderr if code else done.stdout


def test_a_person_is_exported_and_erased(demo_sqlite_url: str) -> None:
    known = json.loads(run(demo_sqlite_url, "person", "export", "123", *OURS))
    assert (known["contacts"]["email"], known["audit"]) == ("john.doe@example.com", [])
    assert "No record found" in run(demo_sqlite_url, "person", "export", "201", *OURS, code=1)
    assert run(demo_sqlite_url, "person", "erase", "123", *OURS, "--yes") == "Contact 123 erased.\n"
    assert "No record found" in run(demo_sqlite_url, "person", "erase", "123", *OURS, "--yes", code=1)


ANSWER = """
    INSERT INTO idempotent_answers (caller, key, request, created_at, body) VALUES (
        'jwt 789', 'key', 'digest', '2026-01-01T00:00:00.000Z',
        '{"id"\\:2,"user_id"\\:790,"user"\\:{"id"\\:790,"email"\\:"member@example.com"}}'
    )
"""


def test_a_user_is_erased(demo_sqlite_url: str) -> None:
    with connect(demo_sqlite_url) as connection, connection.begin():
        connection.execute(text(ANSWER))
    assert run(demo_sqlite_url, "user", "remove", "member@example.com", "--erase").endswith("erased.\n")
    with connect(demo_sqlite_url) as connection:
        row = connection.execute(text("SELECT email, first_name, password FROM users WHERE id = 790")).one()
        assert tuple(row) == ("erased-790@users.invalid", "Erased", None)
        assert connection.scalar(text("SELECT count(*) FROM memberships WHERE user_id = 790")) == 0
        assert "member@example.com" not in connection.scalar(text("SELECT body FROM idempotent_answers"))


def test_old_entries_of_the_audit_are_deleted(demo_url: str) -> None:
    with connect(demo_url) as connection, connection.begin():
        for day in ("2020-01-01", "2024-12-31", "2025-01-01", "2020-06-01"):
            connection.execute(text(ENTRY.format(day=day)))
    assert run(demo_url, "audit", "prune", "--before", "2025-01-01") == "3 entries deleted.\n"
    assert run(demo_url, "audit", "prune", "--before", "2025-01-01") == "0 entries deleted.\n"
    assert "is in the future" in run(demo_url, "audit", "prune", "--before", "2999-01-01", code=2)
    assert "'2025' is not a day such as 2026-01-31" in run(demo_url, "audit", "prune", "--before", "2025", code=2)
    with connect(demo_url) as connection:
        assert connection.scalars(text("SELECT id FROM audit")).all() == [3]
    if demo_url.startswith("postgresql"):
        with connect(demo_url) as connection, connection.begin():
            connection.execute(
                text(f"CREATE ROLE {NOBODY} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {NOBODY}")
            )
        try:
            other = demo_url.replace("postgres@", f"{NOBODY}@")
            assert "the owner of the tables" in run(other, "audit", "prune", "--before", "2026-01-01", code=1)
        finally:
            with connect(demo_url) as connection, connection.begin():
                connection.execute(text(f"DROP OWNED BY {NOBODY}; DROP ROLE {NOBODY}"))
    assert "--before" in run(demo_url, "audit", "prune", code=2)
    assert "--before" in run(demo_url, "audit", "prune", "--before", "yesterday", code=2)
