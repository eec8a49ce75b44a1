"""Logs: one line for each call from outside and for whatever else is said, by one way out, without secrets.

JSON in production, for machines, and readable elsewhere. All go to stderr: the app's lines, those of
``logging.getLogger("apex")`` and those of the server.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from apex.app import Apex
from apex.observe import ENDED, Observation, current
from apex.sparing import sparing

with sparing(hidden=("rich",)):  # It would be used for tracebacks, which are plain here.
    import structlog
    from structlog.dev import ConsoleRenderer, plain_traceback
    from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

HIDDEN = "***"
"""What stands for a secret: that it was there, and not what it was."""

SHORTEST = 6
"""Shorter texts are hidden by their name alone: they may be a part of anything."""

_NAME = re.compile(r"passw|secret|token|credential|authorization|cookie|signature|(api|private).?key", re.IGNORECASE)
_TEXT = re.compile(
    r"eyJ[\w-]+\.[\w-]+(\.[\w-]*)?"  # a JSON Web Token
    r"|\bapex_[0-9a-f]{12}_[\w-]+"  # an API key
    r"|(?<=://)[^/\s@]+(?=@)"  # who logs in, in a URL
    r"|(?<=[Bb]earer )\S+"
    r"|(?<=token=)[^&\s\"']+|(?<=secret=)[^&\s\"']+|(?<=password=)[^&\s\"']+|(?<=key=)[^&\s\"']+"
)

Event = MutableMapping[str, Any]


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
    """Writes a line for each call. It does not go by ``logging``, which takes longer than the call itself may."""

    def __init__(self, is_json: bool) -> None:
        finish: Any = _json if is_json else ConsoleRenderer(colors=sys.stderr.isatty())
        steps = [structlog.processors.TimeStamper("iso", utc=True), redact, finish]
        self.log = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr), processors=steps, cache_logger_on_first_use=True
        )
        self.log = self.log.bind()

    def __call__(self, seen: Observation) -> None:
        told = dict(described(seen))
        say = self.log.error if seen.status >= 500 else self.log.info
        say("call", level="error" if seen.status >= 500 else "info", **told)


def described(seen: Observation) -> Iterator[tuple[str, Any]]:
    """What a line says of a call, by name; what is not known is left out."""
    yield "request_id", seen.request_id
    yield "provider", seen.provider
    yield "service", seen.path
    yield "method", seen.method
    yield "status", seen.status
    yield "ms", round(seen.seconds * 1000, 2)
    if (user := seen.user) is not None:
        yield "user", user
    if tenants := seen.tenants:
        yield str(seen.app.get("tenant")), tenants[0] if len(tenants) == 1 else tenants
    if seen.error is not None:
        yield "error", type(seen.error).__name__
        if (hook := seen.hook) is not None:
            yield "hook", hook


def redact(_: Any, __: str, event: Event) -> Event:
    """A step of structlog: what has the name of a secret, looks like one, or is one of the call that is at work."""
    given = tuple(_secrets(current()))
    return {name: _redacted(name, value, given) for name, value in event.items() if not name.startswith("_")} | {
        name: value for name, value in event.items() if name.startswith("_")
    }


@lru_cache(1_024)
def _is_secret(name: str) -> bool:
    """Headers and fields have few names, and each line looks at a dozen of them."""
    return _NAME.search(name) is not None


def _redacted(name: str, value: Any, given: Sequence[str]) -> Any:
    if _is_secret(name):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: _redacted(str(key), inner, given) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", inner, given) for inner in value]
    if isinstance(value, str):
        for secret in given:
            value = value.replace(secret, HIDDEN)
        return _TEXT.sub(HIDDEN, value)
    return value if isinstance(value, int | float | bool | None) else _redacted("", str(value), given)


def _secrets(seen: Observation | None) -> Iterator[str]:
    """What a call has in its headers, its proof, its data and its query that is nobody else's to know."""
    if seen is not None:
        asked = (seen.params.get("authentication"), seen.params.get("query"), seen.call and seen.call.data)
        for value in (seen.headers, *asked):
            yield from _within("", value)


def _within(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _within(name or (str(key) if _is_secret(str(key)) or key == "key" else ""), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _within(name, inner)
    elif name and isinstance(value, str | bytes):
        text = value if isinstance(value, str) else value.decode("latin-1")
        yield from (part for part in (text, *text.split()) if len(part) >= SHORTEST)


def _formatter(is_json: bool) -> logging.Formatter:
    """How lines of ``logging`` look. Tracebacks are text, which is redacted too, and show no values of variables."""
    before: list[Any] = [
        add_log_level,
        add_logger_name,
        ExtraAdder(),
        structlog.processors.TimeStamper("iso", utc=True),
    ]
    finish = _text if is_json else ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain_traceback)
    without_meta = ProcessorFormatter.remove_processors_meta
    steps: list[Any] = [structlog.processors.format_exc_info, _with_request_id, redact, without_meta, finish]
    return ProcessorFormatter(processors=steps, foreign_pre_chain=before)


def _with_request_id(_: Any, __: str, event: Event) -> Event:
    if (seen := current()) is not None and seen.request_id:
        event["request_id"] = seen.request_id
    return event


def _text(_: Any, __: str, event: Event) -> str:
    return orjson.dumps(event, default=str).decode()


_json = _text
