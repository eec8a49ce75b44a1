"""python-socketio, loaded without what its server has no use for: those libraries take 20 MiB.

Its clients connect with aiohttp and requests; ``apex.realtime.redis`` is the bus here, and not the library's managers.
"""

from __future__ import annotations

from apex.lazy import sparing

with sparing(lazy=("aiohttp", "requests"), hidden=("redis",)):
    import engineio
    import socketio
    from engineio.async_socket import AsyncSocket
    from engineio.exceptions import QueueEmpty
    from engineio.packet import CLOSE, MESSAGE, Packet
    from engineio.payload import Payload
    from socketio import packet as frames
    from socketio.exceptions import ConnectionRefusedError

__all__ = [
    "CLOSE",
    "MESSAGE",
    "AsyncSocket",
    "ConnectionRefusedError",
    "Packet",
    "Payload",
    "QueueEmpty",
    "engineio",
    "frames",
    "socketio",
]
