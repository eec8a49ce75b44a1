"""The REST transport, which reads an HTTP request as a call and sends its context as a response.

The paths of services are answered here. All other paths go on to a Starlette app with the user's routes.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from copy import copy
from itertools import islice
from typing import Any
from urllib.parse import quote, unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.routing import Match as Found

from apex.app import Apex
from apex.context import Context, Params
from apex.encoding import Stream, decode_storable, encode
from apex.errors import (
    BY_CODE,
    BadRequest,
    FeathersError,
    GeneralError,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Timeout,
    UnsupportedMediaType,
)
from apex.limits.clients import BODY_SECONDS, address_of
from apex.limits.queues import FairQueue
from apex.observability.observations import ENDED, Observation, observing, timed
from apex.query.querystring import parse
from apex.router import Match
from apex.service import BodyLimit, BoundService, Call
from apex.transports.conditional import CHANGES, is_among, on_condition, tag_of
from apex.transports.cors import Cors, Pairs, is_preflight
from apex.types import STANDARD, Receive, Scope, Send

Headers = dict[str, str]

log: logging.Logger = logging.getLogger("apex")

BODY_LIMIT = 1024 * 1024
LARGE_AT_ONCE, LARGE_QUEUE = 4, 20
"""The requests with bodies beyond ``bodyLimit`` that a process works on at once, and those that may wait."""

MOST_ERRORS = 100
JSON = "application/json; charset=utf-8"

_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "remove"}
_ON_COLLECTION = {"GET": "find", "HEAD": "find", **_WRITES}
_ON_RECORD = {"GET": "get", "HEAD": "get", **_WRITES}
_SAFE_IN_LOCATION = "%/:=&?~#+!$,;'@()*[]"
_READS = ("GET", "HEAD")
_WITH_DATA = ("POST", "PUT", "PATCH")
_BODILESS = (204, 304)
_SHOWN = 100
_TAGGED = ("find", "get")
_JSON = (b"content-type", JSON.encode())
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_PRIVATE = b"cache-control", b"private, no-cache"
_SERVERS = {"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"}
"""Headers about the way in which a message is sent (RFC 9110, 7.6.1 and 8.6). The server writes them, not a hook."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


def rest(app: Apex, *, routes: Sequence[BaseRoute] = ()) -> None:
    """Configure the transport: ``app.configure(rest)``. ``routes`` are Starlette routes next to the services.

    It reads ``origins`` (default all) and ``bodyLimit`` (bytes, default 1 MiB) from the app's settings.
    """
    app.transport = Rest(app, routes)


