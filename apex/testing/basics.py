"""The base of the contract's chapters, and the rules of an adapter as a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any
from unittest import SkipTest

from apex.context import Params
from apex.encoding import decode, encode
from apex.errors import FeathersError, MethodNotAllowed
from apex.service import BoundService
from apex.types import Row

TRIO: Sequence[Row] = ({"name": "Bob", "age": 25}, {"name": "Doug", "age": 32}, {"name": "Alice", "age": 19})

UNKNOWN_IDS: Sequence[Any] = (
    123456789, 2**31, 2**63, 2**80, -1, 1.5, "568225fbfe21222432e836ff", "abc", "", " 1", "1.5", "0x1", "1e3", "é",
    "a\0b", "9" * 40, "' OR 1=1 --",
)  # fmt: skip


class Raised:
    """The error that ``raises`` has caught."""

    error: FeathersError
    """The error itself."""


@contextmanager
def raises(kind: type[FeathersError], text: str = "") -> Iterator[Raised]:
    """Assert that the block raises an error of exactly this class, whose message has the text."""
    raised = Raised()
    try:
        yield raised
    except FeathersError as error:
        raised.error = error
    caught: Any = getattr(raised, "error", None)
    assert type(caught) is kind, f"{caught!r} is not a {kind.__name__}"
    assert text in caught.message, f"'{caught.message}' does not hold '{text}'"


def wire(value: Any) -> Any:
    """Return the value as a client reads it."""
    return decode(encode(value))


def names(rows: Any) -> list[str]:
    """Return the names of rows."""
    return [row["name"] for row in rows]


def within(*organizations: Any, **query: Any) -> dict[str, Any]:
    """Return the params of a caller with a query, whose scope is these organizations."""
    return {"scope": {"organization_id": list(organizations)}, "query": query}


class Contract:
    """The service ``people``, which ``make`` yields in an app that is set up, with an empty store.

    The rows have an integer id, which the store assigns in ascending order beginning with 0 or 1. Further fields are
    ``name`` (text), ``age`` and ``organization_id`` (integers of 32 bits), ``created`` (boolean), ``time`` (a moment),
    ``extra`` (JSON) and ``secret`` (text). All but the id may be null.
    """

    key: str = "id"
    """The name of the id field, which ``make`` gives to the adapter."""

    typed: bool = True
    """True if the adapter knows its fields. Otherwise the rules about types are skipped."""

    def make(self, **options: Any) -> AbstractAsyncContextManager[BoundService]:
        """Return a context with the service, made with these options of the adapter."""
        raise TypeError(f"{type(self).__name__} needs a method make that makes the service")

    @asynccontextmanager
    async def people(self, *rows: Mapping[str, Any], **options: Any) -> AsyncIterator[BoundService]:
        """Yield a service with these rows, by default with Bob, Doug and Alice."""
        async with self.make(**options) as service:
            for row in rows or TRIO:
                await service.create(dict(row))
            yield service

    async def id_of(self, service: BoundService, name: str) -> Any:
        """Return the id of the row with a name."""
        rows = await service.find({"query": {"name": name}, "paginate": False})
        return rows[0][self.key]

    def only_typed(self) -> None:
        """Skip the rule if the adapter does not know its fields."""
        if not self.typed:
            raise SkipTest("this adapter does not know the types of its fields")


class Basics(Contract):
    """The adapter as a service."""

    async def test_the_id_field_is_known(self) -> None:
        async with self.make() as service:
            assert service.id == self.key

    async def test_the_registered_options_hold_custom_events(self) -> None:
        async with self.make(events=["testing"]) as service:
            assert service._options.events == ("testing",)
            assert {"find", "get", "create", "update", "patch", "remove"} <= set(service._options.methods)

    async def test_the_adapters_own_methods_run_without_hooks(self) -> None:
        def refuse(context: Any) -> None:
            raise MethodNotAllowed("a hook ran")

        async with self.people() as service:
            service.hooks({"before": {"all": [refuse]}})
            with raises(MethodNotAllowed, "a hook ran"):
                await service.find()
            assert len(await service.service.find(Params())) == 3

    async def test_methods_do_not_call_each_others_hooks(self) -> None:
        ran: list[str] = []
        async with self.make(multi=True) as service:
            service.hooks({"before": {"all": [lambda context: ran.append(context.method)]}})
            id = (await service.create({"name": "Dave"}))[self.key]
            await service.update(id, {"name": "Dan"})
            await service.patch(id, {"name": "Don"})
            await service.remove(id)
        assert ran == ["create", "update", "patch", "remove"]

    async def test_a_call_may_widen_multi_for_its_method_alone(self) -> None:
        adapter = {"multi": ["create"]}
        async with self.make() as service:
            assert len(await service.create([{"name": "Dave"}, {"name": "Dan"}], {"adapter": adapter})) == 2
            with raises(MethodNotAllowed, "Can not patch multiple entries"):
                await service.patch(None, {"name": "Don"}, {"adapter": adapter})

    async def test_each_write_tells_one_event_per_record(self) -> None:
        heard: list[tuple[str, str]] = []
        async with self.people(multi=True) as service:
            for event in ("created", "updated", "patched", "removed"):
                service.on(event, lambda row, context, event=event: heard.append((event, row["name"])))
            await service.create([{"name": "Dave"}, {"name": "Dan"}])
            await service.patch(None, {"age": 1}, {"query": {"name": "Bob"}})
            await service.remove(await self.id_of(service, "Dan"))
        assert heard == [("created", "Dave"), ("created", "Dan"), ("patched", "Bob"), ("removed", "Dan")]

    async def test_clients_read_plain_types(self) -> None:
        row = {"name": "Dave", "created": True, "time": "2023-01-02T03:04:05.678Z", "extra": {"a": [1, None, "é"]}}
        async with self.make() as service:
            id = (await service.create(row))[self.key]
            stored = wire(await service.get(id))
        assert {name: stored[name] for name in row} == row
        assert isinstance(stored[self.key], int)
