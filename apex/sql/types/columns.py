"""The column types of apex, which mean the same on SQLite and PostgreSQL: ``Json``, ``Timestamp`` and ``Fixed``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Integer, Numeric, String, func
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.types import TypeDecorator, TypeEngine

from apex.adapters.aggregates import FUNCTIONS, ORDERED
from apex.encoding import timestamp
from apex.query import coercion as coerce
from apex.sql.types.registry import ColumnType, Spelling
from apex.sql.types.standard import FLOAT_JSON, NUMERIC, WITHOUT_EXPONENT, to_milliseconds, trimmed

Json: JSON = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""Any JSON value: JSONB on PostgreSQL, text on SQLite."""

Identifier: BigInteger = BigInteger().with_variant(Integer(), "sqlite")
"""A primary key that the database numbers. SQLite does so for the type INTEGER alone."""


class Timestamp(TypeDecorator[datetime]):
    """A moment in UTC to the millisecond.

    SQLite stores the text that goes over the wire, so moments sort::

        Column("created_at", Timestamp, default=lambda: datetime.now(UTC))
    """

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = String
    cache_ok: bool | None = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True, precision=3))
        return dialect.type_descriptor(String(24))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else timestamp(value)

    def result_processor(self, dialect: Dialect, coltype: Any) -> Any:
        """Return the function that reads a value, or None: the driver of PostgreSQL gives moments as they are."""
        return None if dialect.name == "postgresql" else super().result_processor(dialect, coltype)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or isinstance(value, datetime):
            return value
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)  # SQLite's own CURRENT_TIMESTAMP


class Fixed(TypeDecorator[Decimal]):
    """A decimal number with ``places`` after the point, rounded half up.

    It has at most 18 digits, at most 16 of them before the point. SQLite stores an integer of the smallest unit, so
    that numbers sort, compare and add up exactly. ``trimmed`` leaves out zeros at the end (``2`` instead of
    ``2.0000``). With ``as_float`` values are read as floats::

        Column("price", Fixed(2), nullable=False)
    """

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Numeric
    cache_ok: bool | None = True

    def __init__(self, places: int, *, trimmed: bool = False, as_float: bool = False) -> None:
        super().__init__()
        self.places: int = places
        self.trimmed: bool = trimmed
        self.as_float: bool = as_float
        self.unit: Decimal = Decimal(1).scaleb(-places)
        self.digits: int = min(16, 18 - places)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Numeric(16 + self.places, self.places))
        return dialect.type_descriptor(BigInteger())

    def coerce(self, value: Any) -> Decimal:
        """Return a value as a decimal number with the places of the column.

        Raises ValueError if it is not a decimal number or has too many digits.
        """
        number = coerce.decimal(value)
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


class FixedNumbers(ColumnType, types=[Fixed]):
    """``apex.sql.Fixed``: an exact decimal number, on SQLite too."""

    functions: Sequence[str] = FUNCTIONS

    def __init__(self, type: Fixed, dialect: Dialect | None = None) -> None:
        super().__init__(type, dialect)
        self.shape: Mapping[str, Any] = coerce.SHAPES[coerce.number if type.as_float else coerce.decimal]
        self.oid: int | None = NUMERIC if self.postgresql else None

    def coerce(self, value: Any) -> Decimal:
        number: Decimal = self.type.coerce(value)
        return number

    def as_read(self, value: Any) -> Any:
        return None if value is None else self.type.shown(value)

    def spelling(self) -> Spelling:
        places = self.type.places
        if self.postgresql:
            if self.type.as_float:
                return Spelling(FLOAT_JSON.format("{0}::float8"), WITHOUT_EXPONENT.format("{0}::float8"))
            return Spelling("trim_scale({0})::text" if self.type.trimmed else "{0}::text", load=Decimal)
        one, digits = 10**places, "CAST({0} AS TEXT)"
        if places:
            # The sign is null for null. In RETURNING, SQLite before 3.41 takes IS NOT NULL for true after a column that
            # cannot be null.
            digits = (
                "CASE WHEN {0} < 0 THEN '-' WHEN {0} >= 0 THEN '' END"
                f" || printf('%d.%0{places}d', abs({{0}}) / {one}, abs({{0}}) % {one})"
            )
        short = f"rtrim(rtrim({digits}, '0'), '.')" if places else digits
        if self.type.as_float:
            # With more digits the nearest float may have a shorter spelling, and a small one an exponent.
            plain = f"abs({{0}}) < {10**15}"
            if places > 4:
                plain += f" AND ({{0}} = 0 OR abs({{0}}) >= {one // 10**4})"
            return Spelling(f"json({short} || CASE WHEN {{0}} % {one} THEN '' ELSE '.0' END)", plain)
        return Spelling(short if self.type.trimmed else digits, load=Decimal)


class Moments(ColumnType, types=[Timestamp]):
    """``apex.sql.Timestamp``: a moment in UTC to the millisecond."""

    functions: Sequence[str] = ORDERED
    shape: Mapping[str, Any] = coerce.SHAPES[coerce.timestamp]

    def coerce(self, value: Any) -> datetime:
        return coerce.timestamp(value)

    def written(self, moment: Any) -> Any:
        return func.strftime("%Y-%m-%dT%H:%M:%fZ", moment) if self.sqlite else to_milliseconds(moment, self.type)

    def spelling(self) -> Spelling:
        return Spelling(_MOMENT if self.postgresql else "{0}", load=datetime.fromisoformat)


_MOMENT = """to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
