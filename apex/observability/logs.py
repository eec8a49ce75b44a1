"""Logs: one line for each call from outside and for whatever else is said, by one way out, without secrets.

JSON in production, for machines, and readable elsewhere. All go to stderr: the app's lines, those of
``logging.getLogger("apex")`` and those of the server.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

import orjson

from apex.app import Apex
from apex.lazy import sparing
from apex.observability.observations import ENDED, Observation, current
from apex.observability.redaction import hide, request_id_of, secrets_of

with sparing(hidden=("rich",)):  # It would be used for tracebacks, which are plain here.
    import structlog
    from structlog.dev import ConsoleRenderer, plain_traceback
    from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

Event = MutableMapping[str, Any]

_stamp = structlog.processors.TimeStamper("iso", utc=True)


def logs(app: Apex) -> None:
    """Sends what this process has to say to stderr, and a line for each call from outside: for who serves an app.

    Reads ``logs`` from the app's settings: ``level``, below which nothing is said (``info`` in development and
    production, else ``warning``), and ``format`` (``json``, in production, or ``text``). Calls are told at ``info``,
    those that failed within the server at ``error``.
    """
    settings, env = app.get("logs") or {}, app.get("env")
    level = settings.get("level") or ("info" if env in ("development", "production") else "warning")
    is_json = (settings.get("format") or ("json" if env == "production" else "text")) == "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(is_json))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    if level in ("debug", "info"):
        app.on(ENDED, Calls(is_json))


class Calls:
    """Writes a line for each call: by structlog's way out and in its form, but past its loggers and those of
    ``logging``, which take longer than all else here.
    """

    def __init__(self, is_json: bool) -> None:
        self.stamp: Callable[[Any, str, Event], Event] = _moment if is_json else _stamp
        self.finish: Callable[[Any, str, Event], bytes] = _bytes if is_json else _console()
        self.write = structlog.BytesLogger(sys.stderr.buffer).msg

    def __call__(self, seen: Observation) -> None:
        self.write(self.finish(None, "", self.stamp(None, "", described(seen))))


def described(seen: Observation) -> Event:
    """What a line says of a call, by name; what is not known is left out. All are the app's own names and numbers, and
    redacted where they are not: an id is that of a caller who was let in, a request id may be anybody's.
    """
    status, user, tenants, error = seen.status, seen.user, seen.tenants, seen.error
    told: Event = {"level": "error" if status >= 500 else "info"}
    if request_id := request_id_of(seen):
        told["request_id"] = request_id
    told["provider"] = seen.provider
    told["service"] = seen.path
    told["method"] = seen.method
    told["status"] = status
    told["ms"] = round(seen.seconds * 1000, 2)
    if user is not None:
        told["user"] = user if isinstance(user, int) else hide("", user)
    if tenants:
        within = tenants[0] if len(tenants) == 1 else tenants
        told[seen.app.get("tenant")] = within if isinstance(within, int) else hide("", within)
    if error is not None:
        told["error"] = type(error).__name__
        if (hook := seen.hook) is not None:
            told["hook"] = hook
    told["event"] = "call"
    return told


def redact(_: Any, __: str, event: Event) -> Event:
    """A step of structlog: what has the name of a secret, looks like one, or is one of the call that is at work."""
    given = secrets_of(current())
    return {name: value if name.startswith("_") else hide(name, value, given) for name, value in event.items()}


def _formatter(is_json: bool) -> logging.Formatter:
    """How lines of ``logging`` look. Tracebacks are text, which is redacted too, and show no values of variables."""
    before: list[Any] = [add_log_level, add_logger_name, ExtraAdder(), _stamp]
    finish = _text if is_json else ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain_traceback)
    without_meta = ProcessorFormatter.remove_processors_meta
    steps: list[Any] = [structlog.processors.format_exc_info, _with_request_id, redact, without_meta, finish]
    return ProcessorFormatter(processors=steps, foreign_pre_chain=before)


def _with_request_id(_: Any, __: str, event: Event) -> Event:
    if (seen := current()) is not None and seen.request_id:
        event["request_id"] = seen.request_id
    return event


def _moment(_: Any, __: str, event: Event) -> Event:
    """The time, which is written with all else: in the form of ``_stamp``."""
    event["timestamp"] = datetime.now(UTC)
    return event


def _console() -> Callable[[Any, str, Event], bytes]:
    render = ConsoleRenderer(colors=sys.stderr.isatty())
    return lambda _, name, event: str(render(_, name, event)).encode(errors="backslashreplace")


def _bytes(_: Any, __: str, event: Event) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_UTC_Z)


def _text(_: Any, __: str, event: Event) -> str:
    return _bytes(_, __, event).decode()
