"""CORS, which lets pages of other origins call, and the request id of every response."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from apex.observability.observations import REQUEST_ID, new_request_id
from apex.types import ASGIApp, Message, Receive, Scope, Send

Pair = tuple[bytes, bytes]
Pairs = list[Pair]

METHODS = b"GET,HEAD,PUT,POST,DELETE,PATCH"

_ALWAYS: Pairs = [(b"vary", b"Origin"), (b"x-content-type-options", b"nosniff")]
_READABLE: Pair = (b"access-control-expose-headers", b"*")
"""Scripts may read all headers, such as ``ETag``. Without credentials, browsers take the star for all of them."""
_FOR_ALL: Pairs = [*_ALWAYS, (b"access-control-allow-origin", b"*"), _READABLE]

_NAME = REQUEST_ID.encode()
_PLAIN = re.compile(rb"[A-Za-z0-9._-]{1,128}")
"""The request ids of callers that logs and databases can store as they are."""


class Cors:
    """ASGI middleware that answers preflight requests and adds the CORS headers to responses.

    ``origins`` are the allowed origins, and ``*`` allows all. Credentials are never allowed, as callers authenticate
    with headers, not with cookies. Each other request gets an ``X-Request-Id``, in its own headers and in those of the
    response. It is the caller's if that is a plain text, and a new one otherwise.
    """

    def __init__(self, inner: ASGIApp, origins: Sequence[str]) -> None:
        self.inner: ASGIApp = inner
        self.allows_all: bool = "*" in origins
        self.origins: frozenset[bytes] = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight request, or run the inner application."""
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        if is_preflight(scope):
            await self._answer_preflight(scope, send)
            return
        added = self.response_headers(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self.inner(scope, receive, send_with_headers)

    def response_headers(self, scope: Scope) -> Pairs:
        """Give a request its id, and return the headers to add to its response. The id is the last one."""
        headers: Pairs = scope["headers"]
        given = dict(headers).get(_NAME)
        if given is not None:
            headers = [pair for pair in headers if pair[0] != _NAME]
        id = given if given is not None and _PLAIN.fullmatch(given) else new_request_id().encode()
        scope["headers"] = [*headers, (_NAME, id)]
        return [*(_FOR_ALL if self.allows_all else self._for_origin(headers)), (_NAME, id)]

    def _for_origin(self, headers: Iterable[Pair]) -> Pairs:
        """Return the CORS headers for a request of an origin that may not be allowed."""
        origin = dict(headers).get(b"origin")
        allowed = [(b"access-control-allow-origin", origin), _READABLE] if origin in self.origins else []
        return [*_ALWAYS, *allowed]

    async def _answer_preflight(self, scope: Scope, send: Send) -> None:
        asked = dict(scope["headers"]).get(b"access-control-request-headers")
        headers = _FOR_ALL if self.allows_all else self._for_origin(scope["headers"])
        headers = [*(pair for pair in headers if pair is not _READABLE), (b"access-control-allow-methods", METHODS)]
        if asked:
            headers.append((b"access-control-allow-headers", asked))
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def is_preflight(scope: Scope) -> bool:
    """Return True if a browser asks whether a page may make a request."""
    if scope["method"] != "OPTIONS":
        return False
    return {b"origin", b"access-control-request-method"} <= {name for name, _ in scope["headers"]}
