"""The oracle, which finds out if a client of a server has missed anything."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from apex.client import Client, rest
from apex.errors import FeathersError, Timeout, Unavailable
from apex.testing.oracle.followers import AnyClient, Follower, PythonClient
from apex.testing.oracle.process import ServerProcess
from apex.testing.oracle.proxy import Proxy
from apex.testing.oracle.views import Difference, Event

Write = Callable[[Client, random.Random], Awaitable[Any]]
"""A function that writes something through a client that is logged in."""

Record = tuple[str, Any]

SETTLE_SECONDS = 30
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
ROUND_SECONDS = (0.5, 2.0)
STORY_LINES = 40


class Missed(AssertionError):
    """A client shows something else than ``find`` gives. The text has the seed and the story of it."""


class Story:
    """The account of what happened since it was last quiet: lines with their moments in seconds."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lines: list[tuple[float, str, str | None, Record | None]] = []

    def tell(self, text: str, client: str | None = None, record: Record | None = None) -> None:
        """Add a line, perhaps about one client and about one record, which is a service and an id."""
        self._lines.append(
            (time.monotonic() - self._began, text if client is None else f"{client} {text}", client, record)
        )

    def clear(self) -> None:
        """Forget all lines: they do not explain what comes later."""
        self._lines.clear()

    def of(self, clients: Collection[str], records: Collection[Record], most: int = STORY_LINES) -> str:
        """Return the last lines about clients and records, and those that are about everybody."""
        lines = [
            f"{at:8.3f}  {text}"
            for at, text, client, record in self._lines
            if (client is None or client in clients) and (record is None or record in records)
        ]
        return "\n".join(lines[-most:])


