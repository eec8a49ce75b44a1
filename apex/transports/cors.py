"""CORS: the headers that let pages of other origins call, and the request id in every response."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping, Sequence
from typing import Any

from apex.request import REQUEST_ID, new_request_id

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Pair = tuple[bytes, bytes]
Pairs = list[Pair]

METHODS = b"GET,HEAD,PUT,POST,DELETE,PATCH"

_ALWAYS: Pairs = [(b"vary", b"Origin"), (b"x-content-type-options", b"nosniff")]
_READABLE: Pair = (b"access-control-expose-headers", b"*")
"""Scripts may read all headers, such as ``ETag``: browsers take the star for all where there are no credentials."""
_FOR_ALL: Pairs = [*_ALWAYS, (b"access-control-allow-origin", b"*"), _READABLE]

_NAME = REQUEST_ID.encode()
_PLAIN = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Guard:
    """Answers preflights and adds the CORS headers. ``origins`` lists the allowed origins, ``*`` allows all.

    Every other request gets an ``X-Request-Id``, in its own headers and in those of the response: the caller's, where
    that is one to be kept, else a new one.

    Credentials are never allowed: callers prove who they are with headers, not with cookies.
    """

    def __init__(self, inner: Callable[..., Awaitable[None]], origins: Sequence[str]) -> None:
        self.inner = inner
        self.any = "*" in origins
        self.origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        if is_preflight(scope):
            asked = dict(scope["headers"]).get(b"access-control-request-headers")
            cors = [pair for pair in self._cors(scope["headers"]) if pair is not _READABLE]
            await _preflight(send, cors, asked)
            return
        added = self.admit(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self.inner(scope, receive, send_with_headers)

    def admit(self, scope: Message) -> Pairs:
        """Names a request, in its own headers; gives the headers that its answer must have besides."""
        pairs = scope["headers"]
        name, scope["headers"] = _named(pairs)
        return [*self._cors(pairs), name]

    def _cors(self, pairs: Iterable[Pair]) -> Pairs:
        if self.any:
            return _FOR_ALL
        origin = dict(pairs).get(b"origin")
        allowed = [(b"access-control-allow-origin", origin), _READABLE] if origin in self.origins else []
        return [*_ALWAYS, *allowed]


def is_preflight(scope: Message) -> bool:
    """Whether a browser asks if it may make a request."""
    if scope["method"] != "OPTIONS":
        return False
    return {b"origin", b"access-control-request-method"} <= {name for name, _ in scope["headers"]}


def _named(pairs: Collection[Pair]) -> tuple[Pair, Pairs]:
    """The header with the request id, and a request's headers with it in the place of what the caller gave."""
    others = [pair for pair in pairs if pair[0] != _NAME]
    given = dict(pairs)[_NAME] if len(others) < len(pairs) else b""
    # What logs and databases can hold as it is.
    name = (_NAME, given if _PLAIN.fullmatch(given) else new_request_id().encode())
    others.append(name)
    return name, others


async def _preflight(send: Send, headers: Pairs, asked: bytes | None) -> None:
    headers = [*headers, (b"access-control-allow-methods", METHODS)]
    if asked:
        headers.append((b"access-control-allow-headers", asked))
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
