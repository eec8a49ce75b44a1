"""Writes WebSocket frames, built once for many connections, without a message of ASGI for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

Put = Callable[[bytes], bool]
"""Writes a whole frame after everything sent before. False if it would have to wait, or the connection is closed."""


def writer_of(send: Any) -> Put | None:
    """Return the function that writes frames to the WebSocket behind the ``send`` of ASGI.

    None where the server is not uvicorn with its WebSockets by ``websockets``, or where middleware wraps ``send``. Such
    a frame is never compressed, even if client and server have agreed on compression (RFC 7692, section 6): some
    clients decompress on a thread, and would deliver an event after the answer that follows it.
    """
    protocol = getattr(send, "__self__", None)
    if not isinstance(protocol, WebSocketsSansIOProtocol):
        return None

    def put(frame: bytes) -> bool:
        if protocol.conn.state is not State.OPEN or not protocol.writable.is_set() or protocol.transport.is_closing():
            return False
        protocol.transport.write(frame)
        return True

    return put
