"""The REST transport, which reads an HTTP request as a call and sends its context as a response.

The paths of services are answered here. All other paths go on to a Starlette app with the user's routes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

from starlette.routing import BaseRoute

import apex.transports.http as http
from apex.app import Apex
from apex.context import Context, Params
from apex.encoding import Stream, encode
from apex.errors import BadRequest, MethodNotAllowed, PreconditionFailed
from apex.limits.clients import BODY_SECONDS, address_of
from apex.limits.queues import FairQueue
from apex.observability.observations import ENDED, Observation, observing, timed
from apex.query.querystring import parse
from apex.router import Match
from apex.service import BodyLimit, BoundService, Call
from apex.transaction import transaction_of
from apex.transports.http import SHOWN, Headers, Pairs
from apex.transports.positions import pop_position, with_position
from apex.transports.routes import other_routes
from apex.types import READS, STANDARD, ASGIApp, Receive, Scope, Send

BODY_LIMIT = 1024 * 1024
LARGE_AT_ONCE, LARGE_QUEUE = 4, 20
"""The requests with bodies beyond ``bodyLimit`` that a process works on at once, and those that may wait."""

_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "remove"}
_ON_COLLECTION = {"GET": "find", "HEAD": "find", **_WRITES}
_ON_RECORD = {"GET": "get", "HEAD": "get", **_WRITES}
_READS = ("GET", "HEAD")
_WITH_DATA = ("POST", "PUT", "PATCH")
_CONDITIONAL = ("update", "patch", "remove")
_SAFE_IN_LOCATION = "%/:=&?~#+!$,;'@()*[]"

_NO_TURN: AbstractAsyncContextManager[None] = nullcontext()

ServiceMatch = Match[BoundService]
Answer = tuple[int, Pairs, bytes | Stream, Context]
"""Status, headers and body of a response, and the context of its call."""


def rest(app: Apex, *, routes: Sequence[BaseRoute] = ()) -> None:
    """Configure the transport: ``app.configure(rest)``. ``routes`` are added to ``app.routes``.

    It reads ``origins`` (default all) and ``bodyLimit`` (bytes, default 1 MiB) from the app's settings.
    """
    app.routes += [route for route in routes if route not in app.routes]
    app.transport = Rest(app)


class Rest:
    """The ASGI application that answers requests for services, and leaves other paths to Starlette routes."""

    def __init__(self, app: Apex) -> None:
        self.app: Apex = app
        self.cors: http.Cors = http.Cors(app.get("origins") or ["*"])
        self.others: ASGIApp = other_routes(app)
        self.body_limit: BodyLimit = BodyLimit(app.get("bodyLimit") or BODY_LIMIT)
        self.body_seconds: float = (app.get("http") or {}).get("requestSeconds", BODY_SECONDS)
        self.forms: bool = bool(app.get("forms"))
        self.proxies: int = app.get("proxies") or 0
        busy = "Too many large requests at the same time: try again"
        self.large: FairQueue = FairQueue(LARGE_AT_ONCE, LARGE_QUEUE, busy)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer a preflight request or a request for a service. All other paths go on to the other routes."""
        if scope["type"] != "http":
            return self.others(scope, receive, send)
        if scope["method"] == "OPTIONS" and (headers := self.cors.preflight_headers(scope)) is not None:
            return http.respond(send, 204, headers, b"", 0)
        added = self.cors.response_headers(scope)
        match = self._match(scope)
        if match is None:
            return self.others(scope, receive, http.with_headers(send, added))
        if ENDED in self.app._listeners or self.app.settings.get("timing"):
            return self._serve_observed(scope, receive, send, match, added)
        return self._serve(scope, receive, send, match, added, None)

    def _match(self, scope: Scope) -> ServiceMatch | None:
        """Return the service of a path, or None. Ids may hold encoded slashes: the raw path is split, then decoded.

        A service has one path, as proxies may have rules for it. One slash at the end is allowed, as Feathers does.
        """
        raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        spelled = raw.decode("latin-1").partition("?")[0].removeprefix("/").split("/")
        if not spelled[-1]:
            spelled.pop()
        segments = [unquote(one, errors="replace") for one in spelled] if b"%" in raw else spelled
        if root := scope.get("root_path", "").strip("/"):
            # A server may have removed the mount path already.
            depths = (depth for depth in range(root.count("/") + 2) if "/".join(segments[:depth]) == root)
            depth = next(depths, 0)
            segments, spelled = segments[depth:], spelled[depth:]
        match = None if "" in segments else self.app.router.lookup(segments, spelled)
        if match is None or match.id is None or scope["method"] != "POST":
            return match
        return match if match.target._has_records or _names_method(match) else None

    async def _serve_observed(
        self, scope: Scope, receive: Receive, send: Send, match: ServiceMatch, added: Pairs
    ) -> None:
        verb = scope["method"] if scope["method"] in _ON_RECORD else "OTHER"
        with observing(Observation(self.app, "rest", match.target._path, verb, sent=scope["headers"])) as seen:
            await self._serve(scope, receive, send, match, added, seen)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, match: ServiceMatch, added: Pairs, seen: Observation | None
    ) -> None:
        """Answer a request for a service with the result of its call or with an error."""
        context: Context | None = None
        try:
            status, headers, body, context = await self._answer(scope, receive, match, seen)
        except http.ClientGone:
            return
        except Exception as error:
            if isinstance(error, MethodNotAllowed) and not http.has_header(error, "allow"):
                error.headers["Allow"] = _allowed_verbs(scope, match)
            challenge = str(getattr(self.app.get("defaultAuthentication"), "challenge", "Bearer"))
            doing = f"{scope['method']} {scope['path']}"
            status, headers, body = http.failure(error, doing, match.target._options.errors, challenge)
            if seen is not None:
                seen.error = error
        if seen is not None:
            seen.status = status
            if seen.shown:
                headers.extend(seen.response_headers())
        try:
            if isinstance(body, Stream):
                await http.send_stream(receive, send, status, [*headers, *added], body)
            else:
                sent = b"" if scope["method"] == "HEAD" else body
                await http.respond(send, status, [*headers, *added], sent, len(body))
        finally:
            if context is not None and context.deferred:
                context.start_deferred()

    async def _answer(self, scope: Scope, receive: Receive, match: ServiceMatch, seen: Observation | None) -> Answer:
        """Read a request as a call, run it, and return the response with its result.

        A body that may be larger than others waits for its turn before it is read, so that only a few are in memory.
        """
        headers, verb, limit, turn = http.headers_of(scope), scope["method"], self.body_limit, _NO_TURN
        method = method_of(match, verb, headers.get("x-service-method"))
        if verb in _WITH_DATA and (limits := match.target._options.body_limits):
            limit, length = max(limits.get(method, limit), limit), http.length_of(headers)
            if length > limit.size:
                raise http.too_large(limit)
            if limit.size > self.body_limit.size and not 0 <= length <= self.body_limit.size:
                turn = self.large.turn((address_of(scope, headers, self.proxies) or "",))
        async with turn:
            if match.id == method and method not in STANDARD:
                match = match._replace(id=None)
            call = await self._call(scope, receive, match, headers, method, limit)
            if seen is not None:
                seen.call = call
            asks_position = self.app.log is not None and pop_position(call)
            context = await self.app.call(call)
            if seen is None or seen.parts is None:
                status, pairs, body = _success(context)
            else:
                with timed("encode"):
                    status, pairs, body = _success(context)
            if isinstance(body, Stream):
                await body.start()
            elif method in READS and status == 200:
                if context.position is not None:
                    pairs.append((b"position", str(context.position).encode()))
                if asks_position:
                    body = with_position(body, context)
                status, body = _tagged(call, pairs, body)
            return status, pairs, body, context

    async def _call(
        self, scope: Scope, receive: Receive, match: ServiceMatch, headers: Headers, method: str, limit: BodyLimit
    ) -> Call:
        """Read a request as a call."""
        verb, text, body, data = scope["method"], scope["query_string"], None, None
        query = parse(text.decode("latin-1")) if text else {}
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        if verb in _WITH_DATA or (verb == "GET" and has_body):
            body = await http.read_body(receive, headers, limit, self.body_seconds)
            data = http.parse_body(body, headers.get("content-type", ""), self.forms)
        if verb == "GET" and data is not None:
            asked = data.get("query", {}) if isinstance(data, dict) else None
            if not isinstance(asked, dict):
                raise BadRequest('The body of a GET must be an object such as {"query": {...}}')
            query = {**query, **asked}
        client = scope.get("client")
        values = {
            "query": query, "provider": "rest", "headers": headers, "ip": client[0] if client else None,
            "route": match.route, "body": body,
        }  # fmt: skip
        if "x-forwarded-for" in headers:
            values["ip"] = address_of(scope, headers, self.proxies)
        if mount := scope.get("root_path") or (self.proxies and headers.get("x-forwarded-prefix")):
            values["mount"] = mount.rstrip("/")
        for read in self.app.parsers:
            if (authentication := read(headers)) is not None:
                values["authentication"] = authentication
        call = Call(match.target, method, match.id, data, Params(values))
        if method in _CONDITIONAL and (tags := headers.get("if-match")) is not None:
            return on_condition(self.app, call, tags)
        return call


