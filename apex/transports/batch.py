"""A service that makes many calls in one request, in the shape of feathers-batch.

``create({"calls": [["get", "notes", 1, {}], ["create", "notes", {...}, {}]]})`` returns a list in the order of the
calls: ``{"status": "fulfilled", "value": ...}`` or ``{"status": "rejected", "reason": <error>}``. Each call has a
method, a path, the arguments of the method before its params, and a query.

With ``"atomic": True`` the calls are one transaction, one after the other, and ``{"$ref": "0.id"}`` is a value of an
earlier result. If a call fails, nothing is stored, and its error is that of the batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context as Variables
from functools import partial
from typing import Any

from apex.app import Apex
from apex.context import Params, current_call
from apex.describe import ANY, describe
from apex.encoding import RawJSON, Stream, decode, encode
from apex.errors import BadRequest, NotFound
from apex.observability.observations import ENDED, Observation, current, observing
from apex.query.language import shortened
from apex.service import BoundService, Call, Service
from apex.transports.atomic import run_atomic
from apex.transports.http import failure, public_error
from apex.types import STANDARD, Row, taken_by

MOST_CALLS = 100
IDEMPOTENCY = "idempotency-key"
CALL = {
    "description": (
        "A list of method, path, the arguments of the method and a query. A call in another form is rejected, and the "
        "others run."
    )
}
CALLS = {
    "title": "Batch",
    "type": "object",
    "properties": {
        "calls": {"type": "array", "items": CALL, "maxItems": MOST_CALLS},
        "atomic": {
            "type": "boolean",
            "default": False,
            "description": (
                'Make the calls one after the other in one transaction, all or none. `{"$ref": "0.id"}` in the id, '
                "data or query of a call is the field `id` in the result of call 0. The error of a call is that of the "
                "batch, with the number of the call in `data.call`."
            ),
        },
    },
    "required": ["calls"],
}
KEY = {
    "schema": {"type": "string", "maxLength": 250},
    "description": "A new key for each batch, such as a UUID: a call of a method that takes this header is made once, "
    "however often the batch is sent. Postman writes a new one for `{{$guid}}`.",
    "example": "{{$guid}}",
}
SETTLED = {
    "title": "BatchResult",
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"status": {"enum": ["fulfilled", "rejected"]}, "value": {}, "reason": {"type": "object"}},
        "required": ["status"],
    },
}
"""The shapes of a batch and of its result, for the OpenAPI document."""

_INHERITED = ("provider", "headers", "ip", "authentication", "connection")


def batch(app: Apex) -> None:
    """Register the service at ``/batch``: ``app.configure(batch)``."""
    app.use("batch", Batch(app), methods=["create"])
    app.service("batch").publish(lambda data, context: None)


class Batch(Service):
    """The service for many calls in one request.

    Each call runs as if it were a request of its own, with the authentication of the batch. A call that fails does not
    affect the others.
    """

    summaries = {"create": "Make many calls"}
    logged: bool = False
    multi = True  # ``create`` refuses a list itself, with an error that describes a batch.

    def __init__(self, app: Apex) -> None:
        self.app = app

    @describe(data={"create": CALLS}, result=SETTLED, strategies=(ANY,), sends={"Idempotency-Key": KEY})
    async def create(self, data: Any, params: Params) -> list[Row]:
        """Run the calls. Raises BadRequest if the data is not a list of at most 100 calls.

        With ``atomic`` it raises the error of the first call that fails, and nothing is stored.
        """
        return _decoded(await self._settled_calls(data, params))

    def _outgoing(self, method: str) -> Callable[..., Awaitable[Any]] | None:
        return self._create if method == "create" else None

    async def _create(self, data: Any, params: Params, json: bool) -> RawJSON:
        """Return the settled calls as JSON, in which values that a database has written stay as they are."""
        settled = await self._settled_calls(data, params)
        return RawJSON(encode(settled), lambda _: _decoded(settled))

    async def _settled_calls(self, data: Any, params: Params) -> list[Row]:
        calls = data.get("calls") if isinstance(data, dict) else None
        if not isinstance(calls, list) or len(calls) > MOST_CALLS:
            rule = f'Must be a list of at most {MOST_CALLS} calls, such as ["get", "contacts", 1, {{}}]'
            raise BadRequest("Invalid batch", errors={"calls": rule})
        if (is_atomic := data.get("atomic", False)) is True:
            return await self._atomic_calls(calls, params)
        if is_atomic is not False:
            raise BadRequest("Invalid batch", errors={"atomic": "Must be true or false"})
        # Each call has its own context variables, as a request has.
        settle = partial(self._observed, current()) if self.app.listens(ENDED) else self._settled
        makers = (settle(call, _nth(params, place)) for place, call in enumerate(calls))
        return await asyncio.gather(*(asyncio.create_task(made, context=_variables()) for made in makers))

    async def _atomic_calls(self, calls: list[Any], params: Params) -> list[Row]:
        outer = current() if self.app.listens(ENDED) else None

        def make(call: Any) -> Call:
            return self._call(call, {})

        async def run(call: Any, place: int) -> RawJSON:
            if not self.app.listens(ENDED):
                return await self._value(call, _nth(params, place), None)
            seen = self._observation(outer, params)
            with observing(seen):
                try:
                    value = await self._value(call, _nth(params, place), seen)
                except Exception as error:
                    seen.error, seen.status = error, public_error(error, "A call of an atomic batch").code
                    raise
                seen.status = 200
            return value

        return [{"status": "fulfilled", "value": value} for value in await run_atomic(self.app, calls, make, run)]

    async def _observed(self, outer: Observation | None, call: Any, params: Row) -> Row:
        seen = self._observation(outer, params)
        with observing(seen):
            return await self._settled(call, params, seen)

    def _observation(self, outer: Observation | None, params: Mapping[str, Any]) -> Observation:
        request_id = params.get("headers", {}).get("x-request-id", "")
        return Observation(self.app, params.get("provider") or "", request_id=request_id, outer=outer)

    async def _settled(self, call: Any, params: Row, seen: Observation | None = None) -> Row:
        try:
            value = await self._value(call, params, seen)
            status, settled = 200, {"status": "fulfilled", "value": value}
        except Exception as error:
            status, _, body = failure(error, "A call of a batch")
            settled = {"status": "rejected", "reason": decode(body)}
            if seen is not None:
                seen.error = error
        if seen is not None:
            seen.status = status
        return settled

    async def _value(self, call: Any, params: Row, seen: Observation | None) -> RawJSON:
        made = self._call(call, params)
        if seen is not None:
            seen.call = made
        value = (await self.app.call(made))._outgoing
        if isinstance(value, Stream):
            raise BadRequest("A result that is streamed does not fit into a batch")
        # Encoded here, so that a value without a JSON form fails its own call alone.
        return value if isinstance(value, RawJSON) else RawJSON(encode(value), lambda _: value)

    def _call(self, call: Any, params: Row) -> Call:
        if not isinstance(call, list) or len(call) < 2 or not all(isinstance(name, str) for name in call[:2]):
            raise BadRequest('A call must be a list such as ["get", "contacts", 1, {}]')
        method, path, *arguments = call
        service, route = self._service(path)
        if method not in service._options.methods or service.service is self:
            raise BadRequest(f"Invalid method {shortened(method)} on {shortened(path)}")
        if service.service is self.app.get("defaultAuthentication"):
            # A proxy counts the requests of those who guess passwords.
            raise BadRequest("Logging in or out is a request of its own")
        taken = taken_by(method)
        if not len(taken) <= len(arguments) <= len(taken) + 1:
            raise BadRequest(f"{method} takes {', '.join((*taken, 'query'))}")
        given, query = arguments_of(method, arguments)
        asked = Params({**params, "query": query, "route": route})
        return Call(service, method, given.get("id"), given.get("data"), asked)

    def _service(self, path: str) -> tuple[BoundService, dict[str, str]]:
        segments = path.strip("/").split("/")
        match = None if "" in segments else self.app.lookup(segments)
        if match is None or match.id is not None:
            raise NotFound(f"Invalid service {shortened(path)}")
        return match.target, match.route


def _variables() -> Variables:
    own = Variables()
    own.run(current_call.set, current_call.get())
    return own


def _nth(params: Params, place: int) -> Row:
    """Return the params that a call takes over from its batch. It gets an idempotency key of its own."""
    own = {name: params[name] for name in _INHERITED if name in params}
    key = own.get("headers", {}).get(IDEMPOTENCY)
    return own if key is None else {**own, "headers": {**own["headers"], IDEMPOTENCY: f"{key}/{place}"}}


def _decoded(settled: list[Row]) -> list[Row]:
    """Return the settled calls with their values as hooks see them."""
    return [{**one, "value": one["value"].value} if "value" in one else one for one in settled]


def arguments_of(method: str, values: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of a method by name, and the query. Raises BadRequest for wrong values."""
    names = taken_by(method)
    if len(values) > len(names) + 1:
        raise BadRequest(f"Too many arguments for '{method}' method")
    given = dict(zip((*names, "query"), values, strict=False))
    query = given.pop("query", None)
    if not isinstance(query, dict | None):
        raise BadRequest("The query must be an object")
    if isinstance(given.get("id"), bool | float | list | dict):
        raise BadRequest("The id must be a string, an integer or null")
    if method in STANDARD and not isinstance(given.get("data"), dict | list | None):
        raise BadRequest("The data must be an object or a list")
    return given, query or {}
