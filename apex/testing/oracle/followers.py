"""Followers: clients that read services once and then keep their views by events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from apex.client import Client, socketio
from apex.errors import FeathersError, Forbidden
from apex.testing.oracle.views import Difference, Event, View
from apex.types import Row

PAGE = 100
RECONNECT_SECONDS = 0.1
RETRY_SECONDS = 0.1


class AnyClient(Protocol):
    """A client of the server under test, in any language."""

    async def open(self, follower: Follower) -> None:
        """Connect and log in. From then on, call ``connected``, ``disconnected`` and ``receive`` of the follower."""
        ...

    async def find(self, service: str, query: Mapping[str, Any]) -> Any:
        """Return what the server answers to a find. Raises FeathersError."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


class PythonClient:
    """The Python client, over Socket.IO. Without a login it stays anonymous."""

    def __init__(self, url: str, login: Mapping[str, Any]) -> None:
        self.client: Client = Client(socketio(url, delay=RECONNECT_SECONDS))
        self.login: Mapping[str, Any] = login

    async def open(self, follower: Follower) -> None:
        for service in follower.views:
            for name in ("created", "updated", "patched", "removed"):
                self.client.service(service).on(name, _receiver(follower, service, name))
        await self.client.open()
        if self.login:
            await self.client.authenticate(**self.login)
            follower.connected(recovered=False)
        # From now on, the client logs in by itself before it says that it is connected.
        self.client.on("connect", lambda: follower.connected(self.client.recovered))
        self.client.on("disconnect", follower.disconnected)

    async def find(self, service: str, query: Mapping[str, Any]) -> Any:
        return await self.client.service(service).find({"query": query})

    async def close(self) -> None:
        await self.client.close()


def _receiver(follower: Follower, service: str, name: str) -> Callable[..., None]:
    def receive(record: Any) -> None:
        follower.receive(Event(service, name, record))

    return receive


class Follower:
    """A client that reads all records of services that its user may read, and then applies events.

    It reads again only if it has to: when it has reconnected and the server does not say that it has recovered.
    ``reads`` counts its reads, and ``recoveries`` the new connections after which it did not read. ``on_read`` is
    called before each read, and ``on_event`` for each event.
    """

    def __init__(self, name: str, services: Mapping[str, Mapping[str, Any]], client: AnyClient) -> None:
        self.name: str = name
        self.client: AnyClient = client
        self.views: dict[str, View] = {service: View(service, query) for service, query in services.items()}
        self.reads: int = 0
        self.recoveries: int = 0
        self.problem: FeathersError | None = None
        self.on_read: Callable[[Follower], Awaitable[None]] = _no_read
        self.on_event: Callable[[Follower, Event], None] = _nothing
        self.on_connection: Callable[[Follower, str], None] = _nothing
        self._is_connected = False
        self._has_read = False
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, log in and read."""
        await self.client.open(self)

    async def close(self) -> None:
        """Disconnect."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self.client.close()

    # The client calls these three.

    def connected(self, recovered: bool) -> None:
        """Go on after a new connection that is logged in. Read again, unless the server sends all that was missed."""
        self._is_connected = True
        self.on_connection(self, "is back, with all that it missed" if recovered else "connected")
        if recovered and self._has_read:
            self.recoveries += 1
        else:
            self.read_again()

    def disconnected(self, *reason: Any) -> None:
        """Note that the connection has ended."""
        self._is_connected = False
        self.on_connection(self, "lost its connection")

    def receive(self, event: Event) -> None:
        """Apply an event."""
        self.on_event(self, event)
        self.views[event.service].apply(event)

    # Reading.

    def read_again(self) -> None:
        """Forget everything and read all services."""
        self._has_read = False
        if self._reading is not None:
            self._reading.cancel()
        for view in self.views.values():
            view.begin()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            try:
                await self.on_read(self)
                found = {service: await self.find(service) for service in self.views}
                break
            except FeathersError as error:
                # The server is away, or overloaded. After a new connection another task reads.
                self.problem = error
                await asyncio.sleep(RETRY_SECONDS)
        for service, records in found.items():
            self.views[service].end(records)
        self.problem = None
        self._has_read = True
        self.reads += 1

    async def find(self, service: str) -> list[Row]:
        """Return all records of a service that the user may read now, page by page."""
        records: list[Row] = []
        view, id = self.views[service], self.views[service].id
        while True:
            after = {id: {"$gt": records[-1][id]}} if records else {}
            try:
                answer = await self.client.find(service, {**view.query, "$sort": {id: 1}, "$limit": PAGE, **after})
            except Forbidden:
                return []  # The user may read nothing.
            page = answer["data"] if isinstance(answer, dict) else answer
            records += page
            total = answer.get("total") if isinstance(answer, dict) else None
            if not page or (total is not None and len(page) >= total):
                return records

    @property
    def is_ready(self) -> bool:
        """True if the follower is connected and has read."""
        return self._is_connected and self._has_read

    @property
    def trouble(self) -> str:
        """The reason why the follower is not ready."""
        if not self._is_connected:
            return "cannot connect and log in"
        return f"cannot read: {self.problem or 'no answer'}"

    async def differences(self) -> list[Difference]:
        """Return the records that the views show otherwise than ``find`` does now. Raises FeathersError."""
        found = {service: await self.find(service) for service in self.views}
        return [each for name, view in self.views.items() for each in view.differences(self.name, found[name])]


def _nothing(*args: Any) -> None:
    return None


async def _no_read(follower: Follower) -> None:
    return None
