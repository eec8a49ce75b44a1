"""The client: a transport, a login and the services."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any

from apex.callbacks import Emitter
from apex.client.call import Call, Send, Transport, segments
from apex.client.errors import rebuild
from apex.client.service import RemoteService
from apex.client.storage import MemoryStorage, Storage
from apex.errors import FeathersError, GeneralError, NotAuthenticated, Timeout

REJECTED = range(401, 408)
"""The codes that say that a token is invalid. After other errors the token may still be valid."""


class Client(Emitter):
    """The services of a server, over REST or, for events as well, over Socket.IO::

        async with Client(socketio("http://localhost:3030")) as client:
            await client.authenticate(strategy="local", email="ann@example.com", password="correct horse")
            print(await client.service("messages").find())

    It emits ``login`` with the server's answer and ``logout``. With Socket.IO it also emits ``connect``, with
    ``recovered``, and ``disconnect``. ``storage`` stores the token. ``path`` is that of the server's authentication
    service.
    """

    def __init__(self, transport: Transport, *, storage: Storage | None = None, path: str = "authentication") -> None:
        super().__init__()
        self.transport = transport
        self.events: Emitter = Emitter()
        self.session: Session = Session(path, MemoryStorage() if storage is None else storage, self)
        self._is_open = False

    async def open(self) -> Client:
        """Prepare the client for calls. Socket.IO connects in the background, and calls wait for the connection."""
        await self.transport.open(self)
        self._is_open = True
        return self

    async def close(self) -> None:
        """Close all connections. Running calls fail with Unavailable."""
        self._is_open = False
        await self.transport.close()

    async def __aenter__(self) -> Client:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def service(self, path: str) -> RemoteService:
        """Return the service of a path, which may have placeholders such as ``groups/:groupId/members``."""
        return RemoteService(self, path)

    @property
    def authentication(self) -> dict[str, Any] | None:
        """The server's answer to the login: ``accessToken``, ``authentication`` and the user. None without a login."""
        return self.session.result

    @property
    def recovered(self) -> bool:
        """True if the client gets all events that it missed before this connection. If not, read your lists again."""
        return self.transport.recovered

    async def batch(self, *calls: Sequence[Any], atomic: bool = False) -> list[Any]:
        """Make many calls in one request, and return their results in the same order.

        A call is a method, a path, the arguments of the method and perhaps a query. The server needs
        ``app.configure(batch)``. For a call that fails the list has its error. With ``atomic`` the calls are one
        transaction, and ``batch`` raises the error of the call that fails::

            project, issue = await client.batch(
                ("create", "projects", {"key": "APX"}),
                ("create", "issues", {"title": "First", "project_id": {"$ref": "0.id"}}),
                atomic=True,
            )
        """
        data = {"calls": [list(call) for call in calls], **({"atomic": True} if atomic else {})}
        settled = await self.service("batch").create(data)
        return [one["value"] if one["status"] == "fulfilled" else rebuild(one["reason"]) for one in settled]

    async def authenticate(self, **data: Any) -> dict[str, Any]:
        """Log in with data such as ``strategy="local", email=..., password=...``, or else with the stored token.

        Return the server's answer. An error with a code from 401 to 407 deletes the stored token.
        """
        return await (self.session.begin(data, self.send) if data else self.reauthenticate())

    async def reauthenticate(self) -> dict[str, Any]:
        """Log in with the stored token. Raises NotAuthenticated if there is none, or if it is no longer valid."""
        return await self.session.renew(self.send)

    async def logout(self) -> Any:
        """Log out, and delete the stored token. Return the server's answer."""
        return await self.session.end(self.send)

    async def send(self, call: Call) -> Any:
        """Return the result of a call. Raises RuntimeError if the client is not open, and Timeout."""
        if not self._is_open:
            raise RuntimeError("The client is not open: async with Client(...) as client")
        try:
            async with asyncio.timeout(self.transport.timeout):
                return await self.transport.call(self.session.sign(call))
        except TimeoutError:
            problem = self.transport.problem
            path, reason = "/".join(call.segments), f": {problem}" if problem else ""
            message = f"No answer to {call.method} on '{path}' within {self.transport.timeout:g} seconds{reason}"
            raise Timeout(message) from problem

    # The transport calls these methods.

    async def log_in(self, send: Send) -> None:
        """Log in on a new connection, if the client was logged in on the last one. Raises the errors of the server.

        If the token is no longer valid, the client forgets it, and does not log in on the next connection.
        """
        if self.session.result is not None:
            await self.session.renew(send)

    def receive(self, event: str, *args: Any) -> None:
        """Call the listeners of an event of the server."""
        self.events.emit(event, *args)


class Session:
    """The login of a client. ``result`` is the server's answer to it, or None.

    ``events`` emits ``login`` with the result, and ``logout``.
    """

    def __init__(self, path: str, storage: Storage, events: Emitter) -> None:
        self.segments: tuple[str, ...] = segments(path)
        self.storage: Storage = storage
        self.events: Emitter = events
        self.result: dict[str, Any] | None = None

    def sign(self, call: Call) -> Call:
        """Return a call with the token. A login has none, as it has its own proof."""
        if self.result is None or (call.segments == self.segments and call.method == "create"):
            return call
        return replace(call, token=self.result["accessToken"])

    async def begin(self, data: Mapping[str, Any], send: Send) -> dict[str, Any]:
        """Log in. Raises the errors of the server, and GeneralError if its answer has no token."""
        with self._deleting_rejected_token():
            result = await send(Call(self.segments, "create", data=dict(data)))
        if not isinstance(result, dict) or not isinstance(result.get("accessToken"), str):
            raise GeneralError("The server answered the login without an accessToken")
        self.storage.set(result["accessToken"])
        self.result = result
        self.events.emit("login", result)
        return result

    async def renew(self, send: Send) -> dict[str, Any]:
        """Log in with the stored token. Raises NotAuthenticated if there is none."""
        with self._deleting_rejected_token():
            token = self.storage.get()
            if token is None:
                raise NotAuthenticated("No accessToken found in storage")
        return await self.begin({"strategy": "jwt", "accessToken": token}, send)

    async def end(self, send: Send) -> Any:
        """Log out on the server, and delete the token."""
        with self._deleting_rejected_token():
            result = await send(Call(self.segments, "remove"))
        self._forget()
        return result

    @contextmanager
    def _deleting_rejected_token(self) -> Iterator[None]:
        try:
            yield
        except FeathersError as error:
            if error.code in REJECTED:
                self._forget()
            raise

    def _forget(self) -> None:
        self.storage.remove()
        was_logged_in, self.result = self.result is not None, None
        if was_logged_in:
            self.events.emit("logout")