class Rest:
    """The ASGI application that answers requests for services, and leaves other paths to Starlette routes."""

    def __init__(self, app: Apex, routes: Sequence[BaseRoute]) -> None:
        self.app: Apex = app
        self.body_limit: BodyLimit = BodyLimit(app.get("bodyLimit") or BODY_LIMIT)
        self.body_seconds: float = (app.get("http") or {}).get("requestSeconds", BODY_SECONDS)
        self.proxies: int = app.get("proxies") or 0
        self.large: FairQueue = FairQueue(
            LARGE_AT_ONCE, LARGE_QUEUE, "Too many large requests at the same time: try again"
        )
        other_routes = Starlette(
            routes=list(routes),
            lifespan=app.lifespan,
            exception_handlers={
                **dict.fromkeys((HTTPException, FeathersError, Exception), _starlette_error),
                ClientDisconnect: _answer_nobody,
            },
        )
        self.cors: Cors = Cors(other_routes, app.get("origins") or ["*"])

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer a request for a service. Preflight requests and all other paths go on to the other routes."""
        if scope["type"] != "http" or (scope["method"] == "OPTIONS" and is_preflight(scope)):
            return self.cors(scope, receive, send)
        match = self._match(scope)
        if match is None:
            return self.cors(scope, receive, send)
        is_observed = self.app.listens(ENDED) or self.app.settings.get("timing")
        serve = self._serve_observed if is_observed else self._serve
        return serve(scope, receive, send, match, self.cors.response_headers(scope))

    async def _serve_observed(
        self, scope: Scope, receive: Receive, send: Send, match: Match[BoundService], added: Pairs
    ) -> None:
        verb = scope["method"] if scope["method"] in _ON_RECORD else "OTHER"
        request_id = added[-1][1].decode()
        with observing(Observation(self.app, "rest", match.target._path, verb, request_id, scope["headers"])) as seen:
            await self._serve(scope, receive, send, match, added, seen)

    async def _serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        match: Match[BoundService],
        added: Pairs,
        seen: Observation | None = None,
    ) -> None:
        """Answer a request for a service: read the call, run it, and send its result or its error."""
        context: Context | None = None
        try:
            if match.target._options.body_limits and scope["method"] in _WITH_DATA:
                status, headers, body, context = await self._answer_in_turn(scope, receive, match, seen)
            else:
                status, headers, body, context = await self._answer(scope, receive, match, seen, self.body_limit)
        except ClientGone:
            return
        except Exception as error:
            if isinstance(error, MethodNotAllowed):
                _name_allowed(error, scope, match)
            doing = f"{scope['method']} {scope['path']}"
            status, headers, body = failure(error, doing, match.target._options.errors, self._challenge)
            if seen is not None:
                seen.error = error
        if seen is not None:
            seen.status = status
            if seen.shown:
                headers.extend(seen.response_headers())
        try:
            if isinstance(body, Stream):
                await send_stream(receive, send, status, [*headers, *added], body)
            else:
                sent = b"" if scope["method"] == "HEAD" else body
                await respond(send, status, [*headers, *added], sent, len(body))
        finally:
            if context is not None and context.deferred:
                context.start_deferred()

    async def _answer_in_turn(
        self, scope: Scope, receive: Receive, match: Match[BoundService], seen: Observation | None
    ) -> tuple[int, Pairs, bytes | Stream, Context]:
        """Answer a request within the body limit of its method.

        A body that may be larger than others waits for its turn before it is read, so that only a few are in memory.
        """
        head = dict(scope["headers"])
        custom, declared = head.get(b"x-service-method"), _length(head.get(b"content-length", b"").decode("latin-1"))
        method = _method(match.target, scope["method"], match.id is not None, custom and custom.decode("latin-1"))
        limit = max(match.target._options.body_limits.get(method, self.body_limit), self.body_limit)
        if declared > limit.size:
            raise _too_large(limit)
        if limit.size == self.body_limit.size or 0 <= declared <= self.body_limit.size:
            return await self._answer(scope, receive, match, seen, limit)
        async with self.large.turn((address_of(scope, headers_of(scope), self.proxies) or "",)):
            return await self._answer(scope, receive, match, seen, limit)

    async def _answer(
        self, scope: Scope, receive: Receive, match: Match[BoundService], seen: Observation | None, limit: BodyLimit
    ) -> tuple[int, Pairs, bytes | Stream, Context]:
        """Run the call of a request. Return status, headers and body of the response, and the context."""
        call = await self._call(scope, receive, match, limit)
        if seen is not None:
            seen.call = call
        context = await self.app.call(call)
        if seen is None or seen.parts is None:
            status, headers, body = _success(context)
        else:
            with timed("encode"):
                status, headers, body = _success(context)
        if isinstance(body, Stream):
            await body.start()
        elif call.method in _TAGGED and status == 200:
            status, body = _tagged(call, headers, body)
        return status, headers, body, context

    def _challenge(self) -> str:
        authentication = self.app.get("defaultAuthentication")
        return "Bearer" if authentication is None else str(authentication.challenge)

    def _match(self, scope: Scope) -> Match[BoundService] | None:
        """Return the service of a path, or None. Ids may hold encoded slashes: the raw path is split, then decoded.

        A service has one path, as proxies may have rules for it. One slash at the end is allowed, as Feathers does.
        """
        raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        spelled = raw.decode("latin-1").partition("?")[0].removeprefix("/").split("/")
        if not spelled[-1]:
            spelled.pop()
        segments = [unquote(one, errors="replace") for one in spelled] if b"%" in raw else spelled
        if scope.get("root_path"):
            segments = _below(scope["root_path"].strip("/"), segments)
            spelled = spelled[len(spelled) - len(segments) :]
        match = None if "" in segments else self.app.router.lookup(segments, spelled)
        if match is not None and match.id is not None and scope["method"] == "POST" and not match.target._has_records:
            return None
        return match

    async def _call(self, scope: Scope, receive: Receive, match: Match[BoundService], limit: BodyLimit) -> Call:
        """Read a request as a call."""
        headers = headers_of(scope)
        service, verb = match.target, scope["method"]
        method = _method(service, verb, match.id is not None, headers.get("x-service-method"))
        query = parse(scope["query_string"].decode("latin-1"))
        body = data = None
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        if verb in _WITH_DATA or (verb == "GET" and has_body):
            _require_plain(headers.get("content-encoding", ""))
            body = await self._body(receive, headers, limit)
            data = _json(body, headers.get("content-type", ""))
        if verb == "GET" and data is not None:
            query = {**query, **_query_of(data)}
        values = {
            "query": query, "provider": "rest", "headers": headers, "ip": address_of(scope, headers, self.proxies),
            "route": match.route, "body": body,
        }  # fmt: skip
        if mount := scope.get("root_path") or (self.proxies and headers.get("x-forwarded-prefix")):
            values["mount"] = mount.rstrip("/")
        for read in self.app.parsers:
            if (authentication := read(headers)) is not None:
                values["authentication"] = authentication
        call = Call(service, method, match.id, data, Params(values))
        if method in CHANGES and (tags := headers.get("if-match")) is not None:
            return on_condition(self.app, call, tags)
        return call

    async def _body(self, receive: Receive, headers: Headers, limit: BodyLimit) -> bytes:
        """Return the body as it was sent. Raises Timeout if it takes too long."""
        try:
            async with asyncio.timeout(self.body_seconds):
                return await _read(receive, headers, limit)
        except TimeoutError:
            raise Timeout(f"The body did not arrive within {self.body_seconds} seconds") from None


async def _read(receive: Receive, headers: Headers, limit: BodyLimit) -> bytes:
    if _length(headers.get("content-length", "")) > limit.size:
        raise _too_large(limit)
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit.size:
            raise _too_large(limit)
    return bytes(body)


def _length(declared: str) -> int:
    """Return the bytes of a body as ``Content-Length`` declares them, or -1 if it does not."""
    return int(declared) if declared.isdecimal() else -1


def _too_large(limit: BodyLimit) -> PayloadTooLarge:
    text = f"request entity too large: the limit is {limit.size} bytes"
    return PayloadTooLarge(f"{text}. {limit.advice}" if limit.advice else text)


def _below(root: str, segments: list[str]) -> list[str]:
    """Return the path below the mount path, which a server may have removed already."""
    for depth in range(1, root.count("/") + 2):
        if "/".join(segments[:depth]) == root:
            return segments[depth:]
    return segments


def public_error(error: Exception, doing: str) -> FeathersError:
    """Return the error for callers, with at most 100 wrong fields.

    An error that is not a FeathersError is logged, and its text stays in the log.
    """
    if isinstance(error, FeathersError):
        if isinstance(error.errors, dict) and len(error.errors) > MOST_ERRORS:
            named = islice(error.errors.items(), MOST_ERRORS)
            error = copy(error)
            error.errors = dict(named)
        return error
    log.error("%s failed", doing, exc_info=error)
    return GeneralError("An unexpected error occurred")


def failure(
    error: Exception,
    doing: str,
    form: Callable[[FeathersError], Any] = FeathersError.to_dict,
    challenge: Callable[[], str] = lambda: "Bearer",
) -> tuple[int, Pairs, bytes]:
    """Return status, headers and body of the response to an error.

    ``form`` makes the body. If it fails, that is logged, and the body is that of the error itself. ``challenge`` makes
    the header ``WWW-Authenticate``, which each 401 needs (RFC 9110, 15.5.2).
    """
    error = public_error(error, doing)
    if error.code == 401 and not _has_header(error, "www-authenticate"):
        error.headers["WWW-Authenticate"] = challenge()
    try:
        headers = list(_flat(error.headers))
    except ValueError as unsendable:
        return failure(unsendable, doing, form, challenge)
    try:
        return error.code, headers, encode(form(error))
    except Exception as failed:
        if error.data is not None:
            # It may be the caller's data, in a form that JSON does not have.
            error.data = None
            return failure(error, doing, form, challenge)
        log.error("%s failed, and its error has no body: %r", doing, error, exc_info=failed)
    message = error.message.encode("utf-8", "replace").decode()
    body = {"name": error.name, "message": message, "code": error.code, "className": error.class_name}
    return error.code, headers, encode(body)


def _method(service: BoundService, verb: str, has_id: bool, custom: str | None) -> str:
    """Return the service method that a request asks for. Raises MethodNotAllowed."""
    methods = _ON_RECORD if has_id else _ON_COLLECTION
    if verb not in methods:
        raise MethodNotAllowed(f"Method {verb} not allowed")
    method = custom if custom and verb == "POST" else methods[verb]
    if method not in service._options.methods or custom in STANDARD:
        raise MethodNotAllowed(f"Method `{method[:_SHOWN]}` is not supported by this endpoint.")
    return method


def _name_allowed(error: FeathersError, scope: Scope, match: Match[BoundService]) -> None:
    """Set ``Allow`` (RFC 9110, 10.2.1) on an error that has none, as hooks and services may raise it.

    It lists the verbs of the service's methods without the refused one. A POST that named a custom method stays.
    """
    if _has_header(error, "allow"):
        return
    exposed, verb = match.target._options.methods, scope["method"]
    methods = _ON_COLLECTION if match.id is None else _ON_RECORD
    named = any(name == b"x-service-method" for name, _ in scope["headers"])
    refused = () if named else _READS if verb in _READS else (verb,)
    allowed = {one for one, method in methods.items() if one not in refused and method in exposed}
    if any(method not in STANDARD for method in exposed):
        allowed.add("POST")
    verbs = [one for one in methods if one in allowed]
    error.headers["Allow"] = ", ".join(verbs)


def headers_of(scope: Scope) -> Headers:
    """Return the headers of a request. The values of a name that comes several times are joined with commas."""
    headers: Headers = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _has_header(error: FeathersError, name: str) -> bool:
    return any(own.lower() == name for own in error.headers)


def _require_plain(encoding: str) -> None:
    """Raise UnsupportedMediaType for a body that is compressed (RFC 9110, 15.5.16)."""
    if encoding and encoding.strip().lower() != "identity":
        rule = f"Content-Encoding is '{encoding[:_SHOWN]}': send the body as it is"
        raise UnsupportedMediaType(rule, headers={"Accept-Encoding": "identity"})


def _json(body: bytes, content_type: str) -> Any:
    """Return the value of a body, None if it is empty. Raises BadRequest or UnsupportedMediaType."""
    if not body.strip():
        return None
    if content_type and not content_type.partition(";")[0].strip().lower().endswith(("/json", "+json")):
        rule = f"Content-Type is '{content_type[:_SHOWN]}': send JSON as application/json"
        raise UnsupportedMediaType(rule, headers={"Accept": "application/json"})
    try:
        data = decode_storable(body)
    except ValueError as error:
        raise BadRequest(f"Malformed JSON: {str(error)[:200]}") from None
    if not isinstance(data, dict | list):
        raise BadRequest("invalid JSON, only supports object and array")
    return data


def _query_of(data: Any) -> dict[str, Any]:
    query = data.get("query", {}) if isinstance(data, dict) else None
    if not isinstance(query, dict):
        raise BadRequest('The body of a GET must be an object such as {"query": {...}}')
    return query


def _success(context: Context) -> tuple[int, Pairs, bytes | Stream]:
    """Return status, headers and body of a result.

    The rule of Feathers for the status: the one that a hook has set, else 303 with a location, 204 without a result,
    201 for create, and 200.
    """
    value, http = context._outgoing, context.http
    usual = 204 if value is None else 201 if context.method == "create" else 200
    if not http:
        status, pairs = usual, []
    else:
        headers = dict(http.get("headers") or {})
        if http.get("location") is not None:
            headers["Location"] = quote(http["location"], safe=_SAFE_IN_LOCATION)
        status = http.get("status") or (303 if "Location" in headers else usual)
        pairs = list(_flat(headers))
    if isinstance(value, Stream):
        return status, pairs, value
    return status, pairs, b"" if value is None or status in _BODILESS else encode(value)


def _tagged(call: Call, headers: Pairs, body: bytes) -> tuple[int, bytes]:
    """Add the tag of a body to the headers. Return status and body, which are 304 and empty if the client has it."""
    given = dict(headers)
    tag = given[b"etag"].decode("latin-1") if b"etag" in given else tag_of(body)
    if b"etag" not in given:
        headers.append((b"etag", tag.encode()))
    if b"cache-control" not in given:
        headers.append(_PRIVATE)
    known = call.params["headers"].get("if-none-match")
    return (304, b"") if known is not None and is_among(tag, known) else (200, body)


def _flat(headers: Mapping[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and value of each header. Raises ValueError for one that would break out of its line."""
    for name, value in headers.items():
        lower = name.lower()
        if lower in _SERVERS:
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(str(item)):
                raise ValueError(f"Header {name} holds characters that HTTP cannot carry")
            yield lower.encode(), str(item).encode("latin-1")


