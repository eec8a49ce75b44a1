"""Prometheus metrics at ``/metrics``: calls, and the state of database, sockets and Redis.

Calls are counted in plain numbers, because the library takes longer. Every ``SAMPLE_SECONDS``, and when ``/metrics``
is read, the numbers go to the library. The workers of ``apex serve --workers`` share the library's files.
"""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apex._lazy import extra
from apex.app import Apex
from apex.context import Context
from apex.errors import Forbidden, NotAuthenticated
from apex.hooks import Next
from apex.observability.observations import BEGUN, ENDED, Observation

if TYPE_CHECKING:
    from apex.observability.prometheus import Registry

SAMPLE_SECONDS: float = 1.0
SECONDS: tuple[float, ...] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""The upper limits of the histogram's buckets. One more bucket counts longer calls."""

SHARED: str = "PROMETHEUS_MULTIPROC_DIR"
LOOPBACK: tuple[str, ...] = ("127.0.0.1", "::1")
FORWARDED: tuple[str, ...] = ("forwarded", "x-forwarded-for", "x-real-ip", "via")

LOG_TOTALS: tuple[str, ...] = ("written", "handled", "pruned", "replays", "refused_replays")
WEBHOOK_TOTALS: tuple[str, ...] = ("delivered", "failed", "disabled")

Key = tuple[str, str, int]
Values = Mapping[str, float]


def metrics(app: Apex) -> list[Route]:
    """Add the route ``/metrics`` if the app's setting ``metrics`` is on: ``app.configure(metrics)``. Return the routes.

    If the setting ``metricsToken`` is given,
    callers must send it as ``Authorization: Bearer``. Otherwise only callers on the same machine are admitted, and
    none that come through a proxy. Raises ConfigError if the library is missing.
    """
    if not app.get("metrics"):
        return []
    with extra("metrics", "/metrics"):
        from apex.observability.prometheus import Registry
    routes = [Route("/metrics", Metrics(app, Registry(SECONDS)).answer)]
    app.routes += routes
    return routes


class Metrics:
    """The counts of calls since the last sample, by service, method and status, and of errors by class."""

    def __init__(self, app: Apex, registry: Registry) -> None:
        self.app: Apex = app
        self.registry: Registry = registry
        self.token: str | None = app.get("metricsToken")
        self.calls: dict[Key, list[float]] = {}
        self.errors: dict[str, int] = {}
        self.in_flight: int = 0
        self._open = _OpenTransactions()
        self._timer: asyncio.TimerHandle | None = None
        app.on(BEGUN, self.begin)
        app.on(ENDED, self.count)
        app.hooks({"setup": [self._start], "teardown": [self._stop]})

    def begin(self, seen: Observation) -> None:
        """Count a call that has begun."""
        self.in_flight += 1

    def count(self, seen: Observation) -> None:
        """Count a call that has ended. A count is the sum of the seconds, then the number of calls in each bucket."""
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
        """Pass the counts since the last sample and the present state to the library."""
        calls, self.calls = self.calls, {}
        errors, self.errors = self.errors, {}
        self.registry.add_calls(calls)
        self.registry.add_errors(errors)
        own = {"workers": 1, "calls_in_flight": self.in_flight}
        log = _log_gauges(self.app, self._open)
        self.registry.update({**own, **_gauges(self.app), **log}, _totals(self.app))

    async def answer(self, request: Request) -> Response:
        """Answer with the metrics as text. Raises NotAuthenticated or Forbidden."""
        self._admit(request)
        self.sample()
        # Reading the files of all workers, ended ones included, takes long.
        text = await asyncio.to_thread(self.registry.text)
        return Response(text, 200, {"cache-control": "no-store"}, self.registry.content_type)

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
    """Return the present state."""
    executor: Any = getattr(app.get("database"), "executor", None)
    found: dict[str, float] = {"sockets_open": len(app.events.connections)}
    if (pipeline := getattr(executor, "pipeline", None)) is not None:
        now = pipeline.metrics()
        found |= {"lanes": now["size"], "lanes_connected": now["connections"], "lanes_in_flight": now["in_flight"]}
        stats = executor.pool.get_stats()
        found |= {name: stats[name] for name in ("pool_size", "pool_available", "pool_max")}
        found["pool_waiting"] = stats.get("requests_waiting", 0)
    if (stats := app.bus.stats) is not None:
        found["bus_connected"] = stats.connected
    return found


class _OpenTransactions:
    """The open transactions that the position in the log lists, each with the moment at which it was first seen."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def seconds(self, open: Iterable[int], now: float) -> float:
        """Return the seconds since the oldest of the open transactions was first seen, or 0."""
        self._since = {xid: self._since.get(xid, now) for xid in open}
        return max((now - since for since in self._since.values()), default=0)


def _log_gauges(app: Apex, transactions: _OpenTransactions) -> Values:
    """Return the present state of the log, if the app has one and follows it."""
    log: Any = app.log
    if log is None or (read_at := log.stats.read_at) is None:
        return {}
    stats, now = log.stats, time.monotonic()
    seen = log.watermark.upper
    webhooks = {} if stats.webhooks is None else {"webhooks_waiting": stats.webhooks.waiting}
    return {
        **webhooks,
        "log_position": stats.last_id,
        "log_lag_seconds": now - read_at,
        "log_behind": stats.behind,
        "log_kept_entries": stats.kept_entries,
        "log_kept_bytes": stats.kept_bytes,
        "log_oldest_transaction_seconds": transactions.seconds(() if seen is None else seen.xip, now),
        "events_waiting": stats.waiting,
    }


def _totals(app: Apex) -> Values:
    """Return the counts since the start."""
    executor: Any = getattr(app.get("database"), "executor", None)
    found: dict[str, float] = {"events_published": app.events.published, "callbacks_failed": app.callbacks.failed}
    if (rates := app.get("rates")) is not None:
        found["rate_limits_refused"] = rates.refused
    if (pipeline := getattr(executor, "pipeline", None)) is not None:
        found |= {f"lanes_{name}": number for name, number in asdict(pipeline.counts).items()}
        stats = executor.pool.get_stats()
        found |= {f"pool_{name}": stats.get(name, 0) for name in ("requests_num", "requests_queued", "requests_errors")}
        found["pool_connections_lost"] = stats.get("connections_lost", 0)
    if (stats := app.bus.stats) is not None:
        found |= {f"bus_{name}": getattr(stats, name) for name in ("sent", "received", "dropped", "refused")}
    log: Any = app.log
    if log is not None:
        found |= {f"log_{name}": getattr(log.stats, name) for name in LOG_TOTALS}
        if (webhooks := log.stats.webhooks) is not None:
            found |= {f"webhooks_{name}": getattr(webhooks, name) for name in WEBHOOK_TOTALS}
    return found


def environment_of_workers(app: Apex, folder: str) -> dict[str, str]:
    """Return the environment of workers that share their metrics in a folder.

    The library reads the variable when it is imported.
    """
    return {**os.environ, SHARED: folder} if app.get("metrics") else dict(os.environ)


def forget_process(folder: str, pid: int) -> None:
    """Remove the state of a process that has ended. Its counts stay."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
