"""Logs on stderr, without secrets: a line for each call from outside, and everything logged with ``logging``.

The format is JSON in production and text elsewhere.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from apex.app import Apex
from apex.observability.observations import ENDED, Observation, current
from apex.observability.redaction import hide, request_id_of, secrets_of

if TYPE_CHECKING:
    from structlog.dev import ConsoleRenderer

Event = MutableMapping[str, Any]


def logs(app: Apex) -> None:
    """Send the logs of this process to stderr, with a line for each call from outside.

    ``apex serve`` calls it. The app's setting ``logs`` has a ``level``, by default ``info`` in development and
    production, else ``warning``, and a ``format``, ``json`` or ``text``, by default ``json`` in production. The level
    of a call is ``info``, or ``error`` if the server failed.
    """
    settings: dict[str, str] = app.get("logs") or {}
    env: str | None = app.get("env")
    level = settings.get("level") or ("info" if env in ("development", "production") else "warning")
    is_json = (settings.get("format") or ("json" if env == "production" else "text")) == "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(is_json))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    if level in ("debug", "info"):
        app.on(ENDED, CallLog(is_json))


class CallLog:
    """A listener that writes a line for each call.

    It formats lines as structlog does but bypasses the loggers, which take longer than everything else here.
    """

    def __init__(self, is_json: bool) -> None:
        self._format: Callable[[Event], bytes] = _json_line if is_json else _text_line()
        self._stream = sys.stderr.buffer

    def __call__(self, observation: Observation) -> None:
        self._stream.write(self._format(_fields(observation)) + b"\n")
        self._stream.flush()


def _fields(observation: Observation) -> Event:
    """Return the fields of a call's line. Unknown fields are absent.

    Fields that a caller can choose are redacted. The others are names and numbers of the app.
    """
    status, user, tenants, error = observation.status, observation.user, observation.tenants, observation.error
    fields: Event = {"level": "error" if status >= 500 else "info"}
    if request_id := request_id_of(observation):
        fields["request_id"] = request_id
    fields["provider"] = observation.provider
    fields["service"] = observation.path
    fields["method"] = observation.method
    fields["status"] = status
    fields["ms"] = round(observation.seconds * 1000, 2)
    if user is not None:
        fields["user"] = user if isinstance(user, int) else hide("", user)
    if tenants:
        within = tenants[0] if len(tenants) == 1 else tenants
        fields[observation.app.get("tenant")] = within if isinstance(within, int) else hide("", within)
    if error is not None:
        fields["error"] = type(error).__name__
        if (hook := observation.hook) is not None:
            fields["hook"] = hook
    fields["event"] = "call"
    return fields


def _json_line(event: Event) -> bytes:
    event["timestamp"] = datetime.now(UTC)
    return _encode(event)


def _text_line() -> Callable[[Event], bytes]:
    render, stamp = _renderer(), _stamp()
    return lambda event: str(render(None, "", stamp(None, "", event))).encode(errors="backslashreplace")


def _formatter(is_json: bool) -> logging.Formatter:
    """Return a formatter for ``logging``. Tracebacks are redacted text and show no values of variables."""
    from structlog.processors import format_exc_info
    from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

    before: list[Any] = [add_log_level, add_logger_name, ExtraAdder(), _stamp()]
    render = _render_json if is_json else _renderer()
    steps: list[Any] = [
        format_exc_info, _add_request_id, _redact, ProcessorFormatter.remove_processors_meta, render,
    ]  # fmt: skip
    return ProcessorFormatter(processors=steps, foreign_pre_chain=before)


def _renderer() -> ConsoleRenderer:
    from structlog.dev import ConsoleRenderer, plain_traceback

    return ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain_traceback)


def _stamp() -> Any:
    from structlog.processors import TimeStamper

    return TimeStamper("iso", utc=True)


def _render_json(logger: Any, name: str, event: Event) -> str:
    return _encode(event).decode()


def _add_request_id(logger: Any, name: str, event: Event) -> Event:
    if (observation := current()) is not None and observation.request_id:
        event["request_id"] = observation.request_id
    return event


def _redact(logger: Any, name: str, event: Event) -> Event:
    """Redact names and forms of secrets, and the secrets that the running call has sent."""
    given = secrets_of(current())
    return {name: value if name.startswith("_") else hide(name, value, given) for name, value in event.items()}


def _encode(event: Event) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_UTC_Z)
