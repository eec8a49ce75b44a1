"""Imports: the rows of a file become records of an organization. Each batch of rows is one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from apex import Apex, Params
from apex.common import missing_references
from apex.errors import BadRequest, FeathersError
from apex.query import Compare, Hints, Query
from apex.schema import ValidationError, load, loader
from apex.types import Row
from hooks.tenancy import MISSING
from services.shared.tenant import references_of
from services.transfer.checkpoints import Checkpoint, TakenOver
from services.transfer.formats import NumberedRow

BATCH = 1_000

Refuse = Callable[[int, FeathersError], None]
Key = tuple[Any, ...]


class Line(NamedTuple):
    """A row, or the error that refuses it, with the number of its line and its key, if it has one."""

    number: int
    row: Row | BadRequest
    key: Key | None


class Change(NamedTuple):
    """The values of a new record, or of the record with an ``id``.

    ``references`` has the fields that refer to another record than before.
    """

    number: int
    row: Row
    id: int | None
    references: Row


@dataclass(slots=True)
class Progress:
    """The numbers of rows so far. An earlier run did the ``skipped`` rows, and refused ``refused_before`` of them."""

    skipped: int = 0
    created: int = 0
    updated: int = 0
    refused: int = 0
    refused_before: int = 0

    @property
    def rows(self) -> int:
        """All rows that were read."""
        return self.skipped + self.created + self.updated + self.refused


class _DryRun(Exception):
    """Rolls back the transaction of a dry run."""


@dataclass
class Import:
    """One run of an import into the records of a service.

    ``refuse`` is called with the line and the error of each refused row. ``user`` is the id of the user who creates the
    records, and owns them unless a row names another owner. ``upsert`` names the key by which a row finds the record
    that it changes. With a ``checkpoint`` a run continues where the last one was interrupted, or with ``again`` starts
    over. A ``dry_run`` stores nothing. Raises BadRequest for an unknown ``upsert``.

    ::

        job = Import(app, "contacts", 456, lambda line, error: print(line, error), upsert="email")
        async for progress in job.run([(1, {"first_name": "Ada", "email": "ada@example.com"})]):
            print(progress.rows)
    """

    app: Apex
    path: str
    organization: int
    refuse: Refuse
    user: int | None = None
    upsert: str | None = None
    checkpoint: Checkpoint | None = None
    again: bool = False
    dry_run: bool = False
    batch: int = BATCH
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.service = self.app.service(self.path)
        tenant = self.service.service
        schema = tenant.record
        self.create_schema, self.patch_schema = loader(schema, "create"), loader(schema, "patch")
        self.message, self.hints = f"Invalid {tenant.noun} data", Hints()
        self.references = references_of(tenant)
        if self.upsert is not None and self.upsert not in tenant.import_keys:
            raise BadRequest("Invalid upsert", errors={"upsert": f"Must be one of {', '.join(tenant.import_keys)}"})
        self.key_fields: tuple[str, ...] = () if self.upsert is None else tenant.import_keys[self.upsert]

    async def run(self, rows: Iterable[NumberedRow]) -> AsyncIterator[Progress]:
        """Store the rows. Yield the progress before the first batch and after each batch.

        Raises TakenOver if another run of the same import takes over, and BadRequest where the file cannot be read.
        """
        rows = iter(rows)
        checkpoint = None if self.dry_run else self.checkpoint
        if checkpoint:
            done = await checkpoint.begin(self.again)
            self.progress.skipped = sum(1 for _ in islice(rows, done))
            self.progress.refused_before = checkpoint.refused
        yield self.progress
        for batch in self._batches(rows):
            await self._store(batch)
            yield self.progress
        if checkpoint:
            await checkpoint.finish()

    def _batches(self, rows: Iterator[NumberedRow]) -> Iterator[list[Line]]:
        """Yield batches of rows. Two rows with the same key are in different batches, in their order."""
        batch: list[Line] = []
        seen: set[Any] = set()
        for number, row in rows:
            key = None if isinstance(row, BadRequest) else self._key(row)
            if len(batch) == self.batch or (key and key[0] in seen):
                yield batch
                batch, seen = [], set()
            batch.append(Line(number, row, key))
            seen.update(key[:1] if key else ())
        if batch:
            yield batch

    def _key(self, row: Row) -> Key | None:
        """Return the values by which a row finds its record, as they are stored, or None if it has none."""
        if not self.key_fields:
            return None
        row = self.service.service.complete_key(row)
        key = tuple(self._value(name, row.get(name)) for name in self.key_fields)
        return key if key[0] is not None else None

    def _value(self, name: str, value: Any) -> Any:
        try:
            return None if value is None else self.create_schema.fields[name].deserialize(value)
        except ValidationError:
            return None

    async def _changes(self, batch: list[Line], refused: dict[int, FeathersError]) -> list[Change]:
        """Return the changes that rows ask for. Rows that are wrong are added to ``refused``.

        It comes before the transaction, so that checking rows holds no connection.
        """
        stored = await self._stored([line.key for line in batch if line.key])
        changes = []
        for line in batch:
            try:
                changes.append(self._change(line, stored))
            except BadRequest as error:
                refused[line.number] = error
                await asyncio.sleep(0)  # Describing errors takes long, so other calls get a turn.
        changed = [change.references for change in changes]
        missing = await missing_references(self.app, self.references, changed, {"organization_id": self.organization})
        for change, fields in zip(changes, missing, strict=True):
            if fields:
                refused[change.number] = BadRequest(self.message, errors=dict.fromkeys(fields, MISSING))
        return [change for change in changes if change.number not in refused]

    async def _stored(self, keys: list[Key]) -> dict[Any, list[Row]]:
        """Return the records with the first values of these keys, by that value."""
        stored: dict[Any, list[Row]] = {}
        if keys:
            where = Compare(self.key_fields[0], "$in", [key[0] for key in keys])
            query = Query(where=where, select=("id", *self.key_fields, *self.references))
            for record in await self.service.find(self._params(query=query, paginate=False)):
                stored.setdefault(record[self.key_fields[0]], []).append(record)
        return stored

    def _change(self, line: Line, stored: dict[Any, list[Row]]) -> Change:
        """Return the change that a row asks for. Raises BadRequest if it is wrong or finds several records."""
        if isinstance(line.row, BadRequest):
            raise line.row
        found = (
            [record for record in stored.get(line.key[0], ()) if self._matches(line.key, record)] if line.key else []
        )
        if len(found) > 1:
            ids = ", ".join(str(record["id"]) for record in found)
            raise BadRequest(self.message, errors={self.key_fields[0]: f"Is that of several records: {ids}"})
        if found:
            row, before = load(self.patch_schema, line.row, self.message, self.hints), found[0]
            return Change(line.number, row, before["id"], self._changed_references(row, before))
        row = {**line.row, "organization_id": self.organization}
        row = load(self.create_schema, row, self.message, self.hints)
        return Change(line.number, row, None, self._changed_references(row, {}))

    def _changed_references(self, row: Row, before: Row) -> Row:
        return {name: row[name] for name in self.references if name in row and row[name] != before.get(name)}

    def _matches(self, key: Key, record: Row) -> bool:
        """Return True unless the key and the record have different values in a field, such as the country code."""
        pairs = zip(key, (record[name] for name in self.key_fields), strict=True)
        return all(given is None or stored is None or given == stored for given, stored in pairs)

    async def _store(self, batch: list[Line]) -> None:
        """Store a batch. If the database refuses it, store its halves, until only the wrong rows are refused."""
        refused: dict[int, FeathersError] = {}
        changes = await self._changes(batch, refused)
        try:
            # A savepoint, so that a refused batch does not roll back the caller's own transaction.
            async with self.app.get("database").savepoint():
                created = await self._create([change for change in changes if change.id is None], refused)
                updated = await self._patch([change for change in changes if change.id is not None])
                if self.dry_run:
                    raise _DryRun
                await self._advance(len(batch), len(refused))
        except _DryRun:
            pass
        except TakenOver:
            raise
        except FeathersError as error:
            if error.code >= 500:
                raise
            await self._divide(batch, error)
            return
        self._count(len(batch), created, updated, refused)

    async def _divide(self, batch: list[Line], error: FeathersError) -> None:
        if len(batch) > 1:
            middle = len(batch) // 2
            for half in (batch[:middle], batch[middle:]):
                await self._store(half)
            return
        await self._advance(1, 1)
        self._count(1, 0, 0, {batch[0].number: error})

    def _count(self, rows: int, created: int, updated: int, refused: dict[int, FeathersError]) -> None:
        if self.checkpoint and not self.dry_run:
            self.checkpoint.settle()
        self.progress.created += created
        self.progress.updated += updated
        self.progress.refused += len(refused)
        for number in sorted(refused):
            self.refuse(number, refused[number])

    async def _create(self, changes: list[Change], refused: dict[int, FeathersError]) -> int:
        """Return how many records were created. Rows that a hook refuses by their positions are left out."""
        if not changes:
            return 0
        try:
            await self.service.create(
                [change.row for change in changes], self._params(loaded=True, adapter={"multi": True})
            )
        except BadRequest as error:
            wrong = _by_position(error)
            if not wrong:
                raise
            refused |= {changes[at].number: BadRequest(self.message, errors=errors) for at, errors in wrong.items()}
            return await self._create([change for change in changes if change.number not in refused], refused)
        return len(changes)

    async def _patch(self, changes: list[Change]) -> int:
        for change in changes:
            await self.service.patch(change.id, change.row, self._params(loaded=True))
        return len(changes)

    async def _advance(self, rows: int, refused: int) -> None:
        if self.checkpoint and not self.dry_run:
            await self.checkpoint.advance(rows, refused)

    def _params(self, **more: Any) -> Params:
        user = {} if self.user is None else {"user": {"id": self.user}}
        return Params({"scope": {"organization_id": self.organization}, **user, **more})


def _by_position(error: BadRequest) -> dict[int, dict[str, str]]:
    """Return errors by the position of their row: ``{"3.email": ...}`` becomes ``{3: {"email": ...}}``.

    If one of them has no position, nothing is returned.
    """
    found: dict[int, dict[str, str]] = {}
    for name, sentence in (error.errors or {}).items():
        position, _, field = name.partition(".")
        if not position.isdecimal() or not field:
            return {}
        found.setdefault(int(position), {})[field] = sentence
    return found
