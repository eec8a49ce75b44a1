"""Conditions across relations: ``project.key=APX`` is about a record of another service."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from apex.query.language import Predicate, Syntax

Asked = Mapping[str, Any]
"""A query of a caller."""


class Across(NamedTuple):
    """A condition on related records: one of them meets ``some``, if it is given, and no one any query of ``none``.

    ``field`` is the own field of the relation. Adapters find out what the caller may read of the related service, and
    then run ``Related`` in place of this.
    """

    relation: str
    field: str
    some: Asked | None
    none: tuple[Asked, ...] = ()


class Related(NamedTuple):
    """The condition that a related record, with a link that meets ``links``, meets ``where``, or with ``none`` no one.

    ``relation`` is bound to the services that it connects.
    """

    relation: Any
    field: str
    where: Predicate
    links: Predicate
    none: bool = False


@dataclass(frozen=True, slots=True)
class RelatedSyntax:
    """The queries across a relation: the own field that it begins with, and the queries that the other service takes.

    ``many`` is True for a relation to many records. ``names`` are the fields that can be asked for, None for all.
    """

    field: str
    many: bool
    names: Collection[str] | None
    syntax: Callable[[], Syntax]

    def condition(self, relation: str, name: str, value: Any) -> Across:
        """Return the condition on a field of the related records.

        Of many records one has to meet it. With ``$ne`` and ``$nin`` no one may have the value, as in a list.
        """
        if not self.many or not isinstance(value, Mapping):
            return Across(relation, self.field, {name: value})
        none: list[Asked] = []
        if "$ne" in value:
            none.append({name: value["$ne"]})
        if "$nin" in value:
            none.append({name: {"$in": value["$nin"]}})
        some = {sign: operand for sign, operand in value.items() if sign not in ("$ne", "$nin")}
        return Across(relation, self.field, {name: some} if some else None, tuple(none))


def together(parts: Iterable[Predicate]) -> list[Predicate]:
    """Return the conditions of one object of a query, in which one related record meets all those of a relation."""
    merged: dict[str, Across] = {}
    left: list[Predicate] = []
    for part in parts:
        if not isinstance(part, Across):
            left.append(part)
            continue
        known = merged.get(part.relation, part)
        some = part.some if known.some is None else {**known.some, **(part.some or {})}
        none = part.none if known is part else (*known.none, *part.none)
        merged[part.relation] = part._replace(some=some, none=none)
    return [*left, *merged.values()]
