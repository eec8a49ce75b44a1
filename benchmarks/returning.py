"""Clients that return to a restarted server, and get what they have missed. ``python -m benchmarks returning``.

A thousand clients open their connections, and then send their offsets all at once. One client has missed 10,000 events.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from benchmarks.listeners import Listeners, opened, receive, send
from benchmarks.servers import QUIET, Server, allow_open_files, started

CLIENTS, MISSED, LONG, ROUNDS = 1_000, 100, 10_000, 3
COMMAND = [sys.executable, "-m", "benchmarks.messages"]
CHUNK = 1_000

Figures = dict[str, float]


class Returning(Listeners):
    """Connections that count their events up to the end of a replay, and whether their pids came back."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = self.recovered = 0

    def _received(self, number: int, data: bytes) -> None:
        self.ended += data.count(b'42["offset"')
        self.recovered += data.count(b'"pid":"mine"')
        super()._received(number, data)

    def _other(self, number: int, kind: int, text: bytes) -> None:
        if not text.startswith(b"40"):
            super()._other(number, kind, text)

    def come_back(self, port: int, offsets: list[str]) -> float:
        """Return the seconds from the offsets of all clients to the end of the last replay."""
        for _ in offsets:
            self.add(opened(port))
        start = time.perf_counter()
        for one, offset in zip(self.sockets, offsets, strict=True):
            send(one.fileno(), b"40" + json.dumps({"pid": "mine", "offset": offset}).encode())
        while self.ended < len(offsets):
            self.read()
        if self.recovered < len(offsets):
            raise SystemExit(f"Only {self.recovered} of {len(offsets)} clients were recovered")
        return time.perf_counter() - start


@contextmanager
def serving(url: str) -> Iterator[Server]:
    with started(COMMAND, {**QUIET, "DATABASE_URL": url}) as server:
        yield server


def write(server: Server, count: int) -> None:
    for start in range(0, count, CHUNK):
        rows = [{"text": f"The text of message {number}"} for number in range(start, min(start + CHUNK, count))]
        _call(server, "messages", rows)


def _call(server: Server, path: str, data: Any = None) -> Any:
    body = None if data is None else json.dumps(data).encode()
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{server.port}/{path}", body, headers)
    ) as found:
        return json.load(found)


def offset_of(server: Server) -> str:
    """Return the offset of a new client."""
    with opened(server.port) as one:
        send(one.fileno(), b"40")
        receive(one)
        text: str = json.loads(receive(one)[2:])[1]
    return text


def measure(url: str) -> Figures:
    """Return the figures of a round."""
    with serving(url) as server:
        before, idle = server.memory, Listeners()
        for _ in range(CLIENTS):
            idle.add(one := opened(server.port))
            send(one.fileno(), b"40")
            receive(one)
            receive(one)
        time.sleep(1)
        memory = (server.memory - before) / CLIENTS
        idle.close()
        long = offset_of(server)
        write(server, LONG - MISSED)
        time.sleep(1)  # Until the server has followed its log to the end.
        offsets = []
        for _ in range(MISSED):
            offsets.append(offset_of(server))
            write(server, 1)
    with serving(url) as server:
        together = Returning()
        seconds = together.come_back(server.port, [offsets[number % MISSED] for number in range(CLIENTS)])
        together.close()
        reads = _call(server, "reads/1")
    with serving(url) as server:
        alone = Returning()
        replay = alone.come_back(server.port, [long])
        if alone.events < LONG:
            raise SystemExit(f"Only {alone.events} of {LONG} events came")
        alone.close()
    return {
        f"{CLIENTS:,} clients return with up to {MISSED} missed events: all have them (s)": seconds,
        "reads of the log for them": reads,
        f"one client returns with {LONG:,} missed events (s)": replay,
        "memory of an idle connection that can return (KiB)": memory,
    }


def main(rounds: int = ROUNDS) -> None:
    allow_open_files(3 * CLIENTS)
    measured = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            measured.append(measure(os.environ.get("DATABASE_URL") or f"sqlite:///{folder}/messages.db"))
    print("| | median | range |\n|---|---:|---:|")
    for name in measured[0]:
        values = [one[name] for one in measured]
        print(f"| {name} | {median(values):,.2f} | {min(values):,.2f} to {max(values):,.2f} |")
