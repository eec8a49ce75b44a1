"""Pages: their limit, their total, and the pages after and before a cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apex.adapters.cursors import Selection
from apex.query.language import MAX_ROWS, invalid
from apex.types import Page, Paginate, Row

if TYPE_CHECKING:
    from apex.adapters.base import Adapter


async def estimated_page(adapter: Adapter[Any], selection: Selection) -> Page:
    """Return a page whose total may be an estimate."""
    limit, skip = selection.limit or 0, selection.query.skip
    rows = (await adapter._select(selection))[0] if limit else []
    seen = skip + len(rows)
    ends = len(rows) < limit and (bool(rows) or not skip)
    total = await _total(adapter, selection, seen if rows else 0, ends)
    return {**total, "limit": limit, "skip": skip, "data": rows}  # type: ignore[typeddict-item]


async def page_at_cursor(adapter: Adapter[Any], selection: Selection, name: str, cursor: str) -> Page:
    """Return the page after a cursor, or before it. An empty cursor is the beginning, or the end.

    One row more than the page holds shows whether another page follows.
    """
    query, fields, limit = selection.query, selection.fields, selection.limit or 0
    if not limit:
        raise invalid("$limit", f"must be 1 or more beside {name}")
    walk = adapter.cursors.walk(name, cursor, selection.cursor_order(adapter.id, name), selection.where)
    if walk.place:
        placed = zip(walk.order, walk.place, strict=True)
        walk = replace(walk, place=tuple(adapter._place(field, value) for (field, _), value in placed))
    places = fields and tuple(dict.fromkeys((*fields, *(field for field, _ in walk.order))))
    sorted_query = replace(query, sort=walk.direction)
    asked = selection._replace(where=walk.where, query=sorted_query, fields=places, limit=min(limit + 1, MAX_ROWS))
    found, _ = await adapter._select(asked)
    rows, ends = walk.page(found, limit)
    total = await _total(adapter, selection, len(rows), not walk.place and len(found) <= limit)
    data = rows if places == fields else [_picked(row, fields) for row in rows]
    return {**total, "limit": limit, **ends, "data": data}  # type: ignore[typeddict-item]


async def _total(adapter: Adapter[Any], selection: Selection, seen: int, all_seen: bool) -> dict[str, Any]:
    """Return the total of a page that has seen some rows. If it has seen all rows, nothing is counted."""
    asked, where = selection.query.total, selection.where
    if not asked:
        return {}
    estimate = None if all_seen or asked == "exact" else await adapter._estimate(where)
    if estimate is not None:
        return {"total": max(estimate, seen), "estimated": True}
    total = {"total": seen if all_seen else await adapter._count(where)}
    return total if asked == "exact" else {**total, "estimated": False}


def _picked(row: Row, fields: Sequence[str] | None) -> Row:
    return {name: row[name] for name in fields or () if name in row}


def is_pagination(paginate: Any) -> bool:
    """Return True for a dict with the numbers of rows ``default`` and ``max``, or one of them."""
    if not isinstance(paginate, Mapping) or not paginate.keys() <= {"default", "max"}:
        return False
    return all(type(rows) is int and rows >= 0 for rows in paginate.values())


def limit_of(asked: int | None, page: Paginate) -> int | None:
    """Return the limit of a page by the rule of Feathers.

    It is the asked limit, or the default (0 if only a maximum is set), and at most the maximum.
    """
    if not page:
        return asked
    limit = page.get("default", 0) if asked is None else asked
    return min(limit, page.get("max", limit))
