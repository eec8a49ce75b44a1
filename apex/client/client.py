"""The client: a transport, a session and the services."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from apex.client.call import Call, Send, Transport
from apex.client.service import RemoteService
from apex.client.session import Session
from apex.client.storage import MemoryStorage, Storage
from apex.emitter import Emitter
from apex.errors import Timeout


class Client(Emitter):
    """The services of a server: ``async with Client(rest(url)) as client``, or ``socketio(url)`` for events as well.

    Emits ``login`` with the server's answer and ``logout``; with sockets also ``connect`` and ``disconnect``.
    ``storage`` keeps the token, ``path`` is that of the server's authentication service.
    """

    def __init__(self, transport: Transport, *, storage: Storage | None = None, path: str = "authentication") -> None:
        super().__init__()
        self.transport, self.events = transport, Emitter()
        self.session = Session(path, MemoryStorage() if storage is None else storage, self)
        self._open = False

    async def open(self) -> Client:
        """Makes the client ready for calls; sockets connect in the background, and calls wait for them."""
        await self.transport.open(self)
        self._open = True
        return self

    async def close(self) -> None:
        """Ends all connections; calls at work fail with Unavailable."""
        self._open = False
        await self.transport.close()

    async def __aenter__(self) -> Client:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def service(self, path: str) -> RemoteService:
        return RemoteService(self, path)

    @property
    def authentication(self) -> dict[str, Any] | None:
        """The server's answer to the login: ``accessToken``, ``authentication`` and the user. None when logged out."""
        return self.session.result

    async def authenticate(self, **proof: Any) -> dict[str, Any]:
        """Logs in, such as with ``strategy="local", email=..., password=...``, or without any with the stored token.

        Gives the server's answer. An error with a code from 401 to 407 deletes the stored token.
        """
        return await (self.session.begin(proof, self.send) if proof else self.reauthenticate())

    async def reauthenticate(self) -> dict[str, Any]:
        """Logs in with the stored token. Raises NotAuthenticated when there is none, or it is not good any more."""
        return await self.session.renew(self.send)

    async def logout(self) -> Any:
        """Logs out, and deletes the stored token."""
        return await self.session.end(self.send)

    async def send(self, call: Call) -> Any:
        """The result of a call. Raises RuntimeError for a client that is not open."""
        if not self._open:
            raise RuntimeError("The client is not open: async with Client(...) as client")
        try:
            async with asyncio.timeout(self.transport.timeout):
                return await self.transport.call(self.session.sign(call))
        except TimeoutError:
            raise self._late(call) from self.transport.trouble

    def _late(self, call: Call) -> Timeout:
        trouble = f": {self.transport.trouble}" if self.transport.trouble else ""
        path, seconds = "/".join(call.segments), self.transport.timeout
        return Timeout(f"No answer to {call.method} on '{path}' within {seconds:g} seconds{trouble}")

    # What a connection reports.

    async def welcome(self, send: Send) -> None:
        """Logs a new connection in, where the last one was. Raises what the server raises.

        A token that is not good any more is forgotten by then: the next connection is not logged in.
        """
        if self.session.result is not None:
            await self.session.renew(send)

    def receive(self, event: str, *args: Any) -> None:
        self.events.emit(event, *args)
