"""For profilers: a filled database and servers that stay until they are told to stop, and load on one of them.

``python -m benchmarks hold --peers apex`` prints where they are, ``python -m benchmarks load get --port 1234`` asks.
"""

from __future__ import annotations

import argparse
import signal

from benchmarks import load
from benchmarks.load import Load
from benchmarks.peers import NAMES, serving
from benchmarks.servers import Server, listening
from benchmarks.stage import stage, tokens
from benchmarks.tenants import Tenants, sample


def main(*given: str) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks hold")
    parser.add_argument("--peers", default="", help=f"servers to start, of {', '.join(NAMES)}")
    parser.add_argument("--contacts", type=int, default=100_000)
    asked = parser.parse_args(given)
    names = [NAMES[name] for name in asked.peers.split(",") if name]
    tenants = Tenants(contacts=asked.contacts)
    with stage(tenants) as on, serving(names, on.url) as servers:
        print(f"DATABASE_URL={on.url} APEX_ENV=development")
        for name, server in servers.items():
            print(f"{name}: process {server.id}, http://127.0.0.1:{server.port}")
        mine = sample(tenants)
        print(f"/contacts/{mine['id']} /contacts?organization_id={mine['organization']}")
        print(f"Authorization: Bearer {mine['token']}", flush=True)
        _wait()


def _wait() -> None:
    """Wait until a signal ends the process."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print("Stopping", flush=True)


def ask(*given: str) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks load")
    parser.add_argument("kind", choices=load.KINDS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--contacts", type=int, default=100_000, help="as they were loaded")
    parser.add_argument("--cold", action="store_true", help="each request has another token")
    asked = parser.parse_args(given)
    tenants = Tenants(contacts=asked.contacts)
    with tokens(tenants, asked.cold) as file:
        how = Load(asked.kind, file, tenants, asked.connections, asked.seconds, in_turn=asked.cold)
        print(load.run(how, Server(listening(asked.port), asked.port), None))
