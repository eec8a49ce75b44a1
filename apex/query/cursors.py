"""Cursors: places in a list, as texts that a caller gets with a page and brings back for the next one.

A place is what the last row of a page is sorted by, its id included. What comes after it is found by comparison, not by
counting, so that a page far down costs what the first one does and rows that come or go in between change nothing.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property
from hashlib import sha256
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import UUID

from apex.encoding import decode, encode
from apex.query.language import Query, invalid
from apex.query.predicates import Compare, Junction, Predicate, every
from apex.types import Row

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

Order = tuple[tuple[str, int], ...]
MAX_SORTED = 32
"""The most fields of an order that cursors follow."""

Place = tuple[Any, ...]
"""A value for each field of an order. Without any it is where a walk begins, or ends."""


class Selection(NamedTuple):
    """The rows and fields that an adapter reads.

    ``where`` is the condition of the query together with the scope, and ``limit`` is the final limit. With ``lock`` the
    rows are read to be changed, with ``"share"`` to stay unchanged. With ``json`` they go to a caller, and the adapter
    may return them as JSON.
    """

    where: Predicate
    query: Query
    fields: tuple[str, ...] | None = None
    limit: int | None = None
    lock: Literal[True, False, "share"] = False
    json: bool = False

    def order(self, id: str) -> Order:
        """Return fields with directions. The id comes last, so that pages neither repeat nor lose a row."""
        sort = self.query.sort
        last = sort[-1][1] if sort else 1
        return sort if any(name == id for name, _ in sort) else (*sort, (id, last))

    def cursor_order(self, id: str, name: str) -> Order:
        """Return the order that a cursor follows, up to the id.

        ``name`` is ``$after`` or ``$before``. Raises BadRequest for an order that cursors cannot follow.
        """
        order = self.order(id)
        order = order[: [field for field, _ in order].index(id) + 1]
        if len(order) > MAX_SORTED:
            raise invalid("$sort", f"must have at most {MAX_SORTED} fields beside {name}")
        for field, _ in order:
            if field in self.query.paths:
                raise invalid(name, f"does not go with an order by {field}: use $skip")
        return order


class Cursors:
    """Makes cursors of places, and places of cursors, for the service at a path.

    They are encrypted, as a list may be sorted by what the caller did not select or what an after hook takes out. The
    key is made of a secret, so that processes that share it understand each other; without one cursors are good in this
    process alone. What a cursor is about (an order and what is asked for) is authenticated with it.
    """

    def __init__(self, secret: str | None = None, path: str = "") -> None:
        root = secret.encode() if secret else secrets.token_bytes(32)
        self._key = hmac.digest(root, f"apex cursors: {path}".encode(), "sha512")

    @cached_property
    def _cipher(self) -> AESSIV:
        """AES-SIV (RFC 5297), which needs no nonce. It takes 30 ms and 9 MiB to load, where PyJWT has not done so."""
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        return AESSIV(self._key)

    def walk(self, name: str, cursor: str, order: Order, where: Predicate) -> Walk:
        """The walk ``$after`` or ``$before`` a cursor. Raises BadRequest for one that is not of this list."""
        try:
            place = self.open(cursor, order, where) if cursor else ()
        except ValueError:
            rule = "is no cursor of this list: use it with the query that it came from, or leave it empty to begin anew"
            raise invalid(name, rule) from None
        return Walk(self, name, place, order, where)

    def seal(self, place: Place, order: Order, where: Predicate) -> str:
        """Raises TypeError for a value that has no form here, such as an object or a list."""
        text = encode([_plain(value) for value in place])
        return _written(self._cipher.encrypt(text, [_about(order, where)]))

    def open(self, cursor: str, order: Order, where: Predicate) -> Place:
        """Raises ValueError for what was not sealed here, or for another order or predicate."""
        from cryptography.exceptions import InvalidTag

        sealed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        # Base64 has several texts for the same bytes: one alone is the cursor.
        if _written(sealed) != cursor:
            raise ValueError("not a cursor")
        try:
            text = self._cipher.decrypt(sealed, [_about(order, where)])
        except InvalidTag:
            raise ValueError("not a cursor of this list") from None
        return tuple(_typed(value) for value in decode(text))


@dataclass(frozen=True, slots=True)
class Walk:
    """A way through a list, ``$after`` a place towards its end or ``$before`` one towards its beginning."""

    cursors: Cursors
    name: str
    place: Place
    order: Order
    all: Predicate

    @property
    def direction(self) -> Order:
        """The order in which the rows are read: away from the place."""
        return tuple((field, -way) for field, way in self.order) if self.backwards else self.order

    @property
    def backwards(self) -> bool:
        return self.name == "$before"

    @property
    def where(self) -> Predicate:
        return every(beyond(self.direction, self.place), self.all) if self.place else self.all

    def page(self, found: list[Row], limit: int) -> tuple[list[Row], dict[str, str | None]]:
        """The rows of the page, of which one more than its limit was looked for, and the cursors of both ends."""
        more, behind = len(found) > limit, bool(self.place)
        rows = found[:limit]
        if self.backwards:
            rows.reverse()
            more, behind = behind, more
        first, last = (rows[0], rows[-1]) if rows else (None, None)
        return rows, {"next": self._cursor(last) if more else None, "previous": self._cursor(first) if behind else None}

    def _cursor(self, row: Row | None) -> str:
        """Of an empty page: the end of the list, which is where it lies."""
        place = () if row is None else tuple(row.get(field) for field, _ in self.order)
        try:
            return self.cursors.seal(place, self.order, self.all)
        except TypeError as error:
            raise invalid(self.name, f"does not go with this order: {error}. Use $skip") from None


def beyond(order: Order, place: Place) -> Predicate:
    """That a row comes after a place. Each field first says where in an index the rows begin, then which they are."""
    (name, direction), value = order[0], place[0]
    after, at_least = ("$above", "$from") if direction > 0 else ("$below", "$upto")
    first = Compare(name, after, value)
    if len(order) == 1:
        return first
    return every(Compare(name, at_least, value), Junction("or", (first, beyond(order[1:], place[1:]))))


def _about(order: Order, where: Predicate) -> bytes:
    return sha256(repr((order, _canonical(where))).encode()).digest()


def _written(sealed: bytes) -> str:
    return urlsafe_b64encode(sealed).decode().rstrip("=")


def _canonical(where: Predicate) -> str:
    """The same for predicates that differ in the order of their parts alone."""
    if isinstance(where, Compare):
        return repr(where)
    return f"{where.kind}({', '.join(sorted(map(_canonical, where.parts)))})"


_UNIT = timedelta(microseconds=1)
_KINDS: Mapping[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    datetime: ("t", datetime.isoformat, datetime.fromisoformat),
    date: ("d", date.isoformat, date.fromisoformat),
    time: ("h", time.isoformat, time.fromisoformat),
    Decimal: ("n", str, Decimal),
    UUID: ("u", str, UUID),
    timedelta: ("s", lambda span: str(span // _UNIT), lambda text: int(text) * _UNIT),
    bytes: ("b", bytes.hex, bytes.fromhex),
}
"""What JSON has no form for: in a list of two, with a letter."""

_READERS = {letter: read for letter, _, read in _KINDS.values()}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        value = value.value
    kind = _KINDS.get(type(value))
    if kind is not None:
        return [kind[0], kind[1](value)]
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and isfinite(value)):
        return value
    raise TypeError(f"{type(value).__name__} has no place in a cursor")


def _typed(value: Sequence[str] | Any) -> Any:
    return _READERS[value[0]](value[1]) if isinstance(value, list) else value