class Oracle:
    """Clients that follow services of a server, and find out if they miss anything::

        async with Oracle("apex serve --port {port}", ["notes"]) as oracle:
            await oracle.follow(strategy="local", email="ann@example.com", password="correct horse")
            await oracle.run(write, seconds=10, seed=7)

    ``server`` is a command that serves the app at a port, ``{port}``, or the URL of a server that runs. ``services``
    are the paths of services with ``find`` and events. If only some records are to be followed, give a query of values
    for each, such as ``{"notes": {"team_id": 1}}``. ``environ`` has variables for the command.

    Each follower reads the services once and then applies events. ``run`` writes, cuts connections, and kills workers
    and the server. Whenever it is quiet, each follower must show what ``find`` gives its user.
    """

    def __init__(
        self,
        server: str | Sequence[str],
        services: Sequence[str] | Mapping[str, Mapping[str, Any]],
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        is_url = isinstance(server, str) and server.startswith(("http://", "https://"))
        self.process: ServerProcess | None = None if is_url else ServerProcess(server, environ)
        self.url: str = str(server) if self.process is None else self.process.url
        queries = services if isinstance(services, Mapping) else {path: {} for path in services}
        self.services: dict[str, Mapping[str, Any]] = dict(queries)
        self.followers: list[Follower] = []
        self.proxies: dict[str, Proxy] = {}
        self.writers: list[Client] = []
        self.story: Story = Story()
        self.seed: int = 0
        self.writes: int = 0
        self.refusal: FeathersError | None = None
        """The last error of a write."""
        self.address: Callable[[], tuple[str, int]] = self._address
        """Returns the host and the port for a new connection of a follower. Set it to use several servers."""
        self._stack: AsyncExitStack = AsyncExitStack()

    async def __aenter__(self) -> Oracle:
        if self.process is not None:
            self._stack.push_async_callback(self.process.kill)
            await self.process.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # Followers.

    async def follow(self, **login: Any) -> Follower:
        """Add a client that logs in, follows the services, and also writes in ``run``. Return it.

        Without a ``login`` it stays anonymous.
        """
        name = f"client {len(self.followers) + 1}"
        writer = await self._stack.enter_async_context(Client(rest(self.url)))
        if login:
            await writer.authenticate(**login)
        self.writers.append(writer)
        follower = await self.add(name, lambda url: PythonClient(url, login))
        await follower.open()
        return follower

    async def add(self, name: str, client_of: Callable[[str], AnyClient]) -> Follower:
        """Add a client of any kind, which is not opened yet. ``client_of`` gets the URL of its proxy."""
        proxy = await Proxy.open(lambda: self.address())
        self._stack.push_async_callback(proxy.close)
        follower = Follower(name, self.services, client_of(proxy.url))
        follower.on_event, follower.on_connection = self._tell_event, self._tell_connection
        self.followers.append(follower)
        self.proxies[name] = proxy
        self._stack.push_async_callback(follower.close)
        return follower

    def _address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def _tell_event(self, follower: Follower, event: Event) -> None:
        id = event.record.get("id") if isinstance(event.record, Mapping) else None
        text = f"got '{event.service} {event.name}' {event.record} {event.offset or ''}".rstrip()
        self.story.tell(text, follower.name, (event.service, id))

    def _tell_connection(self, follower: Follower, text: str) -> None:
        self.story.tell(text, follower.name)

    # Trouble.

    async def trouble(self, choose: random.Random) -> None:
        """Do one thing that goes wrong in real life: cut or halt connections, or kill a worker or the server."""
        kinds: list[Callable[[random.Random], Awaitable[None]]] = [self.cut_one, self.cut_all, self.halt_one]
        if self.process is not None:
            kinds += [self._kill_worker, self._restart]
        await choose.choice(kinds)(choose)

    async def cut_one(self, choose: random.Random) -> None:
        """Cut the connection of one follower."""
        name = choose.choice(list(self.proxies))
        self.story.tell("is cut off", name)
        self.proxies[name].cut()

    async def cut_all(self, choose: random.Random) -> None:
        """Cut the connections of all followers."""
        self.story.tell("all connections are cut")
        for proxy in self.proxies.values():
            proxy.cut()

    async def halt_one(self, choose: random.Random) -> None:
        """Let the connection of one follower hang for a while, and cut it."""
        name = choose.choice(list(self.proxies))
        self.story.tell("hangs, and is then cut off", name)
        self.proxies[name].halt()
        await asyncio.sleep(choose.uniform(0, 0.5))
        self.proxies[name].cut()
        self.proxies[name].resume()

    async def _kill_worker(self, choose: random.Random) -> None:
        assert self.process is not None
        worker = self.process.kill_worker(choose)
        if worker is None:
            await self._restart(choose)
        else:
            self.story.tell(f"worker {worker} is killed")

    async def _restart(self, choose: random.Random) -> None:
        assert self.process is not None
        kill = choose.random() < 0.5
        self.story.tell(f"the server is {'killed' if kill else 'stopped'} and started again")
        await (self.process.kill() if kill else self.process.stop())
        await self.process.start()
        self.story.tell("the server is back")

    # Writing and comparing.

    async def run(self, write: Write, *, seconds: float = 10, seed: int = 0) -> None:
        """Write and make trouble for a time, and compare whenever it is quiet.

        ``write`` is called again and again, with the client of each follower and a source of random choices. A
        FeathersError in it is no failure, as the server is in trouble. The same seed makes the same choices. On a slow
        machine, the server may be starting for nearly all of the time: then it goes on until it has answered a write.

        Raises Missed, and AssertionError if no write has succeeded.
        """
        self.seed = seed
        choose, until = random.Random(seed), time.monotonic() + seconds
        while time.monotonic() < until or (not self.writes and self._is_unreached()):
            await self._round(write, choose)
            await self.compare()
        assert self.writes, f"No write has succeeded, so nothing was tested: {self.refusal}"

    def _is_unreached(self) -> bool:
        """Return True if the last write has failed because the server was away."""
        return isinstance(self.refusal, Unavailable | Timeout)

    async def _round(self, write: Write, choose: random.Random) -> None:
        quiet = time.monotonic() + choose.uniform(*ROUND_SECONDS)
        seeds = [choose.random() for _ in self.writers]
        writing = [
            asyncio.create_task(self._write(write, client, random.Random(seed), quiet))
            for client, seed in zip(self.writers, seeds, strict=True)
        ]
        try:
            while time.monotonic() < quiet:
                await asyncio.sleep(choose.uniform(0, 0.5))
                await self.trouble(choose)
        finally:
            await asyncio.gather(*writing)

    async def _write(self, write: Write, client: Client, choose: random.Random, until: float) -> None:
        while time.monotonic() < until:
            try:
                await write(client, choose)
                self.writes += 1
            except FeathersError as error:
                self.refusal = error
                await asyncio.sleep(FIRST_PAUSE)

    async def compare(self, within: float = SETTLE_SECONDS) -> None:
        """Wait until each follower shows what ``find`` gives. Nobody may write meanwhile.

        Raises Missed if that takes longer than ``within`` seconds.
        """
        if differences := await self.differences(within):
            raise Missed(self.explain(differences))
        self.story.clear()

    async def differences(self, within: float = SETTLE_SECONDS) -> list[Difference]:
        """Return what followers still show otherwise than ``find`` after ``within`` seconds. Return early if nothing.

        Raises Missed if a follower cannot connect and read.
        """
        until, pause = time.monotonic() + within, FIRST_PAUSE
        while True:
            await self._supervise()
            found = [await self._compared(one) for one in self.followers]
            if all(each == [] for each in found):
                return []
            if time.monotonic() > until:
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        late = [one for one, each in zip(self.followers, found, strict=True) if each is None]
        if late:
            raise Missed(self.explain([], [f"{one.name} {one.trouble}" for one in late], {one.name for one in late}))
        return [each for one in found for each in one or []]

    async def _supervise(self) -> None:
        """Start the server again if it has ended by itself, as a parent does whose workers die while it starts."""
        if self.process is not None and self.process.has_ended:
            self.story.tell("the server has ended, and is started again")
            await self.process.kill()
            await self.process.start()

    async def _compared(self, follower: Follower) -> list[Difference] | None:
        """Return the differences of a follower, or None if it is not ready."""
        if not follower.is_ready:
            return None
        try:
            return await follower.differences()
        except FeathersError as error:
            follower.problem = error
            return None

    def explain(
        self, differences: Sequence[Difference], others: Sequence[str] = (), clients: Collection[str] = ()
    ) -> str:
        """Return the seed, what went wrong, and the story of the first three records and of some clients."""
        first = differences[:3]
        story = self.story.of({*clients, *(each.client for each in first)}, {(each.service, each.id) for each in first})
        return "\n".join([f"seed {self.seed}", *[*others, *map(str, differences)][:STORY_LINES], "", story])
