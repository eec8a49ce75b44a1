"""A stage for attacks: two organizations with a record of each kind, and an attacker in one of them.

All that can be recognised in the records of the victim, organization 456, is marked: texts, and ids far from others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import httpx2
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    Float,
    ForeignKeyConstraint,
    Integer,
    String,
    Table,
    Uuid,
    insert,
    select,
    update,
)  # fmt: skip

from apex import Apex, load_config
from apex.sql import Fixed, Timestamp
from services import tables
from services.app import CONFIG, create_app
from services.commands.demo_data import _advance_ids, load_demo
from tests.support.serving import serving
from tests.support.sockets import Peer, connected

Row = dict[str, Any]

VICTIM, ATTACKER = 456, 457
USERS = {VICTIM: 789, ATTACKER: 791}
MARK = "canary-of-the-victim"
VICTIMS_NAMESPACE, ATTACKERS_NAMESPACE = UUID(int=456), UUID(int=457)
FIRST_IDS = {VICTIM: 7_000_001, ATTACKER: 8_000_001}
"""New records get ids above the attacker's: none looks like one of the victim's."""

SHARED = ("organizations", "users", "memberships")
"""Tables whose rows the demo has already."""


@dataclass
class Stage:
    """The app, served; ``rows`` are those of both organizations by table, ``removed`` those in the trash of services,
    ``sockets`` the attacker's connections.
    """

    app: Apex
    http: httpx2.AsyncClient
    rows: dict[int, dict[str, Row]]
    removed: dict[int, dict[str, Row]]
    proofs: dict[str, dict[str, str]] = field(default_factory=dict)
    sockets: dict[str, Peer] = field(default_factory=dict)
    connections: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def connect(self) -> None:
        """Open the attacker's connections, again after a change of its rights has ended them."""
        for name, proof in self.proofs.items():
            # A client with a full queue reads nothing any more, not even the server's side of closing.
            peer = connected(self.http, additional_headers=proof, max_queue=None)
            self.sockets[name] = await self.connections.enter_async_context(peer)

    @property
    def ids(self) -> list[Any]:
        """Return all ids of the victim's records."""
        rows = (row for table, row in self.rows[VICTIM].items() if table not in SHARED)
        removed = self.removed[VICTIM].values()
        ids = [row[name] for row in (*rows, *removed) for name in ("id", "uuid") if name in row]
        return [*ids, self.rows[VICTIM]["users"]["uuid"]]

    async def remove_again(self, path: str) -> None:
        """Remove the attacker's record of a service again, if an attempt has restored it."""
        service = self.app.service(path).service
        row = self.removed[ATTACKER][service.table.name]
        mine = service.table.c.id == row["id"]
        await self.app.get("database").execute(update(service.table).where(mine).values(deleted_at=row["deleted_at"]))

    async def victims_rows(self) -> dict[str, list[Row]]:
        """Return all rows of the victim, without events that are not about a change."""
        found = {}
        for table in tenant_tables():
            mine = [owner(table) == VICTIM, *([table.c.method.is_not(None)] if "method" in table.c else [])]
            rows = select(table).where(*mine).order_by(*table.primary_key)
            found[table.name] = await self.app.get("database").execute(rows)
        return found


def owner(table: Table) -> Column[Any]:
    """Return the column with the organization of a row."""
    return table.c.id if table.name == "organizations" else table.c.organization_id


def tenant_tables() -> list[Table]:
    """Return the tables of organizations, each after the tables to which it refers."""
    return [t for t in tables.metadata.sorted_tables if t.name == "organizations" or "organization_id" in t.c]


@asynccontextmanager
async def staged(url: str) -> AsyncIterator[Stage]:
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": url}))
    async with serving(app) as http:
        await load_demo(app)
        rows = {organization: await _fill(app, organization) for organization in (VICTIM, ATTACKER)}
        removed = {organization: await _remove(app, organization, rows[organization]) for organization in rows}
        stage = Stage(app, http, rows, removed)
        await _advance_ids(app)
        await _prove(stage)
        async with stage.connections:
            await stage.connect()
            yield stage


async def _prove(stage: Stage) -> None:
    """Give the attacker a token and a key."""
    app = stage.app
    limits = {"rate_limit": 10_000_000, "rate_window": 60}
    await app.service("organizations").patch(ATTACKER, limits)
    made = await app.service("api-keys")._run("create", data={"organization_id": ATTACKER, "user_id": USERS[ATTACKER]})
    token = app.get("defaultAuthentication").tokens.create(USERS[ATTACKER])[0]
    stage.proofs = {"user": {"authorization": f"Bearer {token}"}, "key": {"x-api-key": made.external["key"]}}


