"""Column types that mean the same on SQLite and PostgreSQL, beside those of SQLAlchemy."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Numeric, String
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.types import TypeDecorator, TypeEngine

from apex.encoding import timestamp
from apex.query.coercion import decimal

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
    """A decimal number with ``places`` after the point, rounded half up, and at most 18 digits, 16 of them before the
    point.

    On SQLite it is stored as an integer of its smallest units, so that it sorts, compares and adds up exactly.
    ``trimmed`` leaves out zeros at the end (``2`` instead of ``2.0000``); ``as_float`` gives floats.
    """

    impl = Numeric
    cache_ok = True

    def __init__(self, places: int, *, trimmed: bool = False, as_float: bool = False) -> None:
        super().__init__()
        self.places, self.trimmed, self.as_float = places, trimmed, as_float
        self.unit = Decimal(1).scaleb(-places)
        self.digits = min(16, 18 - places)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Numeric(16 + self.places, self.places))
        return dialect.type_descriptor(BigInteger())

    def coerce(self, value: Any) -> Decimal:
        """Raises ValueError for what is no decimal number or has too many digits."""
        number = decimal(value)
        if abs(number) >= 10**self.digits:
            raise ValueError(f"must have at most {self.digits} digits before the decimal point")
        return number.quantize(self.unit, ROUND_HALF_UP)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return int(self.coerce(value).scaleb(self.places))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        return self.shown(value if dialect.name == "postgresql" else Decimal(value).scaleb(-self.places))

    def shown(self, number: Decimal) -> Decimal | float:
        """Return a number as it is read."""
        if self.as_float:
            return float(number)
        return trimmed(number) if self.trimmed else number


def trimmed(number: Decimal) -> Decimal:
    """Return the number without zeros at the end of its places."""
    text = f"{number:f}"
    number = Decimal(text.rstrip("0").rstrip(".") if "." in text else text)
    return number if number else abs(number)
