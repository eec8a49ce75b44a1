"""A run of the oracle: the app in several processes, its clients, and everything that may go wrong, by a seed."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from apex.client import Client, rest, socketio
from apex.errors import FeathersError, OutcomeUnknown, Timeout, Unavailable
from apex.testing.oracle import AnyClient, Oracle, PythonClient, ServerProcess
from tests.interop.node import NODE
from tests.oracle import app as tested
from tests.oracle.history import SERVICES, Faults, History, Rights, Witness
from tests.oracle.javascript import Node, NodeClient
from tests.support.databases import Server
from tests.support.redis_server import RedisServer

HERE = Path(__file__).parent
PASSWORD = "correct horse"
TEAMS = (1, 2)
BOSS, ANN, BEN, CAT = "boss", "ann", "ben", "cat"
ROLES = {
    BOSS: {1: "owner", 2: "owner"},
    ANN: {1: "member", 2: "viewer"},
    BEN: {1: "viewer"},
    CAT: {1: "member", 2: "member"},
}
LONG_SECONDS = 3
FAILURE_PAUSE = 0.02
Trouble = Callable[[random.Random], Coroutine[Any, Any, None]]
ROUND_SECONDS = (0.5, 3.0)


@dataclass
class Options:
    """The options of a run. ``url`` is that of an empty database, on a ``server`` that may be restarted."""

    url: str
    server: Server | None = None
    seed: int = 0
    seconds: float = 20
    processes: int = 2
    redis: bool = False
    javascript: bool = True
    trouble: bool = True


class Run:
    """A run, with its servers, clients and counts."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.choose = random.Random(options.seed)
        self.history, self.rights, self.faults = History(options.url), Rights(), Faults()
        self.begun: dict[int, float] = {}
        self.stamps = itertools.count(1)
        self.users: dict[str, int] = {}
        self.changing, self.killing, self.restarting = (asyncio.Lock() for _ in range(3))
        self.witnesses: list[Witness] = []
        self.servers: list[ServerProcess] = []
        self.clients: list[Client] = []
        self.ids: dict[str, list[int]] = {service: [] for service in SERVICES}
        self.story = ""
        """The story of the first views that differed."""
        self.counts: dict[str, int] = {"writes": 0, "failed": 0, "trouble": 0, "rounds": 0}
        self.redis: RedisServer | None = None
        self.redis_is_up = True

    async def __call__(self) -> Faults:
        """Run, and return what went wrong."""
        async with AsyncExitStack() as self.stack:
            await self._start()
            until = time.monotonic() + self.options.seconds
            while time.monotonic() < until:
                await self._round()
        return self.faults

    def summary(self) -> str:
        """Return what was done and what went wrong, in numbers."""
        followers = self.oracle.followers
        reads, back = sum(one.reads for one in followers), sum(one.recoveries for one in followers)
        done = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        return f"seed {self.options.seed}: {done}, {reads} reads, {back} recoveries\n{self.faults}"

    # The stage.

    async def _start(self) -> None:
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="apex-oracle-")))
        self.stack.callback(self.history.engine.dispose)
        tested.metadata.create_all(self.history.engine)
        self.history.install()
        environ = {"DATABASE_URL": self.options.url, "PYTHONPATH": f"{HERE}:{HERE.parents[1]}", "APEX_ENV": "test"}
        if self.options.redis:
            self.redis = RedisServer(folder)
            self.redis.start()
            self.stack.callback(self._kill_redis)
            environ["REDIS_URL"] = self.redis.url
        command = [sys.executable, "-m", "apex", "--app", "app:create_app", "serve"]
        for _ in range(self.options.processes):
            server = ServerProcess(command, environ, folder=HERE)
            self.stack.push_async_callback(server.kill)
            self.servers.append(server)
        await asyncio.gather(*(server.start() for server in self.servers))
        self.node = await Node.start() if self.options.javascript and NODE is not None else None
        if self.node is not None:
            self.stack.push_async_callback(self.node.close)
        self.oracle = await self.stack.enter_async_context(Oracle(self.servers[0].url, SERVICES))
        self.oracle.address, self.oracle.seed = self._any_server, self.options.seed
        await self._make_people()
        await self._make_clients()

    def _kill_redis(self) -> None:
        assert self.redis is not None
        self.redis.process.send_signal(signal.SIGCONT)
        self.redis.kill()

    def _any_server(self) -> tuple[str, int]:
        return "127.0.0.1", self.choose.choice(self.servers).port

    async def _make_people(self) -> None:
        with self.history.engine.connect() as connection:
            for id, (name, roles) in enumerate(ROLES.items(), 1):
                self.users[name] = id
                for team, role in roles.items():
                    row = {"team_id": team, "user_id": id, "role": role}
                    connection.execute(tested.members.insert(), row)
                    self.rights.change(id, team, role, 0.0)
        async with Client(rest(self.servers[0].url)) as client:
            for name in ROLES:
                made = await client.service("users").create({"email": f"{name}@example.com", "password": PASSWORD})
                assert made["id"] == self.users[name]

    def _login(self, name: str) -> dict[str, Any]:
        return {"strategy": "local", "email": f"{name}@example.com", "password": PASSWORD}

    async def _make_clients(self) -> None:
        for name in ROLES:
            await self._follow(f"{name}/python", name, PythonClient)
            if self.node is not None:
                await self._follow(f"{name}/js", name, partial(NodeClient, self.node))
        for server in self.servers:
            for transport in (rest(server.url, timeout=5), socketio(server.url, timeout=5, delay=0.1)):
                client = await self.stack.enter_async_context(Client(transport))
                await client.authenticate(**self._login(CAT))
                self.clients.append(client)
        self.boss = await self.stack.enter_async_context(Client(rest(self.servers[0].url, timeout=5)))
        await self.boss.authenticate(**self._login(BOSS))

    async def _follow(self, name: str, user: str, client: Callable[[str, dict[str, Any]], AnyClient]) -> None:
        follower = await self.oracle.add(name, lambda url: client(url, self._login(user)))
        self.witnesses.append(Witness(follower, self.users[user], self.history, self.rights))
        await follower.open()

    # A round: writes and trouble, then quiet.

    async def _round(self) -> None:
        quiet_at = time.monotonic() + self.choose.uniform(*ROUND_SECONDS)
        seeds = [self.choose.random() for _ in self.clients]
        writing = [
            asyncio.create_task(self._write_until(quiet_at, client, random.Random(seed)))
            for client, seed in zip(self.clients, seeds, strict=True)
        ]
        troubles: list[asyncio.Task[None]] = []
        while time.monotonic() < quiet_at:
            await asyncio.sleep(self.choose.uniform(0, 0.4))
            if self.options.trouble:
                trouble = self.choose.choice(self._kinds())
                troubles.append(asyncio.create_task(trouble(random.Random(self.choose.random()))))
                self.counts["trouble"] += 1
        await asyncio.gather(*writing, *troubles)
        self.counts["rounds"] += 1
        await self._compare()

    async def _compare(self) -> None:
        differences = await self.oracle.differences()
        for each in differences:
            self.faults.note("different", str(each))
        if differences and not self.story:
            self.story = self.oracle.explain(differences)
        with self.history.engine.connect() as connection:
            for witness in self.witnesses:
                witness.check(connection, self.begun, self.faults)
        if differences:
            for follower in self.oracle.followers:
                follower.read_again()
            await self.oracle.differences()
        for witness in self.witnesses:
            witness.restart()
        self.oracle.story.clear()

    # Writes.

    async def _write_until(self, until: float, client: Client, choose: random.Random) -> None:
        while time.monotonic() < until:
            try:
                await self._write(client, choose)
                self.counts["writes"] += 1
            except FeathersError:
                self.counts["failed"] += 1
                await asyncio.sleep(FAILURE_PAUSE)

    def _stamp(self) -> int:
        stamp = next(self.stamps)
        self.begun[stamp] = time.monotonic()
        return stamp

    def _data(self, choose: random.Random, service: str) -> dict[str, Any]:
        stamp = self._stamp()
        text = choose.choice("abc") * choose.randint(1, 50)
        data: dict[str, Any] = {"stamp": stamp, "text": text, "secret": f"s{stamp}"}
        if service == "tasks" and choose.random() < 0.1:
            data["wait"] = choose.uniform(0, 0.5)
        return data

    async def _write(self, client: Client, choose: random.Random) -> None:
        service = choose.choice(SERVICES)
        ids = self.ids[service]
        kinds: list[tuple[int, Callable[[Client, random.Random, str], Awaitable[Any]]]] = [
            (3, self._create), (8, self._patch), (2, self._update), (1, self._remove), (1, self._patch_many),
            (1, self._create_many), (1, self._atomic), (1, self._repeat),
        ]  # fmt: skip
        weights, writes = zip(*(kinds if len(ids) > 3 else kinds[:1]), strict=True)
        await choose.choices(writes, weights)[0](client, choose, service)

    async def _create(self, client: Client, choose: random.Random, service: str) -> None:
        made = await client.service(service).create({**self._data(choose, service), "team_id": choose.choice(TEAMS)})
        self.ids[service].append(made["id"])

    def _some(self, choose: random.Random, service: str) -> int:
        """Return the id of a record, most often of one of the last few, so that writes meet."""
        ids = self.ids[service]
        return choose.choice(ids[-4:] if choose.random() < 0.8 else ids)

    async def _patch(self, client: Client, choose: random.Random, service: str) -> None:
        await client.service(service).patch(self._some(choose, service), self._data(choose, service))

    async def _update(self, client: Client, choose: random.Random, service: str) -> None:
        id = self._some(choose, service)
        found = await client.service(service).get(id)
        await client.service(service).update(id, {**self._data(choose, service), "team_id": found["team_id"]})

    async def _remove(self, client: Client, choose: random.Random, service: str) -> None:
        id = self._some(choose, service)
        await client.service(service).remove(id)
        if id in self.ids[service]:
            self.ids[service].remove(id)

    async def _patch_many(self, client: Client, choose: random.Random, service: str) -> None:
        query = {"id": {"$in": self.ids[service][-3:]}}
        await client.service(service).patch(None, self._data(choose, service), {"query": query})

    async def _create_many(self, client: Client, choose: random.Random, service: str) -> None:
        team = choose.choice(TEAMS)
        data = [{**self._data(choose, service), "team_id": team} for _ in range(3)]
        made = await client.service(service).create(data)
        self.ids[service] += [one["id"] for one in made]

    async def _atomic(self, client: Client, choose: random.Random, service: str) -> None:
        ids = sorted({self._some(choose, service) for _ in range(2)})
        calls = [("patch", service, id, self._data(choose, service)) for id in ids]
        await client.batch(*calls, atomic=choose.random() < 0.7)

    async def _repeat(self, client: Client, choose: random.Random, service: str) -> None:
        """Repeat a write with its key until it is answered, by any server."""
        id, data = self._some(choose, service), self._data(choose, service)
        headers = {"Idempotency-Key": str(uuid4())}
        rests = [one for one in self.clients if not one.transport.realtime]
        for _ in range(20):
            try:
                await choose.choice(rests).service(service).patch(id, data, {"headers": headers})
                return
            except (Unavailable, OutcomeUnknown, Timeout):
                await asyncio.sleep(0.1)

    # Trouble.

    def _kinds(self) -> list[Trouble]:
        cut, role = self.oracle.cut_one, self._change_role
        kinds: list[Trouble] = [cut, cut, cut, cut, self.oracle.cut_all, self.oracle.halt_one, self._kill, role, role]
        kinds.append(self._freeze)
        if self.options.url.startswith("postgresql"):
            kinds.append(self._hold_snapshot)
        if self.options.server is not None:
            kinds.append(self._restart_postgres)
        if self.redis is not None:
            kinds += [self._lose_redis, self._lose_redis]
        return kinds

    async def _kill(self, choose: random.Random) -> None:
        """Kill one process, sometimes all, and start again."""
        chosen = self.servers if choose.random() < 0.2 else [choose.choice(self.servers)]
        async with self.killing:
            self.oracle.story.tell(f"servers {[self.servers.index(one) + 1 for one in chosen]} are killed")
            for server in chosen:
                await (server.kill() if choose.random() < 0.7 else server.stop())
            await asyncio.sleep(choose.uniform(0, 0.5))
            async with self.restarting:  # A server needs the database to start.
                for server in chosen:
                    await server.start()

    async def _hold_snapshot(self, choose: random.Random) -> None:
        """Hold a transaction open, with a number and a snapshot."""
        with suppress(psycopg.OperationalError):  # PostgreSQL may restart meanwhile.
            async with await psycopg.AsyncConnection.connect(self.options.url) as connection:
                await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
                await connection.execute("SELECT pg_current_xact_id(), count(*) FROM notes")
                await asyncio.sleep(choose.uniform(0, LONG_SECONDS))
                await connection.rollback()

    async def _restart_postgres(self, choose: random.Random) -> None:
        """Restart PostgreSQL, in order or as after a crash."""
        assert self.options.server is not None
        mode = choose.choice(("fast", "immediate"))
        async with self.restarting:
            self.oracle.story.tell(f"PostgreSQL restarts: {mode}")
            await asyncio.to_thread(self.options.server.run, "pg_ctl", "restart", f"--mode={mode}", "--wait")
            self.oracle.story.tell("PostgreSQL is back")

    async def _freeze(self, choose: random.Random) -> None:
        """Stop a server, or PostgreSQL, without a word to those who wait for it, and let it go on after a while."""
        server, seconds = choose.choice(self.servers), choose.uniform(0, LONG_SECONDS)
        if self.options.server is not None and choose.random() < 0.3:
            async with self.restarting:
                self.oracle.story.tell(f"PostgreSQL hangs for {seconds:.1f} seconds")
                await asyncio.to_thread(_freeze, self.options.server.pid, seconds)
        else:
            async with self.killing:
                self.oracle.story.tell(f"server {self.servers.index(server) + 1} hangs for {seconds:.1f} seconds")
                assert server._process is not None
                await asyncio.to_thread(_freeze, server._process.pid, seconds)

    async def _lose_redis(self, choose: random.Random) -> None:
        """Let Redis hang, or kill it, and bring it back after a while."""
        if not self.redis_is_up:
            return
        assert self.redis is not None
        self.redis_is_up = False
        hangs = choose.random() < 0.5
        self.oracle.story.tell(f"Redis {'hangs' if hangs else 'is gone'}")
        if hangs:
            os.kill(self.redis.process.pid, signal.SIGSTOP)
        else:
            self.redis.kill()
        await asyncio.sleep(choose.uniform(0, LONG_SECONDS))
        if hangs:
            os.kill(self.redis.process.pid, signal.SIGCONT)
        else:
            self.redis.start()
        self.oracle.story.tell("Redis is back")
        self.redis_is_up = True

    async def _change_role(self, choose: random.Random) -> None:
        """Remove, demote, promote or add a member. The server has its clients connect and read again."""
        user, team = choose.choice((ANN, BEN)), choose.choice(TEAMS)
        async with self.changing:
            now = self.rights.now(self.users[user], team)
            role = choose.choice([each for each in ("viewer", "member", None) if each != now])
            begun = time.monotonic()
            while True:
                try:
                    id, stored = self._stored_role(user, team)
                    if stored == role:
                        break
                    await self._store_role(user, team, id, role)
                except (FeathersError, OperationalError):
                    await asyncio.sleep(FAILURE_PAUSE)
            self.rights.change(self.users[user], team, role, begun)
            self.oracle.story.tell(f"{user} is now {role} of team {team}")

    def _stored_role(self, user: str, team: int) -> tuple[int | None, str | None]:
        """Return the id and the role of a membership."""
        columns = tested.members.c
        query = select(columns.id, columns.role).where(columns.user_id == self.users[user], columns.team_id == team)
        with self.history.engine.connect() as connection:
            row = connection.execute(query).first()
        return (None, None) if row is None else (row[0], row[1])

    async def _store_role(self, user: str, team: int, id: int | None, role: str | None) -> None:
        members = self.boss.service("members")
        if role is None:
            await members.remove(id)
        elif id is None:
            await members.create({"team_id": team, "user_id": self.users[user], "role": role})
        else:
            await members.patch(id, {"role": role})


def _freeze(pid: int, seconds: float) -> None:
    """Stop a process with its children for a while."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    family = [pid, *map(int, children)]
    for number, then in ((signal.SIGSTOP, seconds), (signal.SIGCONT, 0)):
        for one in family:
            with suppress(ProcessLookupError):  # A connection may have ended.
                os.kill(one, number)
        time.sleep(then)
