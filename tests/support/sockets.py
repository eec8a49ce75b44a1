"""Clients that send and receive Socket.IO packets, over a WebSocket and by polling."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import websockets
from httpx2 import AsyncClient, Response
from websockets.asyncio.client import ClientConnection

from apex import Apex, Params, Service, rest, sockets
from tests.support.waiting import SECONDS

PATH = "/socket.io/?EIO=4&transport="


class Peer:
    """The client's end of a WebSocket."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.ids = itertools.count()
        self.events: list[Any] = []

    async def send(self, *frames: str | bytes) -> None:
        for frame in frames:
            await self.ws.send(frame)

    async def frame(self) -> str:
        """Return the next packet. Pings are answered and skipped."""
        async with asyncio.timeout(SECONDS):
            while (frame := await self.ws.recv()) == "2":
                await self.send("3")
        return str(frame)

    async def frames(self, count: int) -> list[str]:
        return [await self.frame() for _ in range(count)]

    async def answer(self, id: int) -> Any:
        """Return the arguments of an acknowledgement. Earlier events are stored."""
        while not (frame := await self.frame()).startswith(f"43{id}["):
            self.events.append(json.loads(frame.removeprefix("42")))
        return json.loads(frame.removeprefix(f"43{id}"))

    async def call(self, *event: Any) -> Any:
        """Send an event and return the arguments of its acknowledgement."""
        return await self.ask(json.dumps(event))

    async def ask(self, data: str) -> Any:
        """Send data as text and return the arguments of its acknowledgement."""
        id = next(self.ids)
        await self.send(f"42{id}{data}")
        return await self.answer(id)

    async def event(self) -> Any:
        """Return the name and the data of the next event."""
        return self.events.pop(0) if self.events else json.loads((await self.frame()).removeprefix("42"))

    async def news(self) -> Any:
        """Return the name and the data of the next event that has more than an offset in the log."""
        while (event := await self.event())[0] == "offset":
            pass
        return event[:2]

    async def closed(self) -> None:
        """Wait until the server has closed the connection. Events that come before are stored."""
        async with asyncio.timeout(SECONDS):
            with suppress(websockets.ConnectionClosed):
                while True:
                    frame = str(await self.ws.recv())
                    if frame.startswith("42"):
                        self.events.append(json.loads(frame.removeprefix("42")))


class Poller:
    """A client that polls."""

    def __init__(self, http: AsyncClient, sid: str) -> None:
        self.http, self.sid, self.url = http, sid, f"{PATH}polling&sid={sid}"

    async def post(self, *frames: str) -> Response:
        return await self.http.post(self.url, content="\x1e".join(frames), timeout=SECONDS)

    async def get(self) -> list[str]:
        response = await self.http.get(self.url, timeout=SECONDS)
        assert response.status_code == 200, response.text
        return response.text.split("\x1e")

    async def frames(self, count: int) -> list[str]:
        """Return this many packets. Pings are answered and skipped, and so are packets that only end a poll."""
        found: list[str] = []
        while len(found) < count:
            frames = await self.get()
            if "2" in frames:
                await self.post("3")
            found += [frame for frame in frames if frame not in ("2", "6")]
        return found


def address(http: AsyncClient) -> str:
    """Return the address of the server for WebSockets."""
    return str(http.base_url).replace("http", "ws", 1).rstrip("/") + PATH + "websocket"


@asynccontextmanager
async def opened(http: AsyncClient, sid: str = "", query: str = "", **options: Any) -> AsyncIterator[Peer]:
    """Yield a WebSocket before its first packet, new or for the upgrade of a polling session."""
    url = address(http) + (f"&sid={sid}" if sid else "") + query
    async with websockets.connect(url, max_size=None, ping_interval=None, compression=None, **options) as ws:
        yield Peer(ws)


@asynccontextmanager
async def connected(http: AsyncClient, **options: Any) -> AsyncIterator[Peer]:
    """Yield a connection over a WebSocket."""
    async with opened(http, **options) as peer:
        await peer.frame()
        await peer.send("40")
        assert (await peer.frame()).startswith('40{"sid":"')
        yield peer


async def handshake(http: AsyncClient) -> Poller:
    """Return a polling session before its first packet."""
    (frame,) = (await http.get(f"{PATH}polling")).text.split("\x1e")
    return Poller(http, json.loads(frame.removeprefix("0"))["sid"])


async def polling(http: AsyncClient) -> Poller:
    """Return a polling connection."""
    poller = await handshake(http)
    await poller.post("40")
    (frame, *_) = await poller.get()  # An app with a log also says where the client is in it.
    assert frame.startswith('40{"sid":"')
    return poller


def empty(app: Apex) -> bool:
    """Return True if nothing is left of any connection."""
    transport: Any = app.mounts["socket.io"]
    engine = transport.engine
    held = (transport.links, engine.links, engine.eio.sockets, engine.unconnected)
    return not any((*held, app.events.connections, app.channels))


class Heard(Service):
    """A service that returns its arguments."""

    multi = True

    methods = ("find", "get", "create", "update", "patch", "remove", "shout")

    async def find(self, params: Params) -> Any:
        return _heard("find", params)

    async def get(self, id: Any, params: Params) -> Any:
        return _heard("get", params, id=id)

    async def create(self, data: Any, params: Params) -> Any:
        return _heard("create", params, data=data)

    async def update(self, id: Any, data: Any, params: Params) -> Any:
        return _heard("update", params, id=id, data=data)

    async def patch(self, id: Any, data: Any, params: Params) -> Any:
        return _heard("patch", params, id=id, data=data)

    async def remove(self, id: Any, params: Params) -> Any:
        return _heard("remove", params, id=id)

    async def shout(self, data: Any, params: Params) -> Any:
        return _heard("shout", params, data=data)

    async def hidden(self, data: Any, params: Params) -> Any:
        return "never"


def _heard(method: str, params: Params, **given: Any) -> Any:
    return {"method": method, **given, "query": params.query, "route": params.route, "provider": params.provider}


class Held(Service):
    """A service whose calls wait for ``go``. ``begun`` and ``ended`` count them."""

    methods = ("find", "get")

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.go = asyncio.Event()

    async def find(self, params: Params) -> Any:
        self.begun += 1
        await self.go.wait()
        self.ended += 1
        return self.ended

    async def get(self, id: Any, params: Params) -> Any:
        return "x" * int(id)


def app_of(path: str, service: Any, **settings: Any) -> Apex:
    """Return an app with one service, whose connections receive all of its events."""
    app = Apex({"sockets": settings}).configure(rest).configure(sockets).use(path, service)
    app.on("connection", app.channel("all").join)
    return app.publish(lambda data, context: app.channel("all"))
