"""Events to a thousand connections for each create: apex and Feathers on Node. ``python -m benchmarks fanout``.

Each round starts each server anew, one after the other, and measures it with the same listeners. These have a processor
of their own, as in a client elsewhere. Otherwise the scheduler wakes them on the processor of the server in the middle
of its event, more often for one server than for the other.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from statistics import median, quantiles

from benchmarks.listeners import Listeners, capacity, frame, sample
from benchmarks.peers import FEATHERS, install
from benchmarks.servers import Server, allow_open_files, started

CONNECTIONS, ROUNDS = 1_000, 5
CREATES, WARM_UP = 50, 30
PAUSE = 0.02
"""The pause in seconds between two timed creates, in which the server becomes idle."""
AT_ONCE, SECONDS = 4, 5
"""The number of concurrent creates for throughput, and the duration in seconds."""

COMMANDS = {
    "apex": [sys.executable, "-m", "apex", "--app", "benchmarks.messages:create_app", "serve", "--port", "0"],
    "Feathers": ["node", str(FEATHERS / "messages.js")],
}

Figures = dict[str, float]


def measure(server: Server, connections: int) -> Figures:
    """Return the figures of a round."""
    before = server.memory
    listeners = Listeners()
    listeners.connect(server.port, connections)
    time.sleep(1)
    connected = server.memory
    _times(listeners, WARM_UP)
    times = _times(listeners, CREATES)
    rate, cost = _sustained(listeners, server)
    loaded = server.memory
    listeners.close()
    return {
        "last connection has the event: median (ms)": median(times),
        "last connection has the event: p99 (ms)": quantiles(times, n=100)[98],
        "creates a second, sustained": rate,
        "frames a second, sustained": rate * connections,
        "processor time for a frame (µs)": cost,
        "memory before connecting (MiB)": before / 1024,
        "memory for a connection (KiB)": (connected - before) / connections,
        "memory after the load (MiB)": loaded / 1024,
    }


def _times(listeners: Listeners, count: int) -> list[float]:
    """Return the milliseconds from each create to its event on the last connection."""
    taken = []
    for _ in range(count):
        time.sleep(PAUSE)
        events = listeners.events + len(listeners.sockets)
        start = time.perf_counter()
        listeners.create()
        taken.append((listeners.wait(events, listeners.answers + 1) - start) * 1000)
    return taken


def _sustained(listeners: Listeners, server: Server) -> tuple[float, float]:
    """Return concurrent creates per second, and microseconds of processor time for a frame."""
    connections, before, processor = len(listeners.sockets), listeners.events, server.processor
    start, sent = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        for _ in range(sent - (listeners.events - before) // connections, AT_ONCE):
            listeners.create()
            sent += 1
        listeners.read()
    end = listeners.wait(before + sent * connections)
    cost = (server.processor - processor) / (sent * connections)
    return sent / (end - start), cost * 1_000_000


def _require_same_frames() -> bytes:
    """Return the text of the event. Raises SystemExit if the servers send different ones."""
    frames = {}
    for name, command in COMMANDS.items():
        with started(command) as server:
            frames[name] = sample(server.port)
    if frames["apex"] != frames["Feathers"]:
        raise SystemExit(f"The servers do not send the same: {frames}")
    return frames["apex"][0]


def _table(rounds: list[dict[str, Figures]]) -> None:
    print("| | apex | Feathers | apex / Feathers |\n|---|---:|---:|---:|")
    for name in rounds[0]["apex"]:
        columns = {server: [one[server][name] for one in rounds] for server in COMMANDS}
        ratios = [ours / theirs for ours, theirs in zip(*columns.values(), strict=True)]
        print(f"| {name} |", *(f"{_range(values)} |" for values in columns.values()), f"{median(ratios):.2f} |")


def _range(values: list[float]) -> str:
    """Return the median and the range."""
    places = 0 if median(values) >= 100 else 1
    return f"{median(values):,.{places}f} ({min(values):,.{places}f} to {max(values):,.{places}f})"


def main(connections: int = CONNECTIONS, rounds: int = ROUNDS) -> None:
    allow_open_files(3 * connections)
    install()
    event = _require_same_frames()
    print(f"\n{connections:,} connections, {rounds} rounds, an event of {len(event)} bytes")
    print(f"The listeners can count {capacity(frame(event), connections):,.0f} frames a second\n", flush=True)
    gc.disable()
    *others, last = sorted(os.sched_getaffinity(0))
    measured: list[dict[str, Figures]] = []
    for _ in range(rounds):
        measured.append({})
        for name, command in COMMANDS.items():
            os.sched_setaffinity(0, others or [last])  # The server inherits it, with all of its threads.
            with started(command) as server:
                os.sched_setaffinity(0, [last])
                measured[-1][name] = measure(server, connections)
    _table(measured)