async def _fill(app: Apex, organization: int) -> dict[str, Row]:
    """Store a row in each table, with references to the rows of the other tables."""
    database = app.get("database")
    made: dict[str, Row] = {}
    for table, id in ((tables.users, USERS[organization]), (tables.organizations, organization)):
        made[table.name] = {"id": id, "uuid": _uuid(organization, table.name)}
        marks = {"last_name": _mark(organization, "users")} if table is tables.users else {}
        changed = update(table).where(table.c.id == id).values(uuid=made[table.name]["uuid"], **marks)
        await database.execute(changed)
    member = tables.memberships
    mine = (member.c.user_id == USERS[organization], member.c.organization_id == organization)
    (made[member.name],) = await database.execute(select(member).where(*mine))
    for table in tenant_tables():
        if table.name not in SHARED:
            row = dict(_cells(table, organization, made))
            if "record" in row:  # The log is followed: what it has is sent to those who may read it.
                row["record"] = {"id": row["record_id"], "organization_id": organization, "name": row["record"]}
            try:
                await database.execute(insert(table).values(row))
            except Exception as error:
                raise AssertionError(f"{table.name}: the stage cannot make a row of it: {error}") from error
            made[table.name] = row
    return made


async def _remove(app: Apex, organization: int, living: Mapping[str, Row]) -> dict[str, Row]:
    """Store a removed row in each table with trash, with references to rows that are not removed."""
    made: dict[str, Row] = {}
    for bound in app.services.values():
        if getattr(bound.service, "trash", None) is not None:
            table, place = bound.service.table, len(made)
            cells = dict(_cells(table, organization, living, "removed "))
            more = {"id": FIRST_IDS[organization] + 1_000 + place, "uuid": _uuid(organization, f"removed {table.name}")}
            made[table.name] = cells | more | {bound.service.trash: datetime(2026, 2, 1, tzinfo=UTC)}
            await app.get("database").execute(insert(table).values(made[table.name]))
    return made


def _cells(table: Table, organization: int, made: Mapping[str, Row], what: str = "") -> Iterator[tuple[str, Any]]:
    refers = dict(references(table))
    for column in table.columns:
        name = str(column.name)
        if name == "organization_id":
            yield name, organization
        elif name in refers:
            target, key = refers[name]
            yield name, made[target][key] if target in made else None
        elif name == "id":
            yield name, FIRST_IDS[organization] + len(made)
        elif name == "uuid":
            yield name, _uuid(organization, table.name)
        elif name != "deleted_at" and column.computed is None:
            yield name, _cell(table, column, organization, what)


def references(table: Table) -> Iterator[tuple[str, tuple[str, str]]]:
    """Return the column to which each reference refers."""
    for constraint in table.constraints:
        if isinstance(constraint, ForeignKeyConstraint):
            for element in constraint.elements:
                name, target = str(element.parent.name), element.column
                if name != "organization_id":
                    yield name, (str(target.table.name), str(target.name))


def _cell(table: Table, column: Column[Any], organization: int, what: str) -> Any:
    """Return a value of the column's type. If possible, it identifies the victim's records."""
    kind = column.type
    if isinstance(kind, Timestamp):
        return datetime(2026, 1, 1, tzinfo=UTC)
    if column.name in _FORMS:
        return _FORMS[column.name][organization]
    if isinstance(kind, String):
        text = _mark(organization, f"{what}{table.name} {column.name}")
        room = kind.length or 10_000
        return text[:room] if room >= len(MARK) else ("v" if organization == VICTIM else "a") * min(room, 2)
    for types, value in _CELLS:
        if isinstance(kind, types):
            return value
    raise AssertionError(f"{table.name}.{column.name}: the stage knows no value of {kind!r}")


_FORMS = {
    "email": {VICTIM: f"{MARK}@example.com", ATTACKER: "attacker@example.com"},
    "phone": {VICTIM: "7000000456", ATTACKER: "8000000457"},
    "phone_country_code": dict.fromkeys((VICTIM, ATTACKER), "+1"),
    "entity": dict.fromkeys((VICTIM, ATTACKER), "contacts"),
}
"""Values of the columns whose texts have a form."""

_CELLS: tuple[tuple[Any, Any], ...] = (
    (Boolean, False),
    ((BigInteger, Integer), 1),
    (Fixed, Decimal(1)),
    (Float, 1.0),
    (Date, date(2026, 1, 1)),
    (JSON, {}),
    (Uuid, UUID(int=1)),
)


def _mark(organization: int, what: str) -> str:
    return f"{MARK if organization == VICTIM else 'of-the-attacker'} {what}"


def _uuid(organization: int, name: str) -> UUID:
    return uuid5(VICTIMS_NAMESPACE if organization == VICTIM else ATTACKERS_NAMESPACE, name)
