"""Records that are people: all that is known of one, and erasure, which leaves ids, times and who did what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import Column, ForeignKeyConstraint, String, Table, bindparam, cast, func, or_, select, update

from apex import Apex, Params, Schema
from apex.common import now
from apex.describe import describe
from apex.encoding import decode, encode
from apex.errors import Forbidden, NotFound
from apex.schema import Id
from apex.sql import Database
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row
from hooks.audit import HIDDEN
from hooks.tenancy import ORGANIZATION_ID, covers
from services.accounts.audit import audit
from services.tables import answers
from services.transfer.transferable import Transferable

KEPT = ("id", "created_at", "updated_at", "deleted_at", "system_type")
"""Fields that tell nothing of a person, beside those that end in ``_id``."""

ERASED = {
    "title": "Erased",
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "changed": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
    "required": ["id", "changed"],
}


Told = set[tuple[str, Any]]
"""The data of a person: texts with an empty name, and other values of custom fields with the field's name."""


class PersonIdSchema(Schema):
    id = Id(required=True)
    organization_id = Id(required=True)


class Persons(Transferable):
    """A service whose records are people. Admins get all that is known of one with ``personal_data``, and erase it.

    ``table.info["copies"]`` names the columns that hold copies of its fields, by the column that refers to it.
    """

    methods: Sequence[str] = (*Transferable.methods, "personal_data", "erase")
    summaries: ClassVar[Mapping[str, str]] = {
        "personal_data": "Get all that is known of a person",
        "erase": "Erase a person",
    }
    custom: ClassVar[Mapping[str, type[Schema]]] = {
        **Transferable.custom,
        "personal_data": PersonIdSchema,
        "erase": PersonIdSchema,
    }
    reads: ClassVar[Sequence[str]] = (*Transferable.reads, "personal_data")
    least_roles: ClassVar[Mapping[str, str]] = {"personal_data": "admin", "erase": "admin"}

    @describe(result={"type": "object"}, errors=(404,))
    async def personal_data(self, data: Row, params: Params) -> Row:
        """Return all that is known of a person: the record, those that refer to it, and its audit.

        Raises NotFound, and Forbidden for an API key that was not made for all services whose records are told.
        """
        known = await collect(self.app, self.path, data[ORGANIZATION_ID], data["id"])
        services = (params.authentication or {}).get("services")
        if services is not None and (beyond := [path for path in known if not covers(services, path)]):
            raise Forbidden(f"This API key was not made for {', '.join(map(repr, beyond))}")
        return known

    @describe(result=ERASED, errors=(404,))
    async def erase(self, data: Row, params: Params) -> Row:
        """Delete a person for good, and what is copied of it. Records that refer to it stay, without it.

        They are changed by their services, with events and audit. Raises NotFound.
        """
        changed = await erase(self.app, self.path, data[ORGANIZATION_ID], data["id"], params.user)
        return {"id": data["id"], "changed": changed}


async def collect(app: Apex, path: str, organization: int, id: int) -> Row:
    """Return the record of a person, the records that refer to it by service, and the entries of the audit about it.

    The record is None if it was deleted for good and the audit still tells of it. Raises NotFound.
    """
    database, table = app.get("database"), app.service(path).service.table
    person, entries = await _told_of(database, table, path, organization, id)
    known: Row = {path: person and _shown(person)}
    for column in _references(table):
        other = column.table
        theirs = (other.c.organization_id == organization, column == id)
        rows = await database.execute(select(other).where(*theirs).order_by(other.c.id))
        known[_path(other)] = [_shown(row) for row in rows]
        for part_path, key in getattr(app.service(_path(other)).service, "parts", ()):
            part = app.service(part_path).service.table
            parts = select(part).where(part.c.organization_id == organization, part.c[key].in_([r["id"] for r in rows]))
            known[part_path] = [_shown(row) for row in await database.execute(parts.order_by(part.c.id))]
    return {**known, "audit": entries}


