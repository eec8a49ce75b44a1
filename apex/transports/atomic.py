"""The calls of an atomic batch: one transaction, one call after the other, with references to earlier results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from contextvars import copy_context
from copy import copy
from typing import Any

from apex.adapters.base import Adapter
from apex.app import Apex
from apex.encoding import RawJSON, decode, encode
from apex.errors import BadRequest, FeathersError
from apex.query.language import shortened
from apex.service import Call
from apex.transaction import transaction
from apex.transports.http import public_error
from apex.types import READS

REFERENCE = "$ref"
MOST_NAMES = 10
MOST_BYTES = 1_000_000
"""The most that references may insert in one batch, as JSON."""

Run = Callable[[Any, int], Any]
"""A coroutine function that makes the call at a place of the batch and returns its value as JSON."""


class References:
    """The results of the calls that have been made, and the references to them.

    ``{"$ref": "0.data.1.id"}`` is the field ``id`` of the second record in the list ``data`` that call 0 has returned.
    """

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.inserted: int = 0

    def add(self, value: RawJSON) -> None:
        """Add the result of the next call, as its caller sees it."""
        self.results.append(decode(encode(value)))

    def require_earlier(self, call: Any, place: int) -> None:
        """Raise BadRequest if a reference of a call has the wrong form, or names no earlier call."""
        replaced(call, lambda reference: _parsed(reference, place))

    def resolve(self, call: Any, place: int) -> Any:
        """Return a call with values instead of references. Raises BadRequest for a value that is not there."""
        return replaced(call, lambda reference: self._value(reference, place))

    def _value(self, reference: Any, place: int) -> Any:
        index, names = _parsed(reference, place)
        value = self.results[index]
        for name in names:
            if isinstance(value, dict) and name in value:
                value = value[name]
            elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
                value = value[int(name)]
            else:
                raise BadRequest(f"The reference '{shortened(reference)}' names nothing in the result of call {index}")
        written = encode(value)
        self.inserted += len(written)
        if self.inserted > MOST_BYTES:
            raise BadRequest(f"The values of the references are larger than {MOST_BYTES:,} bytes")
        return decode(written)


def replaced(value: Any, replace: Callable[[Any], Any]) -> Any:
    """Return a JSON value with ``replace`` of each reference in it. The value itself stays as it is."""
    whole = [value]
    waiting: list[Any] = [whole]
    while waiting:
        container = waiting.pop()
        for key, inner in list(container.items() if isinstance(container, dict) else enumerate(container)):
            if isinstance(inner, dict) and inner.keys() == {REFERENCE}:
                container[key] = replace(inner[REFERENCE])
            elif isinstance(inner, dict | list):
                container[key] = inner.copy()
                waiting.append(container[key])
    return whole[0]


def _parsed(reference: Any, place: int) -> tuple[int, list[str]]:
    """Return the number of the call and the names that a reference has. Raises BadRequest."""
    if not isinstance(reference, str):
        raise BadRequest('A reference must be a text such as {"$ref": "0.id"}')
    number, *names = reference.split(".", MOST_NAMES + 1)
    if not (number.isascii() and number.isdecimal() and len(number) < 4) or "" in names:
        raise BadRequest(
            f"The reference '{shortened(reference)}' must be the number of a call and names, such as '0.id'"
        )
    if int(number) >= place:
        raise BadRequest(f"The reference '{shortened(reference)}' must name an earlier call than {place}")
    if len(names) > MOST_NAMES:
        raise BadRequest(f"The reference '{shortened(reference)}' is deeper than {MOST_NAMES} names")
    return int(number), names


async def run_atomic(app: Apex, calls: Sequence[Any], make: Callable[[Any], Call], run: Run) -> list[RawJSON]:
    """Make calls in one transaction, and return their values.

    ``make`` returns a call that is ready, or raises its error. Nothing is stored if a call fails, and its error names
    it: its message begins with the call, and ``data.call`` is its number, from 0.
    """
    references, place = References(), 0
    adapters: list[Adapter[Any]] = []
    try:
        for place, call in enumerate(calls):
            references.require_earlier(call, place)
            adapters += undoable(app, make(replaced(call, lambda _: None)))
        values: list[RawJSON] = []
        async with transaction(), AsyncExitStack() as stack:
            # The database commits first: if that fails, the other stores undo what they have.
            for adapter in adapters:
                await stack.enter_async_context(adapter.unit_of_work())
            if (database := app.get("database")) is not None:
                await stack.enter_async_context(database.transaction())
            for place, call in enumerate(calls):
                # As the calls of other batches, each has its own context variables.
                made = run(references.resolve(call, place), place)
                values.append(await asyncio.create_task(made, context=copy_context()))
                references.add(values[-1])
        return values
    except FeathersError as error:
        raise named(error, calls[place], place) from error
    except Exception as error:
        raise named(public_error(error, "A call of an atomic batch"), calls[place], place) from error


def undoable(app: Apex, call: Call) -> list[Adapter[Any]]:
    """Return the store that can undo what a call changes, if it is not the app's database.

    Raises BadRequest if nothing can undo it. What a service without a store does outside of the database is its own.
    """
    service: Any = call.service.service
    database = app.get("database")
    if call.method in getattr(service, "reads", READS):
        return []
    if call.method in getattr(service, "resumable", ()):
        raise BadRequest(f"{call.method} commits in steps, which an atomic batch cannot undo")
    own = getattr(service, "database", None)
    if own is not None and own is database:
        return []
    if isinstance(service, Adapter) and own is None and type(service).unit_of_work is not Adapter.unit_of_work:
        return [service]
    if isinstance(service, Adapter) or database is None or call.service._app.get("database") is not database:
        raise BadRequest("An atomic batch cannot undo it: only services of one database can be part of it")
    return []


def named(error: FeathersError, call: Any, place: int) -> FeathersError:
    """Return an error that names the call of a batch that it belongs to."""
    made = f" ({call[0]} {call[1]})" if isinstance(call, list) and len(call) > 1 else ""
    own = copy(error)
    own.message = f"Call {place}{shortened(made)}: {error.message}"
    own.args = (own.message,)
    own.data = {**error.data, "call": place} if isinstance(error.data, dict) else {"call": place}
    return own
