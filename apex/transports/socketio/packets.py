"""The packets of Socket.IO and Engine.IO, from python-socketio.

The library is imported without the parts that a server does not need, which saves 20 MiB. Its clients need aiohttp and
requests, and ``apex.realtime.redis`` replaces its managers.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from websockets.frames import Frame, Opcode

from apex._lazy import lazy_imports
from apex.encoding import JSON, decode_storable
from apex.errors import BadRequest

with lazy_imports(lazy=("aiohttp", "requests"), hidden=("redis",)):
    import engineio
    import socketio
    from engineio.async_socket import AsyncSocket
    from engineio.exceptions import QueueEmpty
    from engineio.packet import CLOSE, MESSAGE, NOOP, OPEN, PING, Packet
    from socketio import packet as types

__all__ = [
    "CLOSE",
    "MESSAGE",
    "NOOP",
    "OPEN",
    "PING",
    "AsyncSocket",
    "Message",
    "Packet",
    "QueueEmpty",
    "SocketIOPacket",
    "engineio",
    "is_packet",
    "socketio",
    "text_frame",
    "types",
]

_PACKET = re.compile(r"4[0-6]|(1|3|5|[23]probe)\Z")


def is_packet(text: str) -> bool:
    """Return True for an Engine.IO packet that a client may send. The library accepts others, and fails later."""
    return _PACKET.match(text) is not None


class _ReceivedJSON(JSON):
    @staticmethod
    def loads(text: str) -> Any:
        """Return the value, or the error for the answer to a call with this text."""
        try:
            return decode_storable(text)
        except ValueError as error:
            return BadRequest(f"Malformed JSON: {str(error)[:200]}")


class SocketIOPacket(types.Packet):  # type: ignore[misc]
    """A packet of Socket.IO, with the JSON of the REST transport."""

    json = _ReceivedJSON
    uses_binary_events = False


class Message(Packet):  # type: ignore[misc]
    """An Engine.IO packet with a packet of Socket.IO. All connections that receive it share its WebSocket frame."""

    def __init__(self, text: str) -> None:
        super().__init__(MESSAGE, text)
        self._text = text

    @cached_property
    def frame(self) -> bytes:
        """The WebSocket frame of the packet."""
        return text_frame(f"{MESSAGE}{self._text}")


def text_frame(text: str) -> bytes:
    """Return a WebSocket frame of a server with this text (RFC 6455, section 5.2)."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
