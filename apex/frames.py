"""Frames of WebSockets that are built once for many connections, on their way past the messages of ASGI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

Put = Callable[[bytes], bool]
"""Write a whole frame, after all that was sent before; False where it would have to wait, or nobody reads."""


def writer_of(send: Any) -> Put | None:
    """Return what writes frames to the WebSocket that an application has been given ``send`` for.

    None where the server is not uvicorn with its WebSockets by ``websockets``, or middleware sees what is sent. Such a
    frame is not compressed, also where client and server have agreed that it may be (RFC 7692, section 6): some clients
    decompress on a thread, and would hear of an event after the answer that came behind it.
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
