"""Column types that mean the same on SQLite and PostgreSQL, and what a value must be to fit a column."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    Integer,
    Numeric,
    String,
    Table,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.types import TypeDecorator, TypeEngine

import apex.coerce as coerce
from apex.coerce import Coerce, decimal
from apex.encoding import timestamp

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""Any JSON value: JSONB on PostgreSQL, text on SQLite."""


class Timestamp(TypeDecorator[datetime]):
    """A moment in UTC to the millisecond. On SQLite its text is the one that goes over the wire, so it sorts."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True, precision=3))
        return dialect.type_descriptor(String(24))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else timestamp(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or isinstance(value, datetime):
            return value
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)  # SQLite's own CURRENT_TIMESTAMP


class Fixed(TypeDecorator[Decimal]):
    """A decimal number of at most 16 digits before the point and ``places`` after it, half a unit rounded up.

    On SQLite it is stored as an integer of its smallest units, so that it sorts, compares and adds up exactly.
    ``trimmed`` leaves out zeros at the end (``2`` instead of ``2.0000``); ``as_float`` gives floats.
    """

    impl = Numeric
    cache_ok = True

    def __init__(self, places: int, *, trimmed: bool = False, as_float: bool = False) -> None:
        super().__init__()
        self.places, self.trimmed, self.as_float = places, trimmed, as_float
        self.unit = Decimal(1).scaleb(-places)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Numeric(16 + self.places, self.places))
        return dialect.type_descriptor(BigInteger())

    def coerce(self, value: Any) -> Decimal:
        """Raises ValueError for what is no decimal number or has too many digits."""
        number = decimal(value)
        if abs(number) >= 10**16:
            raise ValueError("must have at most 16 digits before the decimal point")
        return number.quantize(self.unit, ROUND_HALF_UP)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return int(self.coerce(value).scaleb(self.places))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        number = value if dialect.name == "postgresql" else Decimal(value).scaleb(-self.places)
        if self.as_float:
            return float(number)
        return _trimmed(number) if self.trimmed else number


def _trimmed(number: Decimal) -> Decimal:
    number = number.normalize()
    return number.quantize(Decimal(1)) if number == number.to_integral() else number


def coercers(table: Table) -> Mapping[str, Coerce]:
    """For each column the function that takes a value of the outside world to the column's type, or refuses it."""
    return {str(column.name): _coercer(column) for column in table.columns}


def _coercer(column: Column[Any]) -> Coerce:
    base = _base_coercer(column.type)
    if not column.nullable:
        return base
    if base is coerce.json:
        return base
    return coerce.optional(base) if isinstance(column.type, String) else coerce.nullable(base)


def _base_coercer(kind: TypeEngine[Any]) -> Coerce:
    if isinstance(kind, String):
        return coerce.text if kind.length is None else _bounded(kind.length)
    if isinstance(kind, Fixed):
        return kind.coerce
    for types, function in _COERCERS:
        if isinstance(kind, types):
            return function
    return coerce.json if isinstance(kind, JSON) else coerce.anything


def _bounded(length: int) -> Coerce:
    def bounded(value: Any) -> str:
        result = coerce.text(value)
        if len(result) > length:
            raise ValueError(f"must have at most {length} characters")
        return result

    return bounded


_COERCERS: tuple[tuple[Any, Coerce], ...] = (
    (Boolean, coerce.boolean),
    (BigInteger, coerce.integer),
    (Integer, coerce.small_integer),
    (Float, coerce.number),
    (Numeric, coerce.decimal),
    ((Timestamp, DateTime), coerce.timestamp),
    (Date, coerce.day),
    (Uuid, coerce.uuid),
)