def _names_method(match: ServiceMatch) -> bool:
    """Return True if the id of a path is the name of a custom method, as in ``POST /notes/search``."""
    return match.id in match.target._options.methods and match.id not in STANDARD


def method_of(match: ServiceMatch, verb: str, custom: str | None) -> str:
    """Return the service method that a request asks for. Raises MethodNotAllowed.

    A custom method is named by the header ``X-Service-Method``, as Feathers' clients do, or by the end of the path.
    """
    methods = _ON_COLLECTION if match.id is None else _ON_RECORD
    if verb not in methods:
        raise MethodNotAllowed(f"Method {verb} not allowed")
    method = methods[verb]
    if verb == "POST":
        method = custom or (match.id if match.id is not None and _names_method(match) else method)
    if method not in match.target._options.methods or custom in STANDARD:
        raise MethodNotAllowed(f"Method `{method[:SHOWN]}` is not supported by this endpoint.")
    return method


def _allowed_verbs(scope: Scope, match: ServiceMatch) -> str:
    """Return the header ``Allow`` (RFC 9110, 10.2.1): the verbs of the service's methods without the refused one.

    A POST that named a custom method stays.
    """
    exposed, verb = match.target._options.methods, scope["method"]
    named = any(name == b"x-service-method" for name, _ in scope["headers"])
    refused = () if named else _READS if verb in _READS else (verb,)
    has_custom = any(method not in STANDARD for method in exposed)
    return ", ".join(
        one
        for one, method in (_ON_COLLECTION if match.id is None else _ON_RECORD).items()
        if (method in exposed and one not in refused) or (one == "POST" and has_custom)
    )


