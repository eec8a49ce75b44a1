"""A TCP proxy whose connections can be cut and halted, as networks do it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

CHUNK = 65_536


class Proxy:
    """Carries bytes between clients and a server, until it is told not to::

        proxy = await Proxy.open(lambda: ("127.0.0.1", 3030))
        client = Client(socketio(proxy.url))
        proxy.cut()

    ``target`` returns the address of the server for a new connection.
    """

    def __init__(self, target: Callable[[], tuple[str, int]]) -> None:
        self.target: Callable[[], tuple[str, int]] = target
        self.url: str = ""
        self._flowing: asyncio.Event = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server

    @classmethod
    async def open(cls, target: Callable[[], tuple[str, int]]) -> Proxy:
        """Return a proxy that listens on a free port of this machine."""
        proxy = cls(target)
        proxy._server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        proxy.url = f"http://127.0.0.1:{proxy._server.sockets[0].getsockname()[1]}"
        return proxy

    async def close(self) -> None:
        """Cut all connections, and accept no more."""
        self._server.close()
        self.cut()
        self.resume()
        await self._server.wait_closed()

    def cut(self) -> None:
        """End all open connections at once, as a network that breaks: both ends get a reset."""
        for writer in list(self._writers):
            writer.transport.abort()

    def halt(self) -> None:
        """Hold back all bytes from now on. The connections stay open."""
        self._flowing.clear()

    def resume(self) -> None:
        """Carry bytes again, those that were held back first."""
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._flowing.wait()
            there_reader, there = await asyncio.open_connection(*self.target())
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there}
        try:
            await asyncio.gather(self._carry(reader, there), self._carry(there_reader, writer))
        finally:
            self._writers -= {writer, there}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry the bytes of one direction until one of the two ends is gone."""
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        # A closed connection is closed whole: HTTP and WebSockets use no half of one.
        writer.close()