async def respond(send: Send, status: int, headers: Pairs, body: bytes, length: int) -> None:
    """Send a response, in one write if the server can (``apex.server.protocol.Sender``)."""
    if length:
        headers.append(_JSON)
    if status not in _BODILESS:
        headers.append((b"content-length", b"%d" % length))
    whole: Callable[[int, Pairs, bytes], Awaitable[None]] | None = getattr(send, "whole", None)
    if whole is not None:
        await whole(status, headers, body)
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_stream(receive: Receive, send: Send, status: int, headers: Pairs, body: Stream) -> None:
    """Send a stream chunk by chunk, until the client has gone.

    An error breaks the connection, as the part that was sent must not look complete.
    """
    gone = asyncio.create_task(_disconnected(receive))
    try:
        async with aclosing(body.chunks):
            headers.append((b"content-type", body.content_type.encode("latin-1")))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            chunk: bytes | None = body.first
            while chunk is not None and not gone.done():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await anext(body.chunks, None)
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _starlette_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        error = _as_feathers(error, request)
    if isinstance(error, MethodNotAllowed) and not _has_header(error, "allow"):
        routes = [route for route in request.app.routes if isinstance(route, Route)]
        verbs = {
            verb
            for route in routes
            if route.matches(request.scope)[0] is not Found.NONE
            for verb in route.methods or ()
        }
        error.headers["Allow"] = ", ".join(sorted(verbs - {request.method}))
    status, headers, body = failure(error, f"{request.method} {request.url.path}")
    named = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    return Response(body, status, named, media_type=JSON)


async def _answer_nobody(_: Request, __: Exception) -> Response:
    """Return a response for a client that has gone while a route read its request. The log gets no error for it."""
    return Response(status_code=400)


def _as_feathers(error: HTTPException, request: Request) -> FeathersError:
    if error.status_code == 404:
        return NotFound(f"Path {request.scope['path']} not found")
    if error.status_code == 405:
        return MethodNotAllowed(f"Method {request.method} not allowed", headers=error.headers)
    return BY_CODE.get(error.status_code, GeneralError)(error.detail, headers=error.headers)
