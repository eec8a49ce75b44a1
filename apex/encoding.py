"""The one JSON encoder, and JSON that is already bytes."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import orjson

_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME


class RawJSON:
    """JSON text that a database has built. It goes out untouched; ``value`` decodes it for who wants to look, and
    ``load`` gives what is in it the types that it has in Python.
    """

    __slots__ = ("load", "text")

    def __init__(self, text: bytes, load: Callable[[Any], Any] | None = None) -> None:
        self.text, self.load = text, load

    @property
    def value(self) -> Any:
        decoded = orjson.loads(self.text)
        return decoded if self.load is None else self.load(decoded)


class Stream:
    """A result that is made while it is sent, and never held as a whole. It goes out over REST alone."""

    __slots__ = ("chunks", "content_type", "first")

    def __init__(self, chunks: AsyncGenerator[bytes, None], content_type: str) -> None:
        self.chunks, self.content_type = chunks, content_type
        self.first = b""

    async def start(self) -> None:
        """Makes the first chunk: what fails at once can then still be answered with an error."""
        self.first = await anext(self.chunks, b"")


def encode(value: Any) -> bytes:
    """JSON bytes: dates in UTC with milliseconds and ``Z``, decimals as strings, NaN as null.

    Raises TypeError for a value without a JSON form.
    """
    if isinstance(value, RawJSON):
        return value.text
    return orjson.dumps(value, _plain, _OPTIONS)


def decode(text: bytes | str) -> Any:
    """The value of a JSON text. Raises ValueError when it is malformed, not UTF-8 or nested too deep."""
    return orjson.loads(text)


def decode_exactly(text: bytes | str) -> Any:
    """Like ``decode``, with integers of more than 64 bits as they are; they would be floats. Slower."""
    return json.loads(text) if _LONG_NUMBER.search(text if isinstance(text, bytes) else text.encode()) else decode(text)


def decode_storable(text: bytes | str) -> Any:
    """Like ``decode_exactly``, for what comes from outside: what is nested deeper than what can go out would be stored
    and never be read again.
    """
    value = decode(text)
    try:
        encode([[[[value]]]])
    except TypeError as error:
        raise ValueError(str(error)) from None
    return decode_exactly(text) if _LONG_NUMBER.search(text if isinstance(text, bytes) else text.encode()) else value


def merge(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of both objects, the new ones winning; those that are null in the new one are gone."""
    return {key: value for key, value in {**(old or {}), **new}.items() if value is not None or key not in new}


def timestamp(moment: datetime) -> str:
    """``2023-01-01T00:00:00.000Z``; a moment without a zone is taken as UTC."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, RawJSON):
        return orjson.Fragment(value.text)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
