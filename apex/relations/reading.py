"""The related records of many records, read at once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from apex.query.language import EVERYTHING, Compare, Predicate, Query, every, invalid
from apex.relations.binding import Link
from apex.types import Row

if TYPE_CHECKING:
    from apex.adapters.base import Adapter
    from apex.adapters.cursors import Selection

MOST_ROWS = 10_000
"""The most related records of a relation that one call from outside gets."""


@dataclass(slots=True)
class Owners:
    """The records whose related records a call of ``find`` reads, in ``params.adapter["owners"]``.

    ``key`` is the field of the related records, or of their ``link``, with an id of an owner. ``limit`` and ``skip``
    count for each owner, if it has ``many``, and ``most`` for all. ``where`` is the condition on the links. The adapter
    fills ``pairs`` with the ids of the owners and of their related records, in order.
    """

    ids: list[Any]
    key: str
    many: bool
    link: Link | None = None
    where: Predicate = EVERYTHING
    limit: int | None = None
    skip: int = 0
    most: int | None = None
    pairs: list[tuple[Any, Any]] | None = None

    @property
    def linked(self) -> Predicate:
        """The condition for the links of the owners."""
        return every(Compare(self.key, "$in", self.ids), self.where)

    def taken(self, found: list[tuple[Any, Row]], id: str) -> list[Row]:
        """Return the rows, each once, and keep which owner has which.

        Raises BadRequest for more rows than a caller gets.
        """
        if self.most is not None and len(found) > self.most:
            raise invalid(
                "$populate", f"finds more than {self.most:,} records of a relation: ask for fewer with $limit"
            )
        self.pairs = [(owner, row[id]) for owner, row in found]
        return list({row[id]: row for _, row in found}.values())


async def read_related(adapter: Adapter[Any], selection: Selection, owners: Owners) -> list[tuple[Any, Row]]:
    """Return each related record with the id of an owner, in the order of the selection. Any adapter can do this.

    ``selection`` has the condition on the related records, without a limit.
    """
    fields = selection.fields
    if owners.link is None:
        asked = fields if fields is None or owners.key in fields else (*fields, owners.key)
        rows, _ = await adapter._select(_whole(selection, selection.where, asked))
        found = [(row[owners.key], row) for row in rows]
        if asked != fields:
            for row in rows:
                del row[owners.key]
    else:
        link = owners.link
        links, _ = await link.adapter._select(
            selection._replace(where=owners.linked, query=Query(), fields=(link.key, link.other_key), limit=None)
        )
        owners_of: dict[Any, list[Any]] = {}
        for row in links:
            owners_of.setdefault(row[link.other_key], []).append(row[link.key])
        where = every(Compare(adapter.id, "$in", list(owners_of)), selection.where)
        rows, _ = await adapter._select(_whole(selection, where, fields))
        found = [(owner, row) for row in rows for owner in dict.fromkeys(owners_of[row[adapter.id]])]
    return _limited(found, owners)


def _whole(selection: Selection, where: Predicate, fields: tuple[str, ...] | None) -> Selection:
    return selection._replace(where=where, fields=fields, limit=None, query=replace(selection.query, skip=0))


def _limited(found: list[tuple[Any, Row]], owners: Owners) -> list[tuple[Any, Row]]:
    if owners.limit is None and not owners.skip:
        return found
    end = None if owners.limit is None else owners.skip + owners.limit
    by_owner: dict[Any, list[tuple[Any, Row]]] = {}
    for pair in found:
        by_owner.setdefault(pair[0], []).append(pair)
    return [pair for pairs in by_owner.values() for pair in pairs[owners.skip : end]]


def by_owner(owners: Owners, records: list[Mapping[str, Any]], id: str) -> dict[Hashable, list[Any]]:
    """Return the records of each owner, as the hooks of their service have left them, in order."""
    known = {record[id]: record for record in records if id in record}
    related: dict[Hashable, list[Any]] = {}
    for owner, other in owners.pairs or ():
        if other in known:
            related.setdefault(owner, []).append(known[other])
    return related
