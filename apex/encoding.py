"""JSON: values to bytes and back, and JSON that a database has written."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence, Set, ValuesView
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import orjson

__all__ = ["RawJSON", "Stream", "decode", "decode_exactly", "decode_storable", "encode", "timestamp"]

_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME

MOST_DEEP = 250


class RawJSON:
    """JSON text that a database has written, and that is sent as it is.

    ``load`` gives the decoded values the types that they have in Python.
    """

    __slots__ = ("load", "text")

    def __init__(self, text: bytes, load: Callable[[Any], Any] | None = None) -> None:
        self.text: bytes = text
        self.load: Callable[[Any], Any] | None = load

    @property
    def value(self) -> Any:
        """The decoded value, made anew each time."""
        decoded = orjson.loads(self.text)
        return decoded if self.load is None else self.load(decoded)


class Stream:
    """A result that is made while it is sent, and that is never in memory as a whole. Only REST can send it.

    ::

        return Stream(lines(), "text/csv; charset=utf-8")
    """

    __slots__ = ("chunks", "content_type", "first")

    def __init__(self, chunks: AsyncGenerator[bytes, None], content_type: str) -> None:
        self.chunks: AsyncGenerator[bytes, None] = chunks
        self.content_type: str = content_type
        self.first: bytes = b""

    async def start(self) -> None:
        """Make the first chunk. If that fails, the response can still be an error."""
        self.first = await anext(self.chunks, b"")


def encode(value: Any) -> bytes:
    """Return a value as JSON.

    Dates are in UTC, with milliseconds and ``Z``. Decimals are strings, spans of time are seconds, bytes are base64,
    members of an enum are their values, and NaN is null. Keys of dicts that are not strings are written as strings.
    Raises TypeError, which names the place, for a value without a JSON form.
    """
    if isinstance(value, RawJSON):
        return value.text
    try:
        return orjson.dumps(value, _plain, _OPTIONS)
    except TypeError:
        # Rare: an option for keys of other types would make every call slower.
        spelled = _spelled(value, "", 0)
    return orjson.dumps(spelled)


decode: Callable[[bytes | str], Any] = orjson.loads
"""Return the value of a JSON text. Raises ValueError if it is malformed, not UTF-8 or nested too deep."""


def decode_exactly(text: bytes | str) -> Any:
    """Decode as ``decode`` does, but keep integers of more than 64 bits, which would become floats. It is slower."""
    return json.loads(text) if _LONG_NUMBER.search(text if isinstance(text, bytes) else text.encode()) else decode(text)


def decode_storable(text: bytes | str) -> Any:
    """Decode as ``decode_exactly`` does, but raise ValueError for a value that is nested too deep to be sent again."""
    value = decode(text)
    try:
        orjson.dumps([[[[value]]]])
    except TypeError as error:
        raise ValueError(str(error)) from None
    return decode_exactly(text) if _LONG_NUMBER.search(text if isinstance(text, bytes) else text.encode()) else value


def merge(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of both objects with the values of the new one. Keys that are null there are left out."""
    return {key: value for key, value in {**(old or {}), **new}.items() if value is not None or key not in new}


def timestamp(moment: datetime) -> str:
    """Return a moment as ``2023-01-01T00:00:00.000Z``. One without a time zone is in UTC."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, RawJSON):
        return orjson.Fragment(value.text)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return _sorted(value)
    if isinstance(value, Sequence | ValuesView) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    if callable(listed := getattr(value, "tolist", None)) and not isinstance(value, memoryview):
        return listed()  # Numbers and arrays of numpy.
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _sorted(values: Set[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=repr)


def _spelled(value: Any, place: str, depth: int) -> Any:
    """Return a value with the keys of its dicts as texts. Raises TypeError, with the place, if it has no JSON form."""
    if depth > MOST_DEEP:
        raise TypeError(f"The value is nested deeper than {MOST_DEEP} levels at {place[:200]}")
    if is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name) for each in fields(value) if not each.name.startswith("_")}
    if isinstance(value, Mapping):
        spelled = {_key(key, place): _spelled(inner, f"{place}.{key}", depth + 1) for key, inner in value.items()}
        if len(spelled) != len(value):
            raise TypeError(f"Two keys of {place or 'the value'} are the same text in JSON")
        return spelled
    if isinstance(value, list | tuple):
        return [_spelled(inner, f"{place}[{index}]", depth + 1) for index, inner in enumerate(value)]
    return orjson.Fragment(_written(value, place or "the value"))


def _key(key: Any, place: str) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    written = _written(key, f"a key of {place or 'the value'}").decode()
    if written[0] in "[{":
        raise TypeError(f"A key of {place or 'the value'} is a {type(key).__name__}, which no key of JSON can be")
    return str(orjson.loads(written)) if written[0] == '"' else written


def _written(value: Any, place: str) -> bytes:
    try:
        return orjson.dumps(value, _plain, _OPTIONS)
    except TypeError as error:
        reason = error.__cause__ or error
        raise TypeError(f"{reason} ({place.removeprefix('.')})") from None


class JSON:
    """The JSON of apex with the functions of the standard library's module, as python-socketio expects it."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        """Return a value as JSON text. Raises TypeError for a value without a JSON form."""
        return encode(value).decode()

    @staticmethod
    def loads(text: str) -> Any:
        """Return the value of a JSON text. Raises ValueError if it is malformed."""
        return decode_exactly(text)
