"""Imports: rows of a file become records of an organization, batch by batch, each batch stored as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from apex import Apex, Params
from apex.errors import BadRequest, FeathersError
from apex.query import Compare, Hints, Query
from apex.schema import ValidationError, load, loader
from apex.types import Row
from hooks.ownership import strays
from services.shared.tenant import references_of
from services.transfer.checkpoints import Checkpoint, TakenOver
from services.transfer.formats import Numbered

BATCH = 1_000

Refuse = Callable[[int, FeathersError], None]
Key = tuple[Any, ...]


class Line(NamedTuple):
    """A row with the number of its line and the values that it is found by, if any."""

    number: int
    row: Row | BadRequest
    key: Key | None


class Change(NamedTuple):
    """A new record, or with an id a change of the one that is there. ``new`` has the fields that refer to other records
    than before.
    """

    number: int
    row: Row
    id: int | None
    new: Row


@dataclass(slots=True)
class Progress:
    """Rows so far: ``skipped`` ones were done by a run that was broken off, ``refused_before`` of them refused."""

    skipped: int = 0
    created: int = 0
    updated: int = 0
    refused: int = 0
    refused_before: int = 0

    @property
    def rows(self) -> int:
        return self.skipped + self.created + self.updated + self.refused


class _Rehearsed(Exception):
    """Ends a transaction whose work is not to be kept."""


@dataclass
class Import:
    """One run of an import into a service's records.

    ``refuse`` is told of each row that is wrong. ``user`` makes the new records and owns them unless they say
    otherwise, ``upsert`` names the key by which a row finds the record to change, ``checkpoint`` lets a run go on
    where one was broken off (or with ``again`` start over), ``dry_run`` stores nothing.
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
        self.new, self.partial = loader(schema, "create"), loader(schema, "patch")
        self.message, self.hints = f"Invalid {tenant.noun} data", Hints()
        self.references = references_of(tenant.table)
        if self.upsert is not None and self.upsert not in tenant.upsert:
            raise BadRequest("Invalid upsert", errors={"upsert": f"Must be one of {', '.join(tenant.upsert)}"})
        self.columns: tuple[str, ...] = () if self.upsert is None else tenant.upsert[self.upsert]

    async def run(self, rows: Iterable[Numbered]) -> AsyncIterator[Progress]:
        """Yields the progress once before the first batch and then after each one.

        Raises TakenOver when another run of the same import takes over, BadRequest where the file cannot be read.
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

    # Batches of rows with different keys: of two rows with the same one the second changes what the first has made.

    def _batches(self, rows: Iterator[Numbered]) -> Iterator[list[Line]]:
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
        """The values that a record is found by, as they are stored; None for a row that has none."""
        if not self.columns:
            return None
        row = self.service.service.completed(row)
        key = tuple(self._value(name, row.get(name)) for name in self.columns)
        return key if key[0] is not None else None

    def _value(self, name: str, value: Any) -> Any:
        try:
            return None if value is None else self.new.fields[name].deserialize(value)
        except ValidationError:
            return None

    # What each row asks for; what is wrong with it is found before a transaction is begun.

    async def _changes(self, batch: list[Line], refused: dict[int, FeathersError]) -> list[Change]:
        stored = await self._stored([line.key for line in batch if line.key])
        changes = []
        for line in batch:
            try:
                changes.append(self._change(line, stored))
            except BadRequest as error:
                refused[line.number] = error
                await asyncio.sleep(0)  # Naming what is wrong takes time: other calls go on after each row.
        lost = await strays(self.app, self.references, [change.new for change in changes], self.organization)
        for change, fields in zip(changes, lost, strict=True):
            if fields:
                errors = dict.fromkeys(fields, "Does not exist in this organization")
                refused[change.number] = BadRequest(self.message, errors=errors)
        return [change for change in changes if change.number not in refused]

    async def _stored(self, keys: list[Key]) -> dict[Any, list[Row]]:
        """The records that may be meant, by the first value of their keys."""
        stored: dict[Any, list[Row]] = {}
        if keys:
            where = Compare(self.columns[0], "$in", [key[0] for key in keys])
            query = Query(where=where, select=("id", *self.columns, *self.references))
            for record in await self.service.find(self._params(query=query, paginate=False)):
                stored.setdefault(record[self.columns[0]], []).append(record)
        return stored

    def _change(self, line: Line, stored: dict[Any, list[Row]]) -> Change:
        """Raises BadRequest for a row that is wrong, or could mean several records."""
        if isinstance(line.row, BadRequest):
            raise line.row
        meant = [record for record in stored.get(line.key[0], ()) if self._agree(line.key, record)] if line.key else []
        if len(meant) > 1:
            ids = ", ".join(str(record["id"]) for record in meant)
            raise BadRequest(self.message, errors={self.columns[0]: f"Is that of several records: {ids}"})
        if meant:
            row, before = load(self.partial, line.row, self.message, self.hints), meant[0]
            return Change(line.number, row, before["id"], self._references(row, before))
        row = {**line.row, "organization_id": self.organization}
        row = load(self.new, row, self.message, self.hints)
        return Change(line.number, row, None, self._references(row, {}))

    def _references(self, row: Row, before: Row) -> Row:
        return {name: row[name] for name in self.references if name in row and row[name] != before.get(name)}

    def _agree(self, key: Key, record: Row) -> bool:
        """Whether the further values of a key, such as a phone's country code, do not speak against this record."""
        pairs = zip(key, (record[name] for name in self.columns), strict=True)
        return all(mine is None or theirs is None or mine == theirs for mine, theirs in pairs)

    # Storing.

    async def _store(self, batch: list[Line]) -> None:
        """A batch that the database refuses is halved, until the rows that are to blame are alone."""
        refused: dict[int, FeathersError] = {}
        changes = await self._changes(batch, refused)
        try:
            # Inside of a caller's own transaction, a batch is undone without it.
            async with self.app.get("database").savepoint():
                created = await self._create([change for change in changes if change.id is None], refused)
                updated = await self._patch([change for change in changes if change.id is not None])
                if self.dry_run:
                    raise _Rehearsed
                await self._advance(len(batch), len(refused))
        except _Rehearsed:
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
        """How many were stored. Rows that a hook refuses by their places are left out."""
        if not changes:
            return 0
        try:
            await self.service.create(
                [change.row for change in changes], self._params(loaded=True, adapter={"multi": True})
            )
        except BadRequest as error:
            wrong = _by_place(error)
            if not wrong:
                raise
            refused |= {changes[place].number: BadRequest(self.message, errors=wrong[place]) for place in wrong}
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


def _by_place(error: BadRequest) -> dict[int, dict[str, str]]:
    """The errors of many rows by their places, where all have one: ``{"3.email": ...}`` as ``{3: {"email": ...}}``."""
    found: dict[int, dict[str, str]] = {}
    for name, sentence in (error.errors or {}).items():
        place, _, field = name.partition(".")
        if not place.isdecimal() or not field:
            return {}
        found.setdefault(int(place), {})[field] = sentence
    return found
