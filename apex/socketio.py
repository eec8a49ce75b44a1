"""python-socketio, loaded without what its server has no use for: those libraries take 15 MiB."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType


class _Sparing(MetaPathFinder):
    """Puts aiohttp, which its clients connect with, off until it is used, and hides redis: ``apex.redis`` is the bus
    here, and not the library's managers.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "redis":
            raise ModuleNotFoundError(name, name=name)
        spec = PathFinder.find_spec(name) if name == "aiohttp" else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


@contextmanager
def _sparing() -> Iterator[None]:
    finder = _Sparing()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


with _sparing():
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
