"""The edge around a transport: who may call from a browser (CORS), and what no browser should guess."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Pairs = list[tuple[bytes, bytes]]

METHODS = b"GET,HEAD,PUT,POST,DELETE,PATCH"


class Guard:
    """Answers preflights and adds the CORS headers. ``origins`` lists the allowed origins, ``*`` allows all.

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

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self.inner(scope, receive, send_with_headers)

    def _cors(self, origin: bytes | None) -> Pairs:
        headers: Pairs = [(b"vary", b"Origin"), (b"x-content-type-options", b"nosniff")]
        if self.any:
            headers.append((b"access-control-allow-origin", b"*"))
        elif origin in self.origins:
            headers.append((b"access-control-allow-origin", origin or b""))
        return headers


async def _preflight(send: Send, headers: Pairs, asked: bytes | None) -> None:
    headers = [*headers, (b"access-control-allow-methods", METHODS)]
    if asked:
        headers.append((b"access-control-allow-headers", asked))
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
