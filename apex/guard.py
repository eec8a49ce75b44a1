"""The edge around a transport: who may call from a browser (CORS), what it should not guess, which request it is."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Pair = tuple[bytes, bytes]
Pairs = list[Pair]

METHODS = b"GET,HEAD,PUT,POST,DELETE,PATCH"
REQUEST_ID = "x-request-id"

_NAME = REQUEST_ID.encode()
_PLAIN = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def new_request_id() -> str:
    return secrets.token_hex(16)


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
        headers = dict(scope["headers"])
        added = self._cors(headers.get(b"origin"))
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers and b"origin" in headers:
            await _preflight(send, added, headers.get(b"access-control-request-headers"))
            return
        name, named = _named(scope["headers"], headers.get(_NAME))
        added.append(name)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self.inner({**scope, "headers": named}, receive, send_with_headers)

    def _cors(self, origin: bytes | None) -> Pairs:
        headers: Pairs = [(b"vary", b"Origin"), (b"x-content-type-options", b"nosniff")]
        if self.any:
            headers.append((b"access-control-allow-origin", b"*"))
        elif origin in self.origins:
            headers.append((b"access-control-allow-origin", origin or b""))
        return headers


def _named(pairs: Iterable[Pair], given: bytes | None) -> tuple[Pair, Pairs]:
    """The header with the request id, and a request's headers with it in the place of what the caller gave."""
    if given is not None:
        pairs = [pair for pair in pairs if pair[0] != _NAME]
    # What logs and databases can hold as it is.
    name = (_NAME, given if given and _PLAIN.fullmatch(given) else new_request_id().encode())
    return name, [*pairs, name]


async def _preflight(send: Send, headers: Pairs, asked: bytes | None) -> None:
    headers = [*headers, (b"access-control-allow-methods", METHODS)]
    if asked:
        headers.append((b"access-control-allow-headers", asked))
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
