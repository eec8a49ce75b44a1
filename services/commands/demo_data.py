"""The demo data: the records in the examples of the contract, a second organization, and a large one on demand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from apex import Apex, Params
from apex.auth import hash_key
from apex.types import Row
from hooks.search_forms import normalise
from services.shared.examples import DEMO_PASSWORD, uuid_of
from services.tables import metadata

KEY = "apex_000000000456_only-for-the-demo-never-for-production-0123"
LARGE = 458
"""The id of the large organization."""
CHUNK = 2_000

_DAY = datetime(2023, 1, 1, tzinfo=UTC)
_FIRST, _MIDDLE, _LAST = map(
    str.split,
    (
        "Ada Ben Cora Dan Eva Finn Gia Hugo Ida Jon Kim Leo Mia Nils Ola Pia Quinn Rosa Sam Tina Uwe Vera Will Zoe",
        "ba be bo da de do fa fe ka ke la le lo ma me mo na ne ra re ro sa se ta te to va ve",
        "son sen berg feld dale field ford gate ham hill land ley man mark ridge stone ton well wood worth",
    ),
)


def _times(day: int = 0) -> Row:
    return dict.fromkeys(("created_at", "updated_at"), _DAY + timedelta(days=day))


def _uuid(id: int) -> UUID:
    return UUID(uuid_of(id))


def _user(id: int, email: str, first: str, last: str, password: str) -> Row:
    names = {"email": email, "first_name": first, "last_name": last, "password": password}
    return {"id": id, "uuid": _uuid(id), **names, **_times()}


def _company(id: int, organization: int, owner: int, name: str) -> Row:
    owned = {"created_by_user_id": owner, "owned_by_user_id": owner}
    names = {"name": name, "name_form": normalise(name)}
    return {"id": id, **names, "organization_id": organization, **owned, **_times()}


def _custom_field(id: int, name: str, kind: str, **more: Any) -> Row:
    owned = {"organization_id": 456, "created_by_user_id": 789, "owned_by_user_id": 789}
    return {"id": id, "entity": "contacts", "name": name, "type": kind, **owned, **more, **_times()}


def _contact(organization: int, owner: int, first: str, last: str, email: str, **more: Any) -> Row:
    return {
        "first_name": first,
        "last_name": last,
        "email": email,
        "first_name_form": normalise(first),
        "last_name_form": normalise(last),
        "email_form": normalise(email),
        "phone_country_code": "+1",
        "phone_country_iso": "US",
        "organization_id": organization,
        "created_by_user_id": owner,
        "owned_by_user_id": owner,
        **more,
    }


async def load_demo(app: Apex) -> bool:
    """Store the demo data in one transaction. Return False if they are already stored."""
    organizations = app.service("organizations")
    if await organizations.find({"query": {"id": 456}, "paginate": False}):
        return False
    password = await app.get("defaultAuthentication").passwords.hash(DEMO_PASSWORD)
    async with app.get("database").transaction():
        for path, rows in _records(password).items():
            await _store(app, path, rows)
        await _advance_ids(app)
    return True


async def load_large(app: Apex, rows: int, progress: Callable[[int], None]) -> None:
    """Add contacts to a large organization, of which the demo's admin is a member.

    ``progress`` is called with the number of contacts in each chunk.
    """
    if not await app.service("organizations").find({"query": {"id": LARGE}, "paginate": False}):
        async with app.get("database").transaction():
            await _store(app, "organizations", [{"id": LARGE, "name": "Large Corp", **_times()}])
            await _store(app, "memberships", [{"organization_id": LARGE, "user_id": 789, "role": "admin", **_times()}])
            await _advance_ids(app)
    for start in range(0, rows, CHUNK):
        chunk = list(_people(start, min(CHUNK, rows - start)))
        await _store(app, "contacts", chunk)
        progress(len(chunk))


async def _store(app: Apex, path: str, rows: Sequence[Row]) -> None:
    await app.service(path).service.create(
        list(rows), Params({"adapter": {"multi": True}, "query": {"$select": ["id"]}})
    )


async def _advance_ids(app: Apex) -> None:
    """Let PostgreSQL continue after the ids that are given here, which its sequences do not notice."""
    database = app.get("database")
    if database.executor.dialect == "postgresql":
        for table in (table for table in metadata.sorted_tables if "id" in table.c):
            last = select(func.max(table.c.id)).scalar_subquery()
            await database.execute(select(func.setval(func.pg_get_serial_sequence(table.name, "id"), last)))


def _records(password: str) -> dict[str, list[Row]]:
    fields = {"Industry": "Technology", "Preferred Contact Method": "Email"}
    john = {
        "id": 123,
        "uuid": _uuid(123),
        "phone": "1234567890",
        "company_id": 101,
        "avatar_url": "/path/to/avatar.jpg",
    }
    return {
        "organizations": [
            {"id": 456, "uuid": _uuid(456), "name": "Example Organization", **_times()},
            {"id": 457, "uuid": _uuid(457), "name": "Other Organization", **_times()},
        ],
        "users": [
            _user(789, "admin@example.com", "Admin", "User", password),
            _user(790, "member@example.com", "Member", "User", password),
            _user(791, "other@example.com", "Other", "Admin", password),
        ],
        "memberships": [
            {"organization_id": 456, "user_id": 789, "role": "admin", **_times()},
            {"organization_id": 456, "user_id": 790, "role": "member", **_times()},
            {"organization_id": 457, "user_id": 791, "role": "admin", **_times()},
        ],
        "api-keys": [
            {
                "organization_id": 456, "user_id": 789, "name": "Demo", "prefix": KEY[:17], "hash": hash_key(KEY),
                "created_by_user_id": 789, **_times(),
            },
        ],
        "companies": [
            _company(101, 456, 789, "Example Corp"),
            _company(102, 456, 789, "Sample Inc"),
            _company(201, 457, 791, "Elsewhere Ltd"),
        ],
        "custom-fields": [
            _custom_field(301, "Industry", "text"),
            _custom_field(302, "Preferred Contact Method", "select", options=["Email", "Phone", "SMS"]),
        ],
        "contacts": [
            _contact(456, 789, "John", "Doe", "john.doe@example.com", **john, custom_fields_by_name=fields, **_times()),
            _contact(
                456, 789, "Johnny", "Smith", "johnny.smith@example.com",
                id=124, uuid=_uuid(124), phone="9876543210", company_id=102, **_times(1),
            ),
            _contact(
                457, 791, "Olga", "Other", "olga@example.org",
                id=201, uuid=_uuid(201), phone="2025550101", company_id=201, **_times(),
            ),
            _contact(457, 791, "Otto", "Other", "otto@example.org", id=202, phone="2025550102", **_times(1)),
        ],
    }  # fmt: skip


def _people(start: int, count: int) -> Iterator[Row]:
    chance = random.Random(start)
    for number in range(start, start + count):
        first, last = chance.choice(_FIRST), _surname(chance)
        yield _contact(
            LARGE, 789, first, last, f"{first}.{last}.{number}@example.com".lower(),
            phone=f"{2_025_000_000 + number % 975_000_000}", **_moment(number),
        )  # fmt: skip


def _surname(chance: random.Random) -> str:
    return (chance.choice(_MIDDLE) + chance.choice(_MIDDLE) + chance.choice(_LAST)).capitalize()


def _moment(number: int) -> Row:
    return dict.fromkeys(("created_at", "updated_at"), _DAY + timedelta(seconds=number))