def on_condition(app: Apex, call: Call, tags: str) -> Call:
    """Return the call for a request with ``If-Match`` (RFC 9110, 13.1.1): the record must have one of the tags.

    The record is the one that ``get`` shows for the query of the call. It is read after all hooks that run before the
    method, with a lock and in one transaction with the method. So a call that hooks refuse takes no connection. If a
    hook sets the result, such as the stored answer to a repeated ``Idempotency-Key``, nothing is compared. The call of
    ``get`` has ``params.is_version_check``, for hooks that count the requests of callers.

    Raises BadRequest for a call without an id and for a service without ``get``.
    """
    if call.id is None or "get" not in call.service._options.methods:
        raise BadRequest("If-Match is for one record, which can be asked for with get")
    params = Params({**call.params, "adapter": {"lock": True}, "is_version_check": True})
    get = Call(call.service, "get", call.id, None, params)

    async def compare_and_change(method: Callable[[], Awaitable[Any]]) -> Any:
        async with transaction_of(app, call.service.service):
            _, headers, body = _success(await app.call(get))
            if not http.is_among(_tag(dict(headers), body), tags):
                raise PreconditionFailed("The record is not the one that you know: get it again, and decide anew")
            return await method()

    return replace(call, around_method=compare_and_change)


def _success(context: Context) -> tuple[int, Pairs, bytes | Stream]:
    """Return status, headers and body of a result.

    The rule of Feathers for the status: the one that a hook has set, else 303 with a location, 204 without a result,
    201 for create, and 200.
    """
    value, own, pairs = context._outgoing, context.http, []
    status = 204 if value is None else 201 if context.method == "create" else 200
    if own:
        headers = dict(own.get("headers") or {})
        if own.get("location") is not None:
            headers["Location"] = quote(own["location"], safe=_SAFE_IN_LOCATION)
        status = own.get("status") or (303 if "Location" in headers else status)
        pairs = list(http.pairs_of(headers))
    if isinstance(value, Stream):
        return status, pairs, value
    return status, pairs, b"" if value is None or status in http.BODILESS else encode(value)


def _tag(headers: Mapping[bytes, bytes], body: Any) -> str:
    """Return the tag of a response: the ``ETag`` that a hook has set, or that of the body."""
    own = headers.get(b"etag")
    return http.tag_of(body) if own is None else own.decode("latin-1")


def _tagged(call: Call, headers: Pairs, body: bytes) -> tuple[int, bytes]:
    """Add the tag of a response to its headers. Return 304 and no body if the client has it, else 200 and the body."""
    given = dict(headers)
    tag = _tag(given, body)
    if b"etag" not in given:
        headers.append((b"etag", tag.encode()))
    if b"cache-control" not in given:
        headers.append((b"cache-control", b"private, no-cache"))
    known = call.params["headers"].get("if-none-match")
    return (304, b"") if known is not None and http.is_among(tag, known) else (200, body)
