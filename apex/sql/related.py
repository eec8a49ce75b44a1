"""The statement that reads the related records of many records at once, and the link tables of relations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Table, bindparam, func, select

from apex.adapters.cursors import Selection
from apex.relations.binding import Link
from apex.relations.declarations import Relation
from apex.relations.reading import Owners
from apex.sql.statements import Statement
from apex.types import Row

if TYPE_CHECKING:
    from apex.adapters.base import Adapter
    from apex.app import Apex
    from apex.sql.service import SQLService

OWNER, PLACE = "owner_", "place_"


async def select_related(service: SQLService[Any], selection: Selection, owners: Owners) -> list[tuple[Any, Row]]:
    """Return each related record with the id of an owner, in the order of the selection.

    Records with a limit for each owner are numbered by a window function. Links are joined.
    """
    query, values = selection.query, dict[str, Any]()
    shape = service.clauses.shape(selection.where, values)
    lookups = tuple((name, service.clauses.lookup_shape(one, values)) for name, one in selection.lookups.items())
    start = len(values)
    links: Any = owners.link and owners.link.adapter
    linked = None if links is None else links.clauses.shape(owners.linked, values)
    order = query.sort, lookups, query.rank and query.rank.field, selection.ranked is not None
    bounds = owners.limit is not None, owners.skip > 0, owners.most is not None
    key = ("related", shape, links, linked, owners.key, selection.fields, order, bounds)
    statement = service.statements.get(key, lambda: _statement(service, selection, owners, start), values)
    values |= service.clauses.rank_values(selection)
    places = {"first": owners.skip, "last": owners.skip + (owners.limit or 0), "most": (owners.most or 0) + 1}
    rows = await service._run(statement, values | places)
    found = []
    for row in rows:
        row.pop(PLACE, None)
        found.append((row.pop(OWNER), row))
    return found


def _statement(service: SQLService[Any], selection: Selection, owners: Owners, start: int) -> Statement:
    source = service._paths.source(selection.where, [name for name, _ in selection.query.sort])
    where = service.clauses.clause(selection.where, source)
    order = service.clauses.order(selection, service.id, source.values)
    rows: Any = source.rows
    if selection.ranked is not None:
        rows, best_first = service.clauses.search_index.ranked(rows)
        order = [best_first, *order]
    owner: Any
    if owners.link is None:
        owner = service.table.c[owners.key]
    else:
        links: Any = owners.link.adapter
        sides = [links.table.c[name] for name in (owners.key, owners.link.other_key)]
        linked = select(*sides).where(links.clauses.clause(owners.linked, start=start)).distinct().subquery("linked")
        rows = rows.join(linked, linked.c[owners.link.other_key] == service.table.c[service.id])
        owner = linked.c[owners.key]
    columns = [*service._columns(selection.fields), owner.label(OWNER)]
    found = select(*columns).select_from(rows).where(where)
    first, last, most = (bindparam(name, type_=BigInteger()) for name in ("first", "last", "most"))
    if owners.limit is None and not owners.skip:
        found = found.order_by(*order)
    else:
        place = func.row_number().over(partition_by=owner, order_by=order).label(PLACE)
        numbered = found.add_columns(place).subquery("numbered")
        found = select(numbered).where(numbered.c[PLACE] > first).order_by(numbered.c[PLACE])
        if owners.limit is not None:
            found = found.where(numbered.c[PLACE] <= last)
    if owners.most is not None:
        found = found.limit(most)
    return service.database.compile(found, "anew" if source.values else "kept")


async def table_link(service: SQLService[Any], where: str, relation: Relation, app: Apex, other: Adapter[Any]) -> Link:
    """Return the links of a ``many_to_many`` through a table. Raises TypeError, which begins with ``where``."""
    from apex.sql.service import SQLService

    table = relation.through
    if not isinstance(table, Table) or not isinstance(other, SQLService):
        raise TypeError(f"{where} goes through {table!r:.80}, which is no table between two SQL services")
    sides = ((service, relation.key), (other, relation.other_key))
    key, other_key = (_link_key(where, table, side, named) for side, named in sides)
    if key == other_key:
        raise TypeError(f"{where} needs key='...' and other_key='...', as its table refers twice to '{service.table}'")
    links = SQLService(table, id=key, methods=("find",))
    await links.setup(app, str(table))
    return Link(links, key, other_key)


def _link_key(where: str, table: Table, side: SQLService[Any], named: str | None) -> str:
    """Return the column of a link table with the id of one side. Raises TypeError if it is not clear."""
    found = [named] if named else _foreign_keys(table, side)
    if len(found) == 1 and found[0] in table.c:
        return found[0]
    problem = f"has no column '{named}'" if named else f"has {len(found)} foreign keys to '{side.table}'"
    raise TypeError(
        f"{where} goes through the table '{table}', which {problem}: name its columns with key='...' for the own "
        "record, and other_key='...' for the related one"
    )


def _foreign_keys(table: Table, side: SQLService[Any]) -> list[str]:
    id = side.table.c[side.id]
    return [str(key.parent.name) for key in table.foreign_keys if key.column is id]
