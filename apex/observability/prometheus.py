"""The metrics in the form of the Prometheus library, which is imported only if an app has metrics."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

GAUGES = {
    "workers": "Processes that serve.",
    "calls_in_flight": "Running calls from outside.",
    "sockets_open": "Open Socket.IO connections.",
    "lanes": "Connections in pipeline mode that the app should have.",
    "lanes_connected": "Open connections in pipeline mode.",
    "lanes_in_flight": "Groups of statements in flight in the pipeline.",
    "pool_size": "Connections of the pool.",
    "pool_available": "Unused connections of the pool.",
    "pool_max": "Connections that the pool may have.",
    "pool_waiting": "Calls waiting for a connection of the pool.",
    "bus_connected": "Processes connected to the others through Redis.",
    "log_position": "Id of the last entry of the log that a process has handled.",
    "log_lag_seconds": "Seconds since a process has read the log to its end.",
    "log_behind": "Entries in the last read of the log if more follow, else 0.",
    "log_kept_entries": "Recent entries of the log in memory.",
    "log_kept_bytes": "Bytes of the recent entries of the log in memory.",
    "log_oldest_transaction_seconds": "Seconds for which the oldest transaction is open that positions list.",
    "events_waiting": "Calls that wait for an event of the log.",
    "webhooks_waiting": "Messages to webhooks that wait for another attempt.",
}
LARGEST = ("log_position", "log_lag_seconds", "log_oldest_transaction_seconds", "webhooks_waiting")
"""The gauges of which several workers show the largest value, and not the sum."""
TOTALS = {
    "events_published": "Events published in this process.",
    "callbacks_failed": "Listeners, publishers and after-response functions that raised an exception.",
    "rate_limits_refused": "Requests refused by a rate limit.",
    "lanes_groups": "Groups of statements answered in the pipeline.",
    "lanes_errors": "Groups of statements that failed.",
    "lanes_reconnects": "Connections in pipeline mode opened again.",
    "lanes_set_apart": "Slow statements moved to the pool for a while.",
    "pool_requests_num": "Requests for a connection of the pool.",
    "pool_requests_queued": "Requests for a connection of the pool that had to wait.",
    "pool_requests_errors": "Requests for a connection of the pool that failed.",
    "pool_connections_lost": "Lost connections of the pool.",
    "bus_sent": "Messages sent to other processes.",
    "bus_received": "Messages received from other processes.",
    "bus_dropped": "Messages lost while Redis was unavailable.",
    "bus_refused": "Messages from Redis with a wrong signature, or received twice.",
    "log_written": "Entries of the log that were written.",
    "log_handled": "Entries of the log that were handled, those of other processes too.",
    "log_pruned": "Entries of the log that were deleted, as too old or too many.",
    "log_replays": "Clients that came back and got everything that they had missed.",
    "log_refused_replays": "Clients that came back and had to read again.",
    "webhooks_delivered": "Messages that webhooks have accepted.",
    "webhooks_failed": "Attempts to send a message to a webhook that failed.",
    "webhooks_disabled": "Webhooks that were disabled since they failed for too long.",
}

# The library makes them for one process but not for several.
disable_created_metrics()  # type: ignore[no-untyped-call]


class _Durations(Histogram):
    """A histogram that adds many observations at once."""

    def add(self, counted: Sequence[float]) -> None:
        """Add the sum of observations, then the number of observations in each bucket."""
        self._sum.inc(counted[0])
        for bucket, number in zip(self._buckets, counted[1:], strict=True):
            if number:
                bucket.inc(number)


class Registry:
    """The metrics of a process, or of all workers if ``PROMETHEUS_MULTIPROC_DIR`` names their folder."""

    content_type: str = CONTENT_TYPE_LATEST

    def __init__(self, buckets: Sequence[float]) -> None:
        self.own: CollectorRegistry = CollectorRegistry()
        own = self.own
        labels = ("service", "method", "status")
        self.calls: _Durations = _Durations(
            "apex_call_seconds", "Calls from outside.", labels, buckets=buckets, registry=own
        )
        self.errors: Counter = Counter("apex_errors", "Failed calls, by class of error.", ("error",), registry=own)
        self.gauges: dict[str, Gauge] = {}
        self.totals: dict[str, Counter] = {}
        self._reported: dict[str, float] = {}
        self.registry: CollectorRegistry = own
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            self.registry = CollectorRegistry()
            MultiProcessCollector(self.registry)  # type: ignore[no-untyped-call]

    def add_calls(self, calls: Mapping[tuple[str, str, int], Sequence[float]]) -> None:
        """Add the durations of calls, by service, method and status."""
        for (service, method, status), counted in calls.items():
            self.calls.labels(service, method, str(status)).add(counted)

    def add_errors(self, errors: Mapping[str, int]) -> None:
        """Add the numbers of failed calls, by class of error."""
        for name, number in errors.items():
            self.errors.labels(name).inc(number)

    def update(self, gauges: Mapping[str, float], totals: Mapping[str, float]) -> None:
        """Set the gauges and the totals since the start. A total that has become smaller was counted from 0 again.

        A metric exists once it has a value. On SQLite, for example, the metrics of the pipeline never do.
        """
        for name, value in gauges.items():
            if name not in self.gauges:
                mode: Literal["livemax", "livesum"] = "livemax" if name in LARGEST else "livesum"
                self.gauges[name] = Gauge(f"apex_{name}", GAUGES[name], registry=self.own, multiprocess_mode=mode)
            self.gauges[name].set(value)
        for name, value in totals.items():
            if name not in self.totals:
                self.totals[name] = Counter(f"apex_{name}", TOTALS[name], registry=self.own)
            before = self._reported.get(name, 0)
            self._reported[name] = value
            self.totals[name].inc(value - before if value >= before else value)

    def text(self) -> bytes:
        """Return the metrics in the text format of Prometheus."""
        return generate_latest(self.registry)
