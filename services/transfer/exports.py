"""Exports: all records of an organization, read page by page, so that memory and transactions stay small."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from apex.query import Compare, Query
from apex.service import BoundService
from apex.tenant import current_tenants, tenant_context
from apex.types import Row

PAGE = 1_000


def pages(
    service: BoundService, organization: int, fields: Sequence[str], done: Callable[[int], Any]
) -> AsyncIterator[list[Row]]:
    """The records in the order of their ids; ``done`` is told how many each page had. Each page is a query of its own:
    what changes meanwhile may be in it.

    They are read once the call is over, within the reach that it has now.
    """
    return _pages(service, organization, fields, done, current_tenants.get())


async def _pages(
    service: BoundService, organization: int, fields: Sequence[str], done: Callable[[int], Any], tenants: str
) -> AsyncIterator[list[Row]]:
    last = 0
    params = {"scope": {"organization_id": organization}, "paginate": False}
    while True:
        query = Query(where=Compare("id", "$gt", last), limit=PAGE, sort=(("id", 1),), select=tuple(fields))
        with tenant_context(tenants):
            page: list[Row] = await service.find({**params, "query": query})
        if not page:
            return
        yield page
        done(len(page))
        last = page[-1]["id"]