async def erase(app: Apex, path: str, organization: int, id: int, user: Any = None) -> dict[str, int]:
    """Delete a person for good, and its data wherever they are copied. Raises NotFound.

    Return how many records of which service refer to it no more. All of it is one unit of work. A person whose record
    was deleted before is erased from the audit.
    """
    database: Database = app.get("database")
    service = app.service(path)
    table, inside = service.service.table, {"scope": {ORGANIZATION_ID: organization}, "user": user, "loaded": True}
    async with database.transaction():
        person, entries = await _told_of(database, table, path, organization, id, lock=True)
        mine = (table.c.organization_id == organization, table.c.id == id)
        if person and person["deleted_at"] is not None:  # What was removed is erased as what was not.
            await database.execute(update(table).where(*mine).values(deleted_at=None, **_no_key(table)))
        changed: dict[str, int] = {}
        for column in _references(table):
            other = column.table
            ids = await _named(database, column, organization, id)
            changed[_path(other)] = await _release(app, column, organization, id, inside)
            await _erase_audit(database, organization, _path(other), ids, _copies(column))
        if person:
            await service.remove(id, {**inside, "permanent": True})
        await _erase_audit(database, organization, path, [id], _telling(table))
        await erase_answers(database, id, [*_sides(entries), *([person] if person else [])], organization)
    return changed


async def _told_of(
    database: Database, table: Table, path: str, organization: int, id: int, lock: bool = False
) -> tuple[Row | None, list[Row]]:
    """Return the record of a person, or None, and the entries of the audit about it. Raises NotFound if none tells."""
    found = select(table).where(table.c.organization_id == organization, table.c.id == id)
    rows = await database.execute(found.with_for_update() if lock else found)
    c = audit.c
    about = select(audit).where(c.organization_id == organization, c.service == path, c.record_id == id)
    entries = await database.execute(about.order_by(c.id))
    if not rows and not _told(_sides(entries)):
        raise NotFound(f"No record found for id '{id}'")
    return rows[0] if rows else None, entries


async def _release(app: Apex, column: Column[Any], organization: int, id: int, inside: Row) -> int:
    """Empty a reference to a record. Records that are not removed are changed by their service."""
    database, table = app.get("database"), column.table
    theirs = (table.c.organization_id == organization, column == id)
    empty = {column.name: None}
    living = await database.execute(
        select(table.c.id).where(*theirs, table.c.deleted_at.is_(None)).order_by(table.c.id)
    )
    for row in living:
        await app.service(_path(table)).patch(row["id"], dict(empty), inside)
    copies = dict.fromkeys(_copies(column))
    removed = update(table).where(*theirs).values({**empty, **copies, "updated_at": now()})
    await database.execute(removed)
    return len(living)


async def _named(database: Database, column: Column[Any], organization: int, id: int) -> list[int]:
    """Return the ids of the records that refer to one, or did so by the audit."""
    table, c = column.table, audit.c
    ids = await database.execute(select(table.c.id).where(table.c.organization_id == organization, column == id))
    if not _copies(column):
        return [row["id"] for row in ids]
    read = func.json_extract if database.dialect.name == "sqlite" else func.jsonb_extract_path_text
    key = f"$.{column.name}" if database.dialect.name == "sqlite" else column.name
    named = or_(*(cast(read(side, key), String) == str(id) for side in (c.before, c.after)))
    before = select(c.record_id.label("id")).distinct()
    before = before.where(c.organization_id == organization, c.service == _path(table), named)
    return sorted({row["id"] for row in [*ids, *await database.execute(before)]})


async def _erase_audit(
    database: Database, organization: int, path: str, ids: Sequence[int], names: Sequence[str]
) -> None:
    """Hide these fields in the entries about records. The app may do this to the audit, and nothing else."""
    if not ids or not names:
        return
    if database.dialect.name == "postgresql":
        texts = {"organization": str(organization), "path": path, "ids": _joined(ids), "names": _joined(names)}
        erased = select(func.audit_erase(*(bindparam(name, type_=String()) for name in texts)))
        await database.fetch(database.compile(erased, writes=True), texts)
        return
    c = audit.c
    entries = select(c.id, c.before, c.after).where(
        c.organization_id == organization, c.service == path, c.record_id.in_(ids)
    )
    for entry in await database.execute(entries):
        hidden = {side: _without_fields(entry[side], names) for side in ("before", "after")}
        await database.execute(update(audit).where(c.id == entry["id"]).values(hidden))


