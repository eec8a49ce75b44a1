"""Observability: the logs, metrics, traces and health checks of an app."""

from apex.observability.health import health
from apex.observability.logs import logs
from apex.observability.metrics import metrics
from apex.observability.observations import Observation, time_database
from apex.observability.redaction import hide
from apex.observability.tracing import tracing

__all__ = [
    "Observation",
    "health",
    "hide",
    "logs",
    "metrics",
    "time_database",
    "tracing",
]
