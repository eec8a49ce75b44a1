"""Values from the outside, made into the type a column holds.

Each function takes a JSON value or the string a URL carries, and gives the typed value;
it raises ValueError with one sentence that states the rule.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

Coerce = Callable[[Any], Any]

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
_MAX = 2**63 - 1


def integer(value: Any) -> int:
    """A whole number of 64 bits."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is int and -_MAX - 1 <= value <= _MAX:
        return value
    raise ValueError("must be an integer of at most 64 bits")


def number(value: Any) -> int | float:
    """A finite number."""
    if isinstance(value, str):
        value = _float(value)
    if type(value) in (int, float) and math.isfinite(value):
        return value  # type: ignore[no-any-return]
    raise ValueError("must be a finite number")


def decimal(value: Any) -> Decimal:
    """A finite decimal number; floats are read as they are written."""
    try:
        result = Decimal(str(value)) if type(value) in (str, int, float, Decimal) else Decimal("NaN")
    except InvalidOperation:
        result = Decimal("NaN")
    if not result.is_finite():
        raise ValueError("must be a decimal number")
    return result


def text(value: Any) -> str:
    """A string without NUL characters, which PostgreSQL cannot store."""
    if not isinstance(value, str):
        raise ValueError("must be a string")
    if "\0" in value:
        raise ValueError("must not contain NUL characters")
    return value


def boolean(value: Any) -> bool:
    """``true``, ``false``, or the strings ``true false 1 0``."""
    if isinstance(value, str):
        value = _BOOLEANS.get(value)
    if isinstance(value, bool):
        return value
    raise ValueError("must be true or false")


def timestamp(value: Any) -> datetime:
    """A moment in ISO 8601, cut to milliseconds; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    except (ValueError, AttributeError, TypeError, OverflowError):
        raise ValueError("must be a date and time such as 2023-01-01T00:00:00.000Z") from None


def day(value: Any) -> date:
    """A calendar day in ISO 8601."""
    try:
        return value if type(value) is date else date.fromisoformat(value)
    except (ValueError, TypeError):
        raise ValueError("must be a date such as 2023-01-31") from None


def uuid(value: Any) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise ValueError("must be a UUID") from None


def anything(value: Any) -> Any:
    return value


def nullable(coerce: Coerce) -> Coerce:
    """Also takes None; and from a URL, where null cannot be written, the empty string or ``null``."""
    if coerce in (text, anything):
        return lambda value: None if value is None else coerce(value)
    return lambda value: None if value is None or value in ("", "null") else coerce(value)


def _float(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan
