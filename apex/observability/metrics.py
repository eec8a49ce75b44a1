"""Metrics for Prometheus at ``/metrics``: calls, as they are observed, and how database, sockets and Redis are.

A call is counted in plain numbers. Once in ``SAMPLE_SECONDS``, and when ``/metrics`` is read, they go to the library,
whose files are what the workers of ``apex serve --workers`` share.
"""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict
from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apex.app import Apex
from apex.context import Context
from apex.errors import Forbidden, NotAuthenticated
from apex.hooks import Next
from apex.lazy import extra
from apex.observability.observations import BEGUN, ENDED, Observation

if TYPE_CHECKING:
    from apex.observability.prometheus import Exposition

SAMPLE_SECONDS = 1.0
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""The limits of the histogram's buckets; a last one has the rest."""

SHARED = "PROMETHEUS_MULTIPROC_DIR"
LOOPBACK = ("127.0.0.1", "::1")
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")

Key = tuple[str, str, int]
Values = Mapping[str, float]


def metrics(app: Apex) -> list[Route]:
    """The route of an app, for ``rest(app, routes=metrics(app))``; none unless its settings say ``metrics``.

    With ``metricsToken`` it asks for ``Authorization: Bearer``; without, callers must be on this machine, and come by
    no proxy. Raises ConfigError where the library is missing.
    """
    if not app.get("metrics"):
        return []
    with extra("metrics", "/metrics"):
        from apex.observability.prometheus import Exposition
    return [Route("/metrics", Metrics(app, Exposition(SECONDS)).answer)]


class Metrics:
    """What is counted between two samples, by service, method and status, and by class of error."""

    def __init__(self, app: Apex, exposition: Exposition) -> None:
        self.app, self.exposition = app, exposition
        self.token: str | None = app.get("metricsToken")
        self.calls: dict[Key, list[float]] = {}
        self.errors: dict[str, int] = {}
        self.in_flight = 0
        self._timer: asyncio.TimerHandle | None = None
        app.on(BEGUN, self.begin)
        app.on(ENDED, self.count)
        app.hooks({"setup": [self._start], "teardown": [self._stop]})

    def begin(self, seen: Observation) -> None:
        self.in_flight += 1

    def count(self, seen: Observation) -> None:
        """Takes note of a call: its seconds come first, and then how many there were in each bucket."""
        self.in_flight -= 1
        key = seen.path, seen.method, seen.status
        counted = self.calls.get(key)
        if counted is None:
            counted = self.calls[key] = [0.0] * (len(SECONDS) + 2)
        counted[0] += seen.seconds
        counted[bisect_left(SECONDS, seen.seconds) + 1] += 1
        if seen.error is not None:
            name = type(seen.error).__name__
            self.errors[name] = self.errors.get(name, 0) + 1

    def sample(self) -> None:
        """Gives the library what was counted since the last time, and how all else is now."""
        calls, self.calls = self.calls, {}
        errors, self.errors = self.errors, {}
        self.exposition.add_calls(calls)
        self.exposition.add_errors(errors)
        own = {"workers": 1, "calls_in_flight": self.in_flight}
        self.exposition.take({**own, **_gauges(self.app)}, _totals(self.app))

    async def answer(self, request: Request) -> Response:
        """The text. Raises NotAuthenticated or Forbidden."""
        self._admit(request)
        self.sample()
        # The files of workers take their time to read, those that have ended included.
        text = await asyncio.to_thread(self.exposition.text)
        return Response(text, 200, {"cache-control": "no-store"}, self.exposition.content_type)

    def _admit(self, request: Request) -> None:
        if self.token is None:
            if request.client is None or request.client.host not in LOOPBACK or _is_forwarded(request):
                raise Forbidden("Metrics are for this machine alone: set metricsToken to read them from another one")
            return
        given = request.headers.get("authorization", "").encode()
        if not compare_digest(given, f"Bearer {self.token}".encode()):
            raise NotAuthenticated("Metrics need the token that is set as metricsToken")

    async def _start(self, context: Context, next: Next) -> None:
        await next()
        self._tick()

    def _tick(self) -> None:
        self.sample()
        self._timer = asyncio.get_running_loop().call_later(SAMPLE_SECONDS, self._tick)

    async def _stop(self, context: Context, next: Next) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.sample()
        await next()


def _is_forwarded(request: Request) -> bool:
    return any(name in request.headers for name in FORWARDED)


def _gauges(app: Apex) -> Values:
    """How things are now."""
    executor: Any = getattr(app.get("database"), "executor", None)
    found: dict[str, float] = {"sockets_open": len(app.events.connections)}
    if (pipeline := getattr(executor, "pipeline", None)) is not None:
        now = pipeline.metrics()
        found |= {"lanes": now["size"], "lanes_connected": now["connections"], "lanes_in_flight": now["in_flight"]}
        stats = executor.pool.get_stats()
        found |= {name: stats[name] for name in ("pool_size", "pool_available", "pool_max")}
        found["pool_waiting"] = stats.get("requests_waiting", 0)
    if (stats := getattr(app.bus, "stats", None)) is not None:
        found["bus_connected"] = stats.connected
    return found


def _totals(app: Apex) -> Values:
    """What has happened since the start."""
    executor: Any = getattr(app.get("database"), "executor", None)
    found: dict[str, float] = {"events_published": app.events.published, "callbacks_failed": app.callbacks.failed}
    if (rates := app.get("rates")) is not None:
        found["rate_limits_refused"] = rates.refused
    if (pipeline := getattr(executor, "pipeline", None)) is not None:
        found |= {f"lanes_{name}": number for name, number in asdict(pipeline.counts).items()}
        stats = executor.pool.get_stats()
        found |= {f"pool_{name}": stats.get(name, 0) for name in ("requests_num", "requests_queued", "requests_errors")}
        found["pool_connections_lost"] = stats.get("connections_lost", 0)
    if (stats := getattr(app.bus, "stats", None)) is not None:
        found |= {f"bus_{name}": getattr(stats, name) for name in ("sent", "received", "dropped", "refused")}
    return found


def environment_of_workers(app: Apex, folder: str) -> dict[str, str]:
    """The environment of workers whose metrics are one: the library looks for it when it is imported."""
    return {**os.environ, SHARED: folder} if app.get("metrics") else dict(os.environ)


def forget_process(folder: str, pid: int) -> None:
    """What a process that has ended was like is no longer so; what it has counted stays."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