async def erase_answers(database: Database, id: int, rows: Sequence[Row], organization: int | None = None) -> None:
    """Hide what rows tell of a person in stored answers, and in events that no process is known to have sent.

    With an ``organization`` those about its records alone: the same id may be that of another service's record there.
    """
    c, told = answers.c, _told(rows)
    marks = [f'{name}":{id}{end}' for name in ('"id', "_id") for end in ",}"]
    uuids = {str(row["uuid"]) for row in rows if "uuid" in row}
    with tenant_context(ALL_TENANTS):
        named = or_(*(text.contains(mark, autoescape=True) for text in (c.body, c.untold) for mark in (*marks, *uuids)))
        for answer in await database.execute(select(c.caller, c.key, c.body, c.untold, c.about).where(named)):
            about = {fields.get(ORGANIZATION_ID) for fields in answer["about"] or ()}
            if organization not in (None, *about) and not any(uuid in answer["body"] for uuid in uuids):
                continue
            hidden = {name: _hidden(answer[name], told) for name in ("body", "untold")}
            this = (c.caller == answer["caller"], c.key == answer["key"])
            await database.execute(update(answers).where(*this).values(hidden))


def _hidden(lines: str | None, told: Told) -> str | None:
    """Return JSON texts, one a line, without what is told of a person."""
    if lines is None:
        return None
    return "\n".join(encode(_without_values(decode(line.encode()), told)).decode() for line in lines.split("\n"))


def _without_values(value: Any, told: Told, name: str = "") -> Any:
    """Hide texts of a person wherever they are, and its other values under their names."""
    if isinstance(value, dict):
        return {name: _without_values(inner, told, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_values(inner, told, name) for inner in value]
    is_told = (name, HIDDEN) in told or ("" if isinstance(value, str) else name, value) in told
    return HIDDEN if is_told else value


def _without_fields(value: Any, names: Sequence[str]) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: HIDDEN if name in names and inner is not None else inner for name, inner in value.items()}


def _sides(entries: Iterable[Row]) -> list[Row]:
    """Return the records as they were before and after each entry of the audit."""
    return [entry[side] for entry in entries for side in ("before", "after") if entry[side]]


def _told(rows: Sequence[Row]) -> Told:
    """Return what rows tell of a person, as either API has it."""
    told = {one for row in rows for one in _values(row)}
    codes, digits = ({row.get(name) for row in rows} - {None, HIDDEN} for name in ("phone_country_code", "phone"))
    return told | {("", f"{code}{number}") for code in codes for number in digits}


def _values(row: Row) -> Iterator[tuple[str, Any]]:
    for column, value in row.items():
        fields: Row = value if isinstance(value, dict) else {"": value}
        for name, field in fields.items() if _tells(column) else ():
            for one in field if isinstance(field, list) else [field]:
                if isinstance(one, str) and one not in ("", HIDDEN):
                    yield "", one
                elif name and one is not None:  # Of a field with the name of a secret the audit tells nothing.
                    yield name, one


def _telling(table: Table) -> list[str]:
    return [column.name for column in table.c if _tells(column.name)]


def _tells(name: str) -> bool:
    """Return True for a field that tells something of a person."""
    return name in ("crm_id", "channel_whatsapp_wa_id", "channel_instagram_user_id") or not (
        name in KEPT or name.endswith("_id") or name == "uuid"
    )


def _no_key(table: Table) -> Row:
    """Values that let a record that was removed be one again: another may have its key in another system now."""
    return {name: None for name in ("crm_id", "crm_source") if name in table.c}


def _shown(row: Row) -> Row:
    """A record without the forms that are searched."""
    return {name: value for name, value in row.items() if not name.endswith(("_form", "_search"))}


def _copies(column: Column[Any]) -> Sequence[str]:
    copies: Sequence[str] = column.table.info.get("copies", {}).get(column.name, ())
    return copies


def _path(table: Table) -> str:
    return table.name.replace("_", "-")


def _joined(values: Iterable[Any]) -> str:
    return ",".join(map(str, values))


def _references(table: Table) -> Iterator[Column[Any]]:
    """The columns of all tables that refer to a row of this one, beside the organization."""
    for other in table.metadata.sorted_tables:
        for constraint in other.constraints:
            if isinstance(constraint, ForeignKeyConstraint) and constraint.referred_table is table:
                yield constraint.elements[-1].parent
