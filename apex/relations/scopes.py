"""The conditions under which a caller may read records of a service: its hooks are run without its method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from apex.context import Params, current_call
from apex.errors import BadRequest
from apex.query.language import Predicate, Query
from apex.service import BoundService, Call
from apex.transaction import after_commit


async def hooks_of_find(service: BoundService, params: Mapping[str, Any]) -> tuple[Query, Predicate]:
    """Run the hooks of ``find`` of an adapter, and return the query and the condition that its method would have.

    Raises the error with which a hook refuses the call.
    """
    adapter: Any = service.service
    found: list[tuple[Query, Predicate]] = []

    async def note(method: Callable[[], Awaitable[Any]]) -> Any:
        call = current_call.get()
        assert call is not None
        query = adapter.syntax.parse(call.params.query)
        found.append((query, await adapter._condition(query, call.params)))
        return adapter._empty_page(call.params)

    context = await service._app.call(Call(service, "find", params=Params(params), around_method=note))
    if context.deferred:
        after_commit(context.start_deferred)
    if not found:
        raise BadRequest(
            f"'{service._path}' cannot be asked for by other services: a hook answers in place of its find"
        )
    return found[0]
