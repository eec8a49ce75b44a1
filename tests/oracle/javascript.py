"""Followers with the official JavaScript client, all of them in one process of Node."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from apex.errors import FeathersError, Forbidden, Unavailable
from apex.testing.oracle import Event, Follower
from tests.interop.node import FOLDER, NODE

PROGRAM = FOLDER / "followers.mjs"
LINE_BYTES = 1 << 26
ENDED = "The program of the JavaScript clients has ended: see its output above"


class Node:
    """A process of Node with clients, and the calls to it that wait for an answer."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.followers: dict[str, Follower] = {}
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls) -> Node:
        """Start the program."""
        assert NODE is not None, "Node is not installed"
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(NODE, PROGRAM, stdin=pipe, stdout=pipe, limit=LINE_BYTES)
        return cls(process)

    async def call(self, call: str, **arguments: Any) -> Any:
        """Return the answer to a command. Raises FeathersError, and RuntimeError if the program has ended."""
        if self._reading.done():
            raise RuntimeError(ENDED)
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"call": call, "number": number, **arguments}).encode() + b"\n")
        try:
            return await answer
        finally:
            del self._answers[number]

    async def close(self) -> None:
        """End the process. Raises what its answers could not be read for."""
        if self._reading.done():
            self._reading.result()
        self._reading.cancel()
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self._handle(json.loads(line))
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(RuntimeError(ENDED))

    def _handle(self, message: Mapping[str, Any]) -> None:
        if "number" in message:
            answer = self._answers.get(message["number"])
            if answer is None or answer.done():
                return
            if "error" in message:
                answer.set_exception(_error_of(message["error"]))
            else:
                answer.set_result(message["value"])
            return
        follower = self.followers[message["name"]]
        if "event" in message:
            event = Event(message["service"], message["event"], message["record"], message.get("offset"))
            follower.receive(event)
        elif "connected" in message:
            follower.connected(recovered=message["recovered"])
        elif "disconnected" in message:
            follower.disconnected()
        else:
            follower.on_connection(follower, f"could not log in: {message['failed']}")


def _error_of(error: Mapping[str, Any]) -> FeathersError:
    kind = Forbidden if error.get("code") == Forbidden.code else Unavailable
    return kind(f"{error.get('name')}: {error['message']}")


class NodeClient:
    """A client in a process of Node."""

    def __init__(self, node: Node, url: str, login: Mapping[str, Any]) -> None:
        self.node, self.url, self.login = node, url, login
        self.name = ""

    async def open(self, follower: Follower) -> None:
        self.name = follower.name
        self.node.followers[self.name] = follower
        await self.node.call("open", name=self.name, url=self.url, login=self.login, services=list(follower.views))
        follower.connected(recovered=False)

    async def find(self, service: str, query: Mapping[str, Any]) -> Any:
        return await self.node.call("find", name=self.name, service=service, query=query)

    async def close(self) -> None:
        await self.node.call("close", name=self.name)
