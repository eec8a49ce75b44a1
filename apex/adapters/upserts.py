"""The method ``upsert``: create a record, or change the one that has the same natural key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from apex.adapters.cursors import Selection
from apex.context import Context, Params, current_call
from apex.errors import BadRequest, Conflict, NotFound
from apex.query.evaluation import missing, prescribed
from apex.query.language import Query
from apex.service import Call
from apex.types import Row

if TYPE_CHECKING:
    from apex.adapters.base import Adapter

TRIES = 3
"""The tries of an upsert. Another one is needed if a record with the key comes or goes at the same moment."""


async def upsert(adapter: Adapter[Any], data: Any, params: Params) -> Any:
    """Create a record, or patch the one with the same natural key, by a call of ``create`` or ``patch``.

    Raises Conflict if a record with the key exists that the caller cannot change.
    """
    if not isinstance(data, Mapping):
        raise BadRequest("The data of 'upsert' must be an object")
    context = current_call.get()
    if context is None or context.service is None or context.service.service is not adapter:
        raise TypeError("Call upsert through app.service(...), as it calls create or patch with their hooks")
    run = _Upsert(adapter, context, params, dict(data))
    for _ in range(TRIES):
        id = await run.find()
        try:
            done = await (run.create() if id is None else run.patch(id))
        except Conflict as error:
            if id is not None or not run.is_of_key(error):
                raise
        except NotFound as error:
            if id is None or error.message != missing(id).message:
                raise
        else:
            return context._answer_with(done)
    raise run.taken()


class _Upsert:
    """One upsert: its data, its key, and the calls that it makes."""

    def __init__(self, adapter: Adapter[Any], context: Context, params: Params, data: Row) -> None:
        self.adapter, self.context, self.params, self.data = adapter, context, params, data
        self.key: Row = {}
        self.set_key(data)

    def set_key(self, data: Mapping[str, Any]) -> None:
        """Take the key from the data. Parts that the scope prescribes may be missing. Raises BadRequest."""
        given = {name: data[name] for name in self.adapter.natural_key if data.get(name) is not None}
        fixed = prescribed(self.adapter._allowed(self.params))
        if absent := set(self.adapter.natural_key) - {*given, *fixed}:
            raise BadRequest("Invalid data", errors=dict.fromkeys(sorted(absent), "Is required"))
        self.key = self.adapter._typed(given, frozenset())

    async def find(self) -> Any:
        """Return the id of the record with the key, within the scope, or None."""
        adapter = self.adapter
        where = adapter._allowed(self._inner({}))
        rows, _ = await adapter._select(Selection(where, Query(), (adapter.id,), limit=1))
        return rows[0][adapter.id] if rows else None

    async def patch(self, id: Any) -> Context:
        """Change the record with an id, if it still has the key."""
        data = {name: value for name, value in self.data.items() if name not in self.adapter.natural_key}
        return await self._call("patch", id=id, data=data)

    async def create(self) -> Context:
        """Create the record, unless there is one by now. Its hooks may have given the key another form."""
        adapter = self.adapter

        async def store(method: Callable[[], Awaitable[Any]]) -> Any:
            inner = current_call.get()
            if inner is not None and isinstance(inner.data, Mapping):
                self.set_key(inner.data)
            async with adapter.unit_of_work():
                if await self.find() is not None:
                    raise self.taken()
                return await method()

        async with adapter.savepoint():
            done = await self._call("create", data=self.data, around_method=store)
        if self.context.http is not None:
            self.context.http["status"] = 201
        return done

    def is_of_key(self, error: Conflict) -> bool:
        """Return True if a conflict is about fields of the key."""
        return bool(error.errors) and set(error.errors or ()) <= set(self.adapter.natural_key)

    def taken(self) -> Conflict:
        """Return the error for a key whose record the caller cannot change."""
        names = [name for name in self.adapter.natural_key if name in self.data] or list(self.adapter.natural_key)
        return Conflict(
            f"A record with this {', '.join(names)} already exists", errors=dict.fromkeys(names, "Is taken")
        )

    async def _call(self, method: str, **options: Any) -> Context:
        select = self.params.query.get("$select")
        query = {} if select is None else {"$select": select}
        params = self._inner(query) if method == "patch" else Params({**self.params, "query": query})
        params["is_inner_call"] = True
        return await self.context.app.call(Call(self.context.service, method, params=params, **options))

    def _inner(self, query: Row) -> Params:
        """Return params whose scope is the record with the key."""
        params = Params({**self.params, "query": query})
        if self.key:
            params.scope["$and"] = [*params.scope.get("$and", ()), self.key]
        return params
