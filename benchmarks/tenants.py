"""The data of the comparison: contacts of many organizations in a new database of the CRM."""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import psycopg

from apex import load_config
from apex.migrations.migrate import upgrade
from benchmarks import people
from services.app import CONFIG

FIRST_ORGANIZATION, FIRST_USER = 1_001, 10_001
SETTINGS = load_config(CONFIG, {"APEX_ENV": "development"})["authentication"]
MOMENT = "2024-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Tenants:
    """The organizations. Contacts (from 1) and users (from 0) are assigned to them in turn."""

    organizations: int = 20
    users: int = 200
    contacts: int = 100_000

    def owner(self, number: int) -> people.Owner:
        """Return the organization and the owner of the n-th contact, from 0."""
        place = number % self.organizations
        return FIRST_ORGANIZATION + place, FIRST_USER + place

    def tokens(self, count: int) -> Iterator[tuple[str, int]]:
        """Different access tokens as apex makes them, each with the place of its user's organization. The users take
        turns.
        """
        options, now = SETTINGS["jwtOptions"], int(time.time())
        claims = {"iat": now, "exp": now + 86_400, "aud": options["audience"], "iss": options["issuer"]}
        for number in range(count):
            user = number % self.users
            own = {"sub": str(FIRST_USER + user), "jti": str(UUID(int=number))}
            token = jwt.encode({**claims, **own}, SETTINGS["secret"], options["algorithm"], options["header"])
            yield token, user % self.organizations

    def accounts(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of organizations, users and memberships."""
        times = {"created_at": MOMENT, "updated_at": MOMENT}
        organizations = [
            {"id": FIRST_ORGANIZATION + place, "uuid": UUID(int=place), "name": f"Organization {place}"}
            | {"subscription_status": "active", **times}
            for place in range(self.organizations)
        ]
        users = [
            {"id": FIRST_USER + n, "uuid": UUID(int=n), "email": f"user{n}@example.com", "first_name": "User", **times}
            for n in range(self.users)
        ]
        memberships = [
            {"organization_id": FIRST_ORGANIZATION + n % self.organizations, "user_id": FIRST_USER + n}
            | {"role": "member", **times}
            for n in range(self.users)
        ]
        return {"organizations": organizations, "users": users, "memberships": memberships}


def fill(url: str, tenants: Tenants) -> None:
    """Migrate the database and fill its tables."""
    upgrade(url)
    if url.startswith("sqlite"):
        _fill_sqlite(url.removeprefix("sqlite:///"), tenants)
        return
    with psycopg.connect(url, autocommit=True) as connection:
        for table, rows in tenants.accounts().items():
            with connection.cursor().copy(f"COPY {table} ({', '.join(rows[0])}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(list(row.values()))
        connection.execute("ANALYZE organizations, users, memberships")
    people.load(url, tenants.contacts, owner=tenants.owner)


def _fill_sqlite(path: str, tenants: Tenants) -> None:
    with sqlite3.connect(path) as connection:
        for table, rows in tenants.accounts().items():
            values = [[_plain(value) for value in row.values()] for row in rows]
            connection.executemany(_insert(table, list(rows[0])), values)
        contacts = (
            [_plain(UUID(int=number + 1)), *people.row(number, person, "{}", tenants.owner(number))[1:]]
            for number, person in enumerate(people.people(tenants.contacts))
        )
        connection.executemany(_insert("contacts", list(people.COLUMNS)), contacts)
        connection.execute("ANALYZE")
    connection.close()


def _insert(table: str, columns: list[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _plain(value: object) -> object:
    return value.hex if isinstance(value, UUID) else value


def clear_created(url: str, tenants: Tenants) -> None:
    """Delete the created contacts, so that each server starts with the same table."""
    with people.settled(url) as connection:
        connection.execute("DELETE FROM contacts WHERE id > %s", (tenants.contacts,))
        connection.execute("TRUNCATE audit")
        connection.execute("VACUUM contacts")


@dataclass(frozen=True)
class TokenFile:
    """A file of tokens for wrk, one a line, with the index of the organization and its path if there is one."""

    path: Path
    count: int


@contextmanager
def token_file(tenants: Tenants, count: int, paths: Sequence[str] = ()) -> Iterator[TokenFile]:
    """Return ``paths`` by the index of the organization."""
    with tempfile.NamedTemporaryFile("w", prefix="apex-tokens-") as file:
        file.writelines(f"{token} {place} {paths[place] if paths else ''}\n" for token, place in tenants.tokens(count))
        file.flush()
        yield TokenFile(Path(file.name), count)


def sample(tenants: Tenants, seed: int = 3) -> dict[str, Any]:
    """A token with a contact and an organization that it can access."""
    place = random.Random(seed).randrange(tenants.organizations)
    token = next(token for token, at in tenants.tokens(tenants.users) if at == place)
    return {"token": token, "id": 1 + place, "organization": FIRST_ORGANIZATION + place, "user": FIRST_USER + place}


def new_contact(organization: int, number: int) -> dict[str, Any]:
    """Return the data of a create, as ``wrk.lua`` sends it."""
    return {
        "organization_id": organization, "first_name": "Mária", "last_name": f"Novák {number}",
        "email": f"maria.novak{number}@example.com", "phone": f"20255{number:05}",
    }  # fmt: skip


def encoded(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
