"""The rights of a caller at related services: the params of its calls, and the records that it may read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from apex.context import Params, current_call
from apex.errors import BadRequest
from apex.query.language import EVERYTHING, Predicate, Query
from apex.relations.binding import BoundRelation
from apex.relations.calls import rights_of
from apex.service import BoundService, Call
from apex.transaction import after_commit
from apex.types import Row


class Found(NamedTuple):
    """The query of a list after its hooks, the condition on its records within the scope, and its sorted relations."""

    query: Query
    where: Predicate
    lookups: Mapping[str, Any]


def reader_params(relation: BoundRelation, params: Params) -> Row:
    """Return the params of ``caller_params``, or none if the process itself reads the records of a relation."""
    return {} if relation.declared.trusted else rights_of(relation.service._app, params)


def read_params(relation: BoundRelation, query: Mapping[str, Any], params: Params) -> Row:
    """Return the params with which a call with ``params`` reads related records."""
    removed = {"with_removed": True} if relation.declared.removed else {}
    return {**reader_params(relation, params), "query": dict(query), **removed}


async def readable_links(relation: BoundRelation, params: Params) -> Predicate:
    """Return the condition on the links of a relation that the caller may read. The rows of a table have none."""
    if relation.link is None or relation.link.service is None:
        return EVERYTHING
    return (await hooks_of_find(relation.link.service, reader_params(relation, params))).where


async def hooks_of_find(service: BoundService, params: Mapping[str, Any]) -> Found:
    """Run the hooks of ``find`` of an adapter, and return what its method would look for.

    Raises the error with which a hook refuses the call.
    """
    adapter: Any = service.service
    found: list[Found] = []

    async def note(method: Callable[[], Awaitable[Any]]) -> Any:
        call = current_call.get()
        assert call is not None
        query = adapter.syntax.parse(call.params.query)
        where = await adapter._condition(query, call.params)
        found.append(Found(query, where, await adapter._lookups(query, call.params)))
        return adapter._empty_page(call.params)

    if adapter._outgoing("find") is None:
        raise BadRequest(
            f"Nobody can filter or sort by fields of '{service._path}': its find is not that of its adapter"
        )
    context = await service._app.call(Call(service, "find", params=Params(params), around_method=note))
    if context.deferred:
        after_commit(context.start_deferred)
    if not found:
        raise BadRequest(
            f"Nobody can filter or sort by fields of '{service._path}': a hook sets the result of its find"
        )
    return found[0]
