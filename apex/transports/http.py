"""HTTP itself: the headers and bodies of requests, responses, entity tags, and CORS."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from copy import copy
from hashlib import sha256
from itertools import islice
from typing import Any

from apex.encoding import Stream, decode_storable, encode
from apex.errors import BadRequest, FeathersError, GeneralError, PayloadTooLarge, Timeout, UnsupportedMediaType
from apex.observability.observations import REQUEST_ID, request_ids
from apex.query.querystring import parse
from apex.service import BodyLimit
from apex.types import Message, Receive, Scope, Send

Headers = dict[str, str]
Pair = tuple[bytes, bytes]
Pairs = list[Pair]
"""Headers as ASGI has them."""

log: logging.Logger = logging.getLogger("apex")

JSON = "application/json; charset=utf-8"
FORM = "application/x-www-form-urlencoded"
BODILESS = (204, 304)
"""The statuses of responses without a body."""

SHOWN = 100
"""The characters of a value of the caller that an error shows."""

MOST_ERRORS = 100
METHODS = b"GET,HEAD,PUT,POST,DELETE,PATCH"

_SERVERS = {"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"}
"""Headers about the way in which a message is sent (RFC 9110, 7.6.1 and 8.6). The server writes them, not a hook."""
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_ID = REQUEST_ID.encode()
_PLAIN_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
"""The request ids of callers that logs and databases can store as they are."""

_ALWAYS: Pairs = [(b"vary", b"Origin"), (b"x-content-type-options", b"nosniff")]
_READABLE: Pair = (b"access-control-expose-headers", b"*")
"""Scripts may read all headers, such as ``ETag``. Without credentials, browsers take the star for all of them."""
_FOR_ALL: Pairs = [*_ALWAYS, (b"access-control-allow-origin", b"*"), _READABLE]


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


def headers_of(scope: Scope) -> Headers:
    """Return the headers of a request. The values of a name that comes several times are joined with commas."""
    headers: Headers = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def length_of(headers: Headers) -> int:
    """Return the bytes of a body as ``Content-Length`` declares them, or -1 if it does not."""
    declared = headers.get("content-length", "")
    return int(declared) if declared.isdecimal() else -1


async def read_body(receive: Receive, headers: Headers, limit: BodyLimit, seconds: float) -> bytes:
    """Return the body of a request, which has to arrive within these seconds.

    Raises UnsupportedMediaType if it is compressed (RFC 9110, 15.5.16), PayloadTooLarge, Timeout, or ClientGone.
    """
    coding = headers.get("content-encoding", "")
    if coding and coding.strip().lower() != "identity":
        rule = f"Content-Encoding is '{coding[:SHOWN]}': send the body as it is"
        raise UnsupportedMediaType(rule, headers={"Accept-Encoding": "identity"})
    if length_of(headers) > limit.size:
        raise too_large(limit)
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > limit.size:
                    raise too_large(limit)
    except TimeoutError:
        raise Timeout(f"The body did not arrive within {seconds} seconds") from None
    return bytes(body)


def too_large(limit: BodyLimit) -> PayloadTooLarge:
    """Return the error for a body beyond a limit."""
    text = f"request entity too large: the limit is {limit.size} bytes"
    return PayloadTooLarge(f"{text}. {limit.advice}" if limit.advice else text)


def parse_body(body: bytes, content_type: str, forms: bool = False) -> Any:
    """Return the value of a body, or None if it is empty. With ``forms`` it may be that of an HTML form.

    Raises BadRequest or UnsupportedMediaType.
    """
    if not body.strip():
        return None
    named = content_type.partition(";")[0].strip().lower()
    if forms and named == FORM:
        return _parse_form(body)
    if named and not named.endswith(("/json", "+json")):
        rule = f"Content-Type is '{content_type[:SHOWN]}': send JSON as application/json"
        raise UnsupportedMediaType(
            rule, headers={"Accept": f"application/json, {FORM}" if forms else "application/json"}
        )
    try:
        data = decode_storable(body)
    except ValueError as error:
        raise BadRequest(f"Malformed JSON: {str(error)[:200]}") from None
    if not isinstance(data, dict | list):
        raise BadRequest("invalid JSON, only supports object and array")
    return data


def _parse_form(body: bytes) -> dict[str, Any]:
    """Return the fields of a form, whose names may have brackets as in a query string. Values are texts."""
    try:
        return parse(body.decode())
    except UnicodeDecodeError:
        raise BadRequest("Malformed form: it is not valid UTF-8") from None
    except BadRequest as error:
        raise BadRequest(f"Malformed form: {error.message}") from None


def pairs_of(headers: Mapping[str, Any]) -> Iterator[Pair]:
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
        headers.append((b"content-type", JSON.encode()))
    if status not in BODILESS:
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


def public_error(error: Exception, doing: str) -> FeathersError:
    """Return the error for callers, with at most 100 wrong fields.

    An error that is not a FeathersError is logged, and its text stays in the log.
    """
    if not isinstance(error, FeathersError):
        log.error("%s failed", doing, exc_info=error)
        return GeneralError("An unexpected error occurred")
    if isinstance(error.errors, dict) and len(error.errors) > MOST_ERRORS:
        error = copy(error)
        error.errors = dict(islice(error.errors.items(), MOST_ERRORS))
    return error


def failure(
    error: Exception,
    doing: str,
    form: Callable[[FeathersError], Any] = FeathersError.to_dict,
    challenge: str = "Bearer",
) -> tuple[int, Pairs, bytes]:
    """Return status, headers and body of the response to an error.

    ``form`` makes the body. If it fails, that is logged, and the body is that of the error itself. ``challenge`` is the
    header ``WWW-Authenticate``, which each 401 needs (RFC 9110, 15.5.2).
    """
    error = public_error(error, doing)
    if error.code == 401 and not has_header(error, "www-authenticate"):
        error.headers["WWW-Authenticate"] = challenge
    try:
        headers = list(pairs_of(error.headers))
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


def has_header(error: FeathersError, name: str) -> bool:
    """Return True if an error has a header of this name, which is in lower case."""
    return any(own.lower() == name for own in error.headers)


def tag_of(body: bytes) -> str:
    """Return the strong entity tag of a body (RFC 9110, 8.8.3)."""
    return f'"{sha256(body).hexdigest()[:32]}"'


def is_among(tag: str, header: str) -> bool:
    """Return True if a header names the tag, strong or weak, or any tag. Proxies that compress make tags weak."""
    return header.strip() == "*" or tag in _TAG.findall(header)


class Cors:
    """The headers for pages of other origins, and the ids of requests.

    ``origins`` are the allowed origins, and ``*`` allows all. Credentials are never allowed, as callers authenticate
    with headers, not with cookies.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self.allows_all: bool = "*" in origins
        self.origins: frozenset[bytes] = frozenset(origin.encode() for origin in origins)

    def response_headers(self, scope: Scope) -> Pairs:
        """Give a request an ``X-Request-Id``, and return the headers to add to its response.

        The id is the caller's if that is a plain text, and a new one otherwise.
        """
        headers: Pairs = scope["headers"]
        given = dict(headers)
        id = given.get(_ID)
        if id is not None:
            headers = [pair for pair in headers if pair[0] != _ID]
        if id is None or not _PLAIN_ID.fullmatch(id):
            id = next(request_ids).encode()
        scope["headers"] = [*headers, (_ID, id)]
        return [*(_FOR_ALL if self.allows_all else self._for_origin(given)), (_ID, id)]

    def preflight_headers(self, scope: Scope) -> Pairs | None:
        """Return the headers of the response if a browser asks whether a page may make a request, else None."""
        given = dict(scope["headers"])
        if b"origin" not in given or b"access-control-request-method" not in given:
            return None
        allowed = _FOR_ALL if self.allows_all else self._for_origin(given)
        headers = [*(pair for pair in allowed if pair is not _READABLE), (b"access-control-allow-methods", METHODS)]
        asked = given.get(b"access-control-request-headers")
        return [*headers, (b"access-control-allow-headers", asked)] if asked else headers

    def _for_origin(self, given: Mapping[bytes, bytes]) -> Pairs:
        """Return the CORS headers for a request of an origin that may not be allowed."""
        origin = given.get(b"origin")
        if origin not in self.origins:
            return _ALWAYS
        return [*_ALWAYS, (b"access-control-allow-origin", origin), _READABLE]


def with_headers(send: Send, added: Pairs) -> Send:
    """Return a ``send`` that adds headers to a response."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *added]
        await send(message)

    return send_with_headers
