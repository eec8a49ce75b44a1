"""Functions that give the values of callers the types of columns.

Each takes a JSON value, or the text of a URL, and returns the typed value. It raises ValueError with a sentence that
states the rule, such as "must be a string".
"""

from __future__ import annotations

import math
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import wraps
from inspect import unwrap
from typing import Any
from uuid import UUID

__all__ = [
    "Coerce", "anything", "binary", "boolean", "clock", "day", "decimal", "integer", "json", "nullable",
    "number", "optional", "scalar", "seconds", "small_integer", "text", "timestamp", "uuid",
]  # fmt: skip

Coerce = Callable[[Any], Any]

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
LONGEST = timedelta(days=700_000)
"""The longest span of time that every database can store."""

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def integer(value: Any) -> int:
    """Return a whole number of 64 bits."""
    return whole(value, 64)


def whole(value: Any, bits: int) -> int:
    """Return a whole number of this number of bits."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is int and -(1 << bits - 1) <= value < 1 << bits - 1:
        return value
    raise ValueError(f"must be an integer of at most {bits} bits")


def small_integer(value: Any) -> int:
    """Return a whole number of 32 bits."""
    return whole(value, 32)


def number(value: Any) -> int | float:
    """Return a finite number."""
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value) else math.nan
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return value
    except OverflowError:  # an integer beyond all floats
        pass
    raise ValueError("must be a finite number")


def decimal(value: Any) -> Decimal:
    """Return a finite decimal number. A float becomes the number that is written for it."""
    try:
        written = str(value) if type(value) in (str, int, float, Decimal) else ""
    except ValueError:  # an integer too long to be written
        written = ""
    if not _NUMBER.fullmatch(written):
        raise ValueError("must be a decimal number")
    return Decimal(written)


def text(value: Any) -> str:
    """Return a string. PostgreSQL cannot store NUL characters, and UTF-8 cannot write halves of characters."""
    if not isinstance(value, str):
        raise ValueError("must be a string")
    if _UNSTORABLE.search(value):
        raise ValueError("must not contain NUL characters or lone surrogates")
    return value


def boolean(value: Any) -> bool:
    """Return a bool, also for the strings ``true``, ``false``, ``1`` and ``0``."""
    if isinstance(value, str):
        value = _BOOLEANS.get(value)
    if isinstance(value, bool):
        return value
    raise ValueError("must be true or false")


def timestamp(value: Any) -> datetime:
    """Return a moment from ISO 8601, in UTC and cut to milliseconds. One without a time zone is in UTC."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    except (ValueError, AttributeError, TypeError, OverflowError):
        raise ValueError("must be a date and time such as 2023-01-01T00:00:00.000Z") from None


def day(value: Any) -> date:
    """Return a calendar day from ISO 8601."""
    try:
        return value if type(value) is date else date.fromisoformat(value)
    except (ValueError, TypeError):
        raise ValueError("must be a date such as 2023-01-31") from None


def clock(value: Any) -> time:
    """Return a time of day from ISO 8601, without a time zone."""
    try:
        moment = value if isinstance(value, time) else time.fromisoformat(value)
        if moment.tzinfo is None:
            return moment.replace(fold=0)
    except (ValueError, TypeError):
        pass
    raise ValueError("must be a time such as 14:30:00, without a zone")


def seconds(value: Any) -> timedelta:
    """Return a span of time from its seconds, to the microsecond."""
    try:
        span = value if isinstance(value, timedelta) else timedelta(seconds=float(number(value)))
        if abs(span) <= LONGEST:
            return span
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"must be a number of seconds, at most {LONGEST.total_seconds():.0f}")


def binary(value: Any) -> bytes:
    """Return bytes from base64 (RFC 4648, section 4)."""
    try:
        return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b64decode(value, validate=True)
    except (ValueError, TypeError):
        raise ValueError("must be a text in base64") from None


def uuid(value: Any) -> UUID:
    """Return a UUID."""
    try:
        return value if isinstance(value, UUID) else UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise ValueError("must be a UUID") from None


def anything(value: Any) -> Any:
    """Return the value as it is."""
    return value


def json(value: Any) -> Any:
    """Return a JSON value whose texts can be stored. A query can select such a field, but not compare or sort it."""
    for inner in value.items() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        json(list(inner) if isinstance(inner, tuple) else inner)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError("must not hold integers of more than 64 bits")
    return text(value) if isinstance(value, str) else value


def scalar(value: Any) -> Any:
    """Return a string, a finite number, a boolean or null, as the keys of JSON fields are compared with."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str | int | float):
        return text(value) if isinstance(value, str) else number(value)
    raise ValueError("must be a string, a number, a boolean or null")


def optional(coerce: Coerce) -> Coerce:
    """Return a function that takes None as well."""

    @wraps(coerce)
    def optional(value: Any) -> Any:
        return None if value is None else coerce(value)

    return optional


def nullable(coerce: Coerce) -> Coerce:
    """Return a function that also reads null: None, and the texts ``null`` and ``""`` of a URL.

    Use ``optional`` for a text, which may be empty.
    """

    @wraps(coerce)
    def nullable(value: Any) -> Any:
        return None if value is None or value in ("", "null") else coerce(value)

    return nullable


def taking_null(coerce: Coerce) -> Coerce:
    """Return a function that takes null as well. A function of another module is returned as it is."""
    if coerce is text:
        return optional(coerce)
    return nullable(coerce) if coerce in SHAPES else coerce


def shape(coerce: Coerce) -> dict[str, Any] | None:
    """Return the JSON Schema of the values of a function of this module, or None for another function."""
    found = SHAPES.get(unwrap(coerce))
    return None if found is None else dict(found)


_HOLDS = "__holds__"


def opaque(coerce: Coerce, holds: str) -> Coerce:
    """Return the function, marked for fields that can be selected, but neither used in a query nor sorted by."""

    @wraps(coerce)
    def opaque(value: Any) -> Any:
        return coerce(value)

    setattr(opaque, _HOLDS, holds)
    return opaque


def held(coerce: Coerce) -> str | None:
    """Return the kind of value, such as JSON, if a field can neither be used in a query nor sorted by, else None."""
    found: str | None = "JSON" if coerce is json else getattr(coerce, _HOLDS, None)
    return found


SHAPES: Mapping[Coerce, Mapping[str, Any]] = {
    text: {"type": "string"},
    boolean: {"type": "boolean"},
    integer: {"type": "integer"},
    small_integer: {"type": "integer"},
    number: {"type": "number"},
    decimal: {"type": "string", "format": "decimal"},
    timestamp: {"type": "string", "format": "date-time"},
    day: {"type": "string", "format": "date"},
    clock: {"type": "string", "format": "time"},
    seconds: {"type": "number"},
    binary: {"type": "string", "contentEncoding": "base64"},
    uuid: {"type": "string", "format": "uuid"},
}
"""The JSON Schemas of the values that these functions return."""
