"""The library for Prometheus, as metrics use it: loaded where there are metrics, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

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
    "calls_in_flight": "Calls from outside that are not answered yet.",
    "sockets_open": "Socket.IO connections that are open.",
    "lanes": "Connections in pipeline mode that there should be.",
    "lanes_connected": "Connections in pipeline mode that are open.",
    "lanes_in_flight": "Groups of statements in flight in the pipeline.",
    "pool_size": "Connections of the pool.",
    "pool_available": "Connections of the pool that nobody uses.",
    "pool_max": "Connections that the pool may have.",
    "pool_waiting": "Calls that wait for a connection of the pool.",
    "bus_connected": "Whether the process hears the others through Redis: 1 or 0, of several workers how many.",
}
TOTALS = {
    "events_published": "Events published in this process.",
    "callbacks_failed": "Listeners, publishers and functions after a response that raised an exception.",
    "rate_limits_refused": "Requests refused for the rate limit of their key's organization.",
    "lanes_groups": "Groups of statements answered in the pipeline.",
    "lanes_errors": "Groups of statements that failed.",
    "lanes_reconnects": "Connections in pipeline mode opened again.",
    "lanes_set_apart": "Statements sent to the pool for a while because they are slow.",
    "pool_requests_num": "Connections of the pool that were asked for.",
    "pool_requests_queued": "Those that had to be waited for.",
    "pool_requests_errors": "Those that were not given.",
    "pool_connections_lost": "Connections of the pool that were lost.",
    "bus_sent": "Messages sent to other processes.",
    "bus_received": "Messages received from other processes.",
    "bus_dropped": "Messages lost while Redis was away.",
    "bus_refused": "Messages from Redis that were not signed by this app, or came again.",
}

# They would be there with one process, and not with several.
disable_created_metrics()  # type: ignore[no-untyped-call]


class _Durations(Histogram):
    """A histogram that takes many observations at once."""

    def add(self, counted: Sequence[float]) -> None:
        """``counted`` has the sum, and then a number for each bucket."""
        self._sum.inc(counted[0])
        for bucket, number in zip(self._buckets, counted[1:], strict=True):
            if number:
                bucket.inc(number)


class Exposition:
    """The metrics of a process, or of all workers where ``PROMETHEUS_MULTIPROC_DIR`` names what they share."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, buckets: Sequence[float]) -> None:
        self.own = own = CollectorRegistry()
        labels = ("service", "method", "status")
        self.calls = _Durations("apex_call_seconds", "Calls from outside.", labels, buckets=buckets, registry=own)
        self.errors = Counter("apex_errors", "Calls that failed, by class of error.", ("error",), registry=own)
        self.gauges: dict[str, Gauge] = {}
        self.totals: dict[str, Counter] = {}
        self._known: dict[str, float] = {}
        self.registry = own
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            self.registry = CollectorRegistry()
            MultiProcessCollector(self.registry)  # type: ignore[no-untyped-call]

    def add_calls(self, calls: Mapping[tuple[str, str, int], Sequence[float]]) -> None:
        for (service, method, status), counted in calls.items():
            self.calls.labels(service, method, str(status)).add(counted)

    def add_errors(self, errors: Mapping[str, int]) -> None:
        for name, number in errors.items():
            self.errors.labels(name).inc(number)

    def take(self, gauges: Mapping[str, float], totals: Mapping[str, float]) -> None:
        """How things are, and what there was since the start; a number that has become less began anew.

        What nobody has told of is not there, as the pipeline on SQLite: it would be no number of anything.
        """
        for name, value in gauges.items():
            if name not in self.gauges:
                self.gauges[name] = Gauge(f"apex_{name}", GAUGES[name], registry=self.own, multiprocess_mode="livesum")
            self.gauges[name].set(value)
        for name, value in totals.items():
            if name not in self.totals:
                self.totals[name] = Counter(f"apex_{name}", TOTALS[name], registry=self.own)
            known = self._known.get(name, 0)
            self._known[name] = value
            self.totals[name].inc(value - known if value >= known else value)

    def text(self) -> bytes:
        return generate_latest(self.registry)
