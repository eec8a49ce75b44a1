"""Personal data: everything that is stored about a person, and its erasure.

Erasure leaves ids and times, and the audit still tells who did what. The data of the person themselves are replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import Column, String, Table, bindparam, cast, func, or_, select, update

from apex import Apex, Params, Schema
from apex.common import HIDDEN, foreign_keys_to, now
from apex.describe import describe
from apex.encoding import decode, encode
from apex.errors import Forbidden, NotFound
from apex.permissions import Rule, can
from apex.relations import Relation
from apex.schema import IdField
from apex.sql import Database
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row
from hooks.tenancy import ORGANIZATION_ID, covers
from services.accounts.audit import Audit, audit, shown_entry
from services.tables import answers
from services.transfer.transferable import Transferable

NOT_PERSONAL = ("id", "uuid", "created_at", "updated_at", "deleted_at", "system_type")
"""Fields without personal data, as are those that end in ``_id``."""

EXTERNAL_IDS = ("crm_id", "channel_whatsapp_wa_id", "channel_instagram_user_id")
"""Personal data although they end in ``_id``: other systems know the person by them."""

ERASE_RESULT = {
    "title": "Erased",
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "changed": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
    "required": ["id", "changed"],
}


PersonalValues = set[tuple[str, Any]]
"""The personal data of records: texts as ``("", text)``, and other values of custom fields as ``(name, value)``."""


class PersonIdSchema(Schema):
    """The data of ``personal_data`` and ``erase``."""

    id = IdField(required=True)
    organization_id = IdField(required=True)


class Persons(Transferable):
    """A service whose records are people. Admins may read everything that is stored about one, and erase it.

    A table that copies fields of these records names the columns of its copies in ``table.info["copies"]``, by the
    column that refers to the record.
    """

    methods: Sequence[str] = (*Transferable.methods, "personal_data", "erase")
    summaries: ClassVar[Mapping[str, str]] = {
        "personal_data": "Get everything that is stored about a person",
        "erase": "Erase a person",
    }
    custom: ClassVar[Mapping[str, type[Schema]]] = {
        **Transferable.custom,
        "personal_data": PersonIdSchema,
        "erase": PersonIdSchema,
    }
    reads: ClassVar[Sequence[str]] = (*Transferable.reads, "personal_data")
    permissions: ClassVar[Mapping[str, Rule]] = {
        **Transferable.permissions,
        "admin": can("restore", "personal_data", "erase"),
    }

    @describe(result={"type": "object"}, errors=(404,))
    async def personal_data(self, data: Row, params: Params) -> Row:
        """Return everything that is stored about a person: the record, records that refer to it, and audit entries.

        Raises NotFound, and Forbidden for an API key that may not call the services of all these records.
        """
        found = await collect(self.app, self.path, data[ORGANIZATION_ID], data["id"])
        services = (params.authentication or {}).get("services")
        if services is not None and (beyond := [path for path in found if not covers(services, path)]):
            raise Forbidden(f"This API key was not made for {', '.join(map(repr, beyond))}")
        return found

    @describe(result=ERASE_RESULT, errors=(404,))
    async def erase(self, data: Row, params: Params) -> Row:
        """Delete a person and all copies of its data for good. Records that refer to the person stay, without it.

        Their services change them, so events and audit entries follow. Raises NotFound.
        """
        changed = await erase(self.app, self.path, data[ORGANIZATION_ID], data["id"], params.user)
        return {"id": data["id"], "changed": changed}


def references_to(table: Table) -> list[Column[Any]]:
    """Return the columns of all tables that refer to a row of this one. The organization is not among them."""
    return [key.elements[-1].parent for key in foreign_keys_to(table)]


async def collect(app: Apex, path: str, organization: int, id: int) -> Row:
    """Return the record of a person, the records that refer to it and its audit entries, by the path of their service.

    If only the audit still knows the person, the record is None. Raises NotFound.
    """
    database, table = app.get("database"), app.service(path).service.table
    person, entries = await _find(database, table, path, organization, id)
    found: Row = {path: person and _without_search(person)}
    for column in references_to(table):
        other = column.table
        referring = (other.c.organization_id == organization, column == id)
        rows = await database.execute(select(other).where(*referring).order_by(other.c.id))
        found[_path(other)] = [_without_search(row) for row in rows]
        for relation in app.service(_path(other)).service.relations.values():
            if relation.on_remove == "cascade":
                part = app.service(relation.service).service.table
                of_rows = part.c[relation.key].in_([row["id"] for row in rows])
                parts = select(part).where(part.c.organization_id == organization, of_rows).order_by(part.c.id)
                found[relation.service] = [_without_search(row) for row in await database.execute(parts)]
    return {**found, "audit": entries}


async def erase(app: Apex, path: str, organization: int, id: int, user: Any = None) -> dict[str, int]:
    """Delete a person and all copies of its data for good, in one transaction.

    Return how many records of each service referred to the person. If the record was deleted for good before, the
    person is erased from the audit. Raises NotFound.
    """
    database: Database = app.get("database")
    service = app.service(path)
    table, params = service.service.table, {"scope": {ORGANIZATION_ID: organization}, "user": user, "loaded": True}
    async with database.transaction():
        person, entries = await _find(database, table, path, organization, id, lock=True)
        this_person = (table.c.organization_id == organization, table.c.id == id)
        if person and person["deleted_at"] is not None:
            # The service removes only records that are not removed. Another record may have the same CRM id now.
            unique = {name: None for name in ("crm_id", "crm_source") if name in table.c}
            await database.execute(update(table).where(*this_person).values(deleted_at=None, **unique))
        changed: dict[str, int] = {}
        for column in references_to(table):
            other = column.table
            ids = await _referring_ids(database, column, organization, id)
            changed[_path(other)] = await _clear_references(app, column, organization, id, params)
            await _erase_audit(app, organization, _path(other), ids, [*_copies(column), *_shown_as(app, column)])
        if person:
            await service.remove(id, {**params, "permanent": True})
        await _erase_audit(app, organization, path, [id], [c.name for c in table.c if _is_personal(c.name)])
        await erase_answers(database, id, [*_records(entries), *([person] if person else [])], organization)
    return changed


async def _find(
    database: Database, table: Table, path: str, organization: int, id: int, lock: bool = False
) -> tuple[Row | None, list[Row]]:
    """Return the record of a person, or None, and its audit entries. Raises NotFound if neither has personal data."""
    record = select(table).where(table.c.organization_id == organization, table.c.id == id)
    rows = await database.execute(record.with_for_update() if lock else record)
    entries = await _entries(database, organization, path, id)
    if not rows and not _personal_values(_records(entries)):
        raise NotFound(f"No record found for id '{id}'")
    return rows[0] if rows else None, entries


async def _entries(database: Database, organization: int, path: str, id: int) -> list[Row]:
    """Return the audit of a record, as the service ``audit`` shows it."""
    c = audit.c
    shown = [column for column in c if column.name not in {*Audit.private} - {"record"}]
    about = select(*shown).where(c.organization_id == organization, c.service == path, c.record_id == id)
    return [shown_entry(entry) for entry in await database.execute(about.order_by(c.id))]


async def _clear_references(app: Apex, column: Column[Any], organization: int, id: int, params: Row) -> int:
    """Set the references to a person to null. Return how many records their service changed.

    Records that are removed are changed without their service.
    """
    database, table = app.get("database"), column.table
    referring = (table.c.organization_id == organization, column == id)
    cleared = {column.name: None}
    not_removed = await database.execute(
        select(table.c.id).where(*referring, table.c.deleted_at.is_(None)).order_by(table.c.id)
    )
    for row in not_removed:
        await app.service(_path(table)).patch(row["id"], dict(cleared), params)
    copies = dict.fromkeys(_copies(column))
    await database.execute(update(table).where(*referring).values({**cleared, **copies, "updated_at": now()}))
    return len(not_removed)


async def _referring_ids(database: Database, column: Column[Any], organization: int, id: int) -> list[int]:
    """Return the ids of the records that refer to a person, and of those that did so before."""
    table, c = column.table, audit.c
    ids = await database.execute(select(table.c.id).where(table.c.organization_id == organization, column == id))
    if database.dialect.name == "sqlite":
        values = [func.json_extract(side, f"$.{column.name}") for side in (c.before, c.after, c.record)]
    else:
        values = [func.jsonb_extract_path_text(side, column.name) for side in (c.before, c.after)]
        values.append(func.json_extract_path_text(c.record, column.name))
    referred = or_(*(cast(value, String) == str(id) for value in values))
    before = select(c.record_id.label("id")).distinct()
    before = before.where(c.organization_id == organization, c.service == _path(table), referred)
    return sorted({row["id"] for row in [*ids, *await database.execute(before)]})


async def _erase_audit(app: Apex, organization: int, path: str, ids: Sequence[int], names: Sequence[str]) -> None:
    """Hide fields of records in their entries of the log, and drop what these tell about calls.

    On PostgreSQL the application has no right to change the audit, except by the function ``audit_erase``.
    """
    if not ids or not names:
        return
    database: Database = app.get("database")
    if app.log is not None:
        await app.log.flush()
    if database.dialect.name == "postgresql":
        texts = {"organization": str(organization), "path": path, "ids": _joined(ids), "names": _joined(names)}
        erased = select(func.audit_erase(*(bindparam(name, type_=String()) for name in texts)))
        await database.fetch(database.compile(erased, writes=True), texts)
        return
    c = audit.c
    about = select(c.id, c.before, c.after, c.record).where(
        c.organization_id == organization, c.service == path, c.record_id.in_(ids)
    )
    for entry in await database.execute(about):
        hidden = {side: _hide_fields(entry[side], names) for side in ("before", "after", "record")}
        await database.execute(update(audit).where(c.id == entry["id"]).values({**hidden, "call": None}))


async def erase_answers(database: Database, id: int, rows: Sequence[Row], organization: int | None = None) -> None:
    """Hide the personal data of these rows in stored answers and in events that are not sent yet.

    With an ``organization``, only answers about its records are changed: elsewhere the id belongs to another person.
    """
    c, values = answers.c, _personal_values(rows)
    marks = [f'{name}":{id}{end}' for name in ('"id', "_id") for end in ",}"]
    uuids = {str(row["uuid"]) for row in rows if "uuid" in row}
    with tenant_context(ALL_TENANTS):
        mentions = or_(
            *(text.contains(mark, autoescape=True) for text in (c.body, c.unsent_events) for mark in (*marks, *uuids))
        )
        events = c.unsent_events.label("unsent_events")
        for answer in await database.execute(select(c.caller, c.key, c.body, events, c.about).where(mentions)):
            organizations = {scope.get(ORGANIZATION_ID) for scope in answer["about"] or ()}
            if organization not in (None, *organizations) and not any(uuid in answer["body"] for uuid in uuids):
                continue
            hidden = {name: _hide_in_lines(answer[name], values) for name in ("body", "unsent_events")}
            this_answer = (c.caller == answer["caller"], c.key == answer["key"])
            await database.execute(update(answers).where(*this_answer).values(hidden))


def _hide_in_lines(lines: str | None, values: PersonalValues) -> str | None:
    """Return JSON texts, one in each line, with the personal data hidden."""
    if lines is None:
        return None
    return "\n".join(encode(_hide_values(decode(line.encode()), values)).decode() for line in lines.split("\n"))


def _hide_values(value: Any, values: PersonalValues, name: str = "") -> Any:
    """Hide the texts of a person wherever they are, and its other values where they have the same name."""
    if isinstance(value, dict):
        return {name: _hide_values(inner, values, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_hide_values(inner, values, name) for inner in value]
    is_personal = (name, HIDDEN) in values or ("" if isinstance(value, str) else name, value) in values
    return HIDDEN if is_personal else value


def _hide_fields(value: Any, names: Sequence[str]) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: HIDDEN if name in names and inner is not None else inner for name, inner in value.items()}


def _records(entries: Iterable[Row]) -> list[Row]:
    """Return the records before and after each audit entry."""
    return [entry[side] for entry in entries for side in ("before", "after") if entry[side]]


def _personal_values(rows: Sequence[Row]) -> PersonalValues:
    """Return the personal data in rows, with phone numbers in the forms of both APIs."""
    values = {one for row in rows for one in _values_of(row)}
    codes, numbers = ({row.get(name) for row in rows} - {None, HIDDEN} for name in ("phone_country_code", "phone"))
    return values | {("", f"{code}{number}") for code in codes for number in numbers}


def _values_of(row: Row) -> Iterator[tuple[str, Any]]:
    for column, value in row.items():
        fields: Row = value if isinstance(value, dict) else {"": value}
        for name, field in fields.items() if _is_personal(column) else ():
            for one in field if isinstance(field, list) else [field]:
                if isinstance(one, str) and one not in ("", HIDDEN):
                    yield "", one
                elif name and one is not None:  # The audit hides fields with the name of a secret.
                    yield name, one


def _is_personal(name: str) -> bool:
    """Return True if a column has personal data."""
    return name in EXTERNAL_IDS or not (name in NOT_PERSONAL or name.endswith("_id"))


def _without_search(row: Row) -> Row:
    """Return a record without the columns that only serve the search."""
    return {name: value for name, value in row.items() if not name.endswith(("_form", "_search"))}


def _copies(column: Column[Any]) -> Sequence[str]:
    """Return the columns that copy fields of the record to which a column refers."""
    copies: Sequence[str] = column.table.info.get("copies", {}).get(column.name, ())
    return copies


def _shown_as(app: Apex, column: Column[Any]) -> list[str]:
    """Return the fields of records in which events show the record that a column refers to."""
    relations: Mapping[str, Relation] = app.service(_path(column.table)).service.relations
    return [
        name for name, relation in relations.items() if relation.kind == "belongs_to" and relation.key == column.name
    ]


def _path(table: Table) -> str:
    return table.name.replace("_", "-")


def _joined(values: Iterable[Any]) -> str:
    return ",".join(map(str, values))
