"""Cursors: texts for places in a list. A caller gets them with a page and sends one back for the next page.

A place has the values that the last row of a page is sorted by, with its id. The rows after it are found by comparison
and not by counting. So a late page costs as much as the first one, and new or removed rows in between do not matter.
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
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import UUID

from apex.encoding import decode, encode
from apex.query.across import Related
from apex.query.language import Compare, Junction, Predicate, Query, Search, every, invalid
from apex.types import Row

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

Order = tuple[tuple[str, int], ...]
MAX_SORTED = 32
"""The most fields of an order that cursors follow."""

Lock = Literal[True, False, "share", "key", "remove"]
"""The lock with which rows are read: to be changed (True), to stay unchanged (``"share"``), to be referred to
(``"key"``), or to be removed (``"remove"``), which waits until no other call is about to refer to them."""

Place = tuple[Any, ...]
"""A value for each field of an order. The empty place is the beginning of a list, or its end."""


class Selection(NamedTuple):
    """The rows and fields that an adapter reads.

    ``where`` is the condition of the query together with the scope, and ``limit`` is the final limit. ``lock`` is a
    ``Lock``. With ``json`` the rows go to a caller, and the adapter may return them as JSON. ``lookups``
    are the fields of related records in the order.
    """

    where: Predicate
    query: Query
    fields: tuple[str, ...] | None = None
    limit: int | None = None
    lock: Lock = False
    json: bool = False
    lookups: Mapping[str, Any] = MappingProxyType({})

    @property
    def ranked(self) -> Search | None:
        """The search whose best matches come first. None, if the query has another order."""
        return None if self.query.sort else self.query.search

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
            if field in self.query.paths or field in self.query.across:
                raise invalid(name, f"does not go with an order by {field}: use $skip")
        return order


class Cursors:
    """The encryption of places as cursors, for the service at a path.

    Cursors are encrypted, as a list may be sorted by fields that the caller did not select, or that a hook removes. The
    key is derived from a secret, so that all processes with that secret can read them. Without a secret only this
    process can. The order and the condition of the list are authenticated with the cursor.
    """

    def __init__(self, secret: str | None = None, path: str = "") -> None:
        root = secret.encode() if secret else secrets.token_bytes(32)
        self._key = hmac.digest(root, f"apex cursors: {path}".encode(), "sha512")

    @cached_property
    def _cipher(self) -> AESSIV:
        """AES-SIV (RFC 5297), which needs no nonce. Loading it takes 30 ms and 9 MiB, unless PyJWT has done so."""
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        return AESSIV(self._key)

    def walk(self, name: str, cursor: str, order: Order, where: Predicate) -> Walk:
        """Return the walk ``$after`` or ``$before`` a cursor. Raises BadRequest for a cursor of another list."""
        try:
            place = self.decrypt(cursor, order, where) if cursor else ()
        except ValueError:
            rule = "is no cursor of this list: use it with the query that it came from, or leave it empty to begin anew"
            raise invalid(name, rule) from None
        return Walk(self, name, place, order, where)

    def encrypt(self, place: Place, order: Order, where: Predicate) -> str:
        """Return the cursor of a place. Raises TypeError for a value that a cursor cannot hold, such as a list."""
        text = encode([_plain(value) for value in place])
        return _as_text(self._cipher.encrypt(text, [_about(order, where)]))

    def decrypt(self, cursor: str, order: Order, where: Predicate) -> Place:
        """Return the place of a cursor. Raises ValueError for a forged cursor, or one of another list."""
        from cryptography.exceptions import InvalidTag

        encrypted = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        # Base64 has several texts for the same bytes: one alone is the cursor.
        if _as_text(encrypted) != cursor:
            raise ValueError("not a cursor")
        try:
            text = self._cipher.decrypt(encrypted, [_about(order, where)])
        except InvalidTag:
            raise ValueError("not a cursor of this list") from None
        return tuple(_typed(value) for value in decode(text))


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk through a list, ``$after`` a place towards its end, or ``$before`` a place towards its beginning."""

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
        """True for ``$before``."""
        return self.name == "$before"

    @property
    def where(self) -> Predicate:
        """The condition of the rows on the way."""
        return every(beyond(self.direction, self.place), self.all) if self.place else self.all

    def page(self, found: list[Row], limit: int) -> tuple[list[Row], dict[str, str | None]]:
        """Return the rows of a page and the cursors of both ends. ``found`` may have one row more than the limit."""
        more, behind = len(found) > limit, bool(self.place)
        rows = found[:limit]
        if self.backwards:
            rows.reverse()
            more, behind = behind, more
        first, last = (rows[0], rows[-1]) if rows else (None, None)
        return rows, {"next": self._cursor(last) if more else None, "previous": self._cursor(first) if behind else None}

    def _cursor(self, row: Row | None) -> str:
        """Return the cursor of a row. That of an empty page is the end of the list."""
        place = () if row is None else tuple(row.get(field) for field, _ in self.order)
        try:
            return self.cursors.encrypt(place, self.order, self.all)
        except TypeError as error:
            raise invalid(self.name, f"does not go with this order: {error}. Use $skip") from None


def beyond(order: Order, place: Place) -> Predicate:
    """Return the condition for the rows after a place.

    The first comparison of each field lets an index find where the rows begin. The second one says which rows they are.
    """
    (name, direction), value = order[0], place[0]
    after, at_least = ("$above", "$from") if direction > 0 else ("$below", "$upto")
    first = Compare(name, after, value)
    if len(order) == 1:
        return first
    return every(Compare(name, at_least, value), Junction("or", (first, beyond(order[1:], place[1:]))))


def _about(order: Order, where: Predicate) -> bytes:
    return sha256(repr((order, _canonical(where))).encode()).digest()


def _as_text(encrypted: bytes) -> str:
    return urlsafe_b64encode(encrypted).decode().rstrip("=")


def _canonical(where: Predicate) -> str:
    """Return a text that is the same for predicates with the same parts in another order."""
    if isinstance(where, Related):
        inner = f"{_canonical(where.where)}, {_canonical(where.links)}, {where.none}"
        return f"{where.relation.name}({inner})"
    if not isinstance(where, Junction):
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
"""The types without a JSON form. They are written as a list of a letter and a text."""

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
