"""Column types that mean the same on SQLite and PostgreSQL, and what a value must be to fit a column."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
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
from apex.coerce import Coerce
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
        return datetime.fromisoformat(value) if isinstance(value, str) else value


def coercers(table: Table) -> Mapping[str, Coerce]:
    """For each column the function that takes a value of the outside world to the column's type, or refuses it."""
    return {str(column.name): _coercer(column) for column in table.columns if column.computed is None}


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
