"""The column types for the types of SQLAlchemy."""

from __future__ import annotations

import sys
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Dialect, func
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine

from apex.adapters.aggregates import FUNCTIONS, ORDERED
from apex.encoding import encode
from apex.query import coercion as coerce
from apex.query.coercion import Coerce
from apex.sql.types.registry import (
    SQL,
    ColumnType,
    Processor,
    Spelling,
    column_type,
    json_key,
    json_member,
    nullable_shape,
)

FLOAT8, NUMERIC = 701, 1700
"""The object ids of PostgreSQL's types that SQLAlchemy reads by id."""

JSON_CLASSES = (str, int, float, list, dict, type(None))
"""The classes of values in JSON."""

FLOAT4_MAX = 3.4028234663852886e38
FLOAT_DIGITS = 15
"""The digits of a decimal number that a float keeps exactly."""

LISTED = 50
"""The most allowed values that an error names."""

_WIDE = Context(prec=2_000)
"""Enough digits for every number that ``apex.query.coercion.decimal`` takes."""


class Texts(ColumnType, types=[sa.String]):
    """Text, compared and sorted by code point."""

    shape: Mapping[str, Any] = coerce.SHAPES[coerce.text]
    is_text: bool = True
    functions: Sequence[str] = ORDERED

    def __init__(self, type: Any, dialect: Dialect | None = None) -> None:
        super().__init__(type, dialect)
        self.most: int = sys.maxsize if type.length is None else type.length

    def coerce(self, value: Any) -> Any:
        text = coerce.text(value)
        if len(text) > self.most:
            raise ValueError(f"must have at most {self.most} characters")
        return text

    @property
    def parameter(self) -> TypeEngine[Any]:
        """The type without a collation, which a parameter must not have."""
        return sa.Text()

    def ordered(self, expression: Any) -> Any:
        return expression.collate("C") if self.postgresql else expression

    def spelling(self) -> Spelling:
        return Spelling()


class Booleans(ColumnType, types=[sa.Boolean]):
    """True or false."""

    shape: Mapping[str, Any] = coerce.SHAPES[coerce.boolean]

    def coerce(self, value: Any) -> bool:
        return coerce.boolean(value)

    def spelling(self) -> Spelling:
        sqlite = "json(CASE WHEN {0} THEN 'true' WHEN NOT {0} THEN 'false' END)"
        return Spelling() if self.postgresql else Spelling(sqlite)


class Integers(ColumnType, types=[sa.Integer]):
    """A whole number of 16, 32 or 64 bits, on every database."""

    functions: Sequence[str] = FUNCTIONS
    shape: Mapping[str, Any] = coerce.SHAPES[coerce.integer]

    def __init__(self, type: Any, dialect: Dialect | None = None) -> None:
        super().__init__(type, dialect)
        self.bits = 16 if isinstance(type, sa.SmallInteger) else 64 if isinstance(type, sa.BigInteger) else 32
        self.most = (1 << self.bits - 1) - 1

    def coerce(self, value: Any) -> int:
        if type(value) is int and -self.most <= value <= self.most:
            return value
        return coerce.whole(value, self.bits)

    def total(self, value: Any) -> int:
        return int(value)  # The sum of 64 bits is a decimal number on PostgreSQL.

    def spelling(self) -> Spelling:
        return Spelling()


class Floats(ColumnType, types=[sa.Float]):
    """A finite number."""

    functions: Sequence[str] = FUNCTIONS
    oid: int | None = FLOAT8

    def __init__(self, type: Any, dialect: Dialect | None = None) -> None:
        super().__init__(type, dialect)
        self.is_single: bool = isinstance(type, sa.REAL) or (type.precision or 53) <= 24
        self.shape: Mapping[str, Any] = coerce.SHAPES[coerce.decimal if type.asdecimal else coerce.number]

    def coerce(self, value: Any) -> Any:
        number = float(coerce.number(str(value) if isinstance(value, Decimal) else value))
        if self.is_single and abs(number) > FLOAT4_MAX:
            raise ValueError("must be a number of single precision")
        return Decimal(str(number)) if self.type.asdecimal else number

    def summed(self, expression: Any) -> Any:
        return sa.cast(expression, sa.Double()) if self.postgresql and self.is_single else expression

    def reader(self) -> Processor | None:
        if not self.type.asdecimal:
            return super().reader()
        return lambda value: None if value is None else Decimal(str(value))

    def spelling(self) -> Spelling | None:
        if self.type.asdecimal:
            return None
        return Spelling(FLOAT_JSON, WITHOUT_EXPONENT) if self.postgresql else Spelling("json(json_number({0}))")


class Numerics(ColumnType, types=[sa.Numeric]):
    """A decimal number with the places of its type. Without a number of places, zeros at the end are left out."""

    functions: Sequence[str] = FUNCTIONS
    oid: int | None = NUMERIC

    def __init__(self, type: Any, dialect: Dialect | None = None) -> None:
        super().__init__(type, dialect)
        self.scale = type.scale if type.scale is not None else 0 if type.precision is not None else None
        self.shape: Mapping[str, Any] = coerce.SHAPES[coerce.decimal if type.asdecimal else coerce.number]

    def coerce(self, value: Any) -> Any:
        number = self._rounded(coerce.decimal(value))
        most = 1_000 if self.type.precision is None else self.type.precision - (self.scale or 0)
        if number.adjusted() >= most and number:
            raise ValueError(f"must have at most {most} digits before the decimal point")
        nearest = float(number)
        digits = len(number.normalize(_WIDE).as_tuple().digits)
        if self.sqlite and (digits > FLOAT_DIGITS or Decimal(str(nearest)) != number):
            rule = f"must have at most {FLOAT_DIGITS} digits on SQLite, which stores floats: apex.sql.Fixed keeps more"
            raise ValueError(rule)
        if self.type.asdecimal:
            return number
        return coerce.number(nearest)

    def total(self, value: Any) -> Any:
        if not self.sqlite or self.scale is not None or not self.type.asdecimal:
            return value
        return trimmed(Context(prec=FLOAT_DIGITS).create_decimal(value))  # The other digits are those of a float.

    def _rounded(self, number: Decimal) -> Decimal:
        if self.scale is None:
            return trimmed(number)
        rounded = number.quantize(Decimal(1).scaleb(-self.scale), ROUND_HALF_UP, _WIDE)
        return rounded if rounded else abs(rounded)

    def reader(self) -> Processor | None:
        if not self.type.asdecimal:
            return super().reader()

        def load(value: Any) -> Decimal | None:
            """Round a float of SQLite here, because SQLAlchemy would keep ten places."""
            number = None if value is None else Decimal(str(value))
            return self._rounded(number) if number is not None and number.is_finite() else number

        return load

    def spelling(self) -> Spelling | None:
        if not self.postgresql:
            return None
        if not self.type.asdecimal:
            return Spelling(FLOAT_JSON.format("{0}::float8"), WITHOUT_EXPONENT.format("{0}::float8"))
        return Spelling("trim_scale({0})::text" if self.scale is None else "{0}::text", load=Decimal)


class DateTimes(ColumnType, types=[sa.DateTime]):
    """A moment in UTC. If the type has no time zone, the moment has none in Python."""

    functions: Sequence[str] = ORDERED
    shape: Mapping[str, Any] = coerce.SHAPES[coerce.timestamp]

    def coerce(self, value: Any) -> datetime:
        return self._zoned(coerce.timestamp(value))

    def _zoned(self, moment: datetime) -> datetime:
        if self.type.timezone:
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)

    def reader(self) -> Processor | None:
        process = super().reader()
        if process is None:
            return None
        return lambda value: None if value is None else self._zoned(process(value))

    def written(self, moment: Any) -> Any:
        return func.strftime("%Y-%m-%d %H:%M:%f000", moment) if self.sqlite else to_milliseconds(moment, self.type)

    def spelling(self) -> Spelling | None:
        if self.postgresql:
            zoned = "{0} AT TIME ZONE 'UTC'" if self.type.timezone else "{0}"
            return Spelling(_ANY_MOMENT.format(zoned), _WHOLE_MILLISECONDS.format(zoned), self._load)
        if self.binder is None or self.binder(datetime(1, 2, 3)) != "0001-02-03 00:00:00.000000":
            return None
        whole = "substr({0}, 24) IN ('', '000')"
        cut = f"CASE WHEN {whole} THEN substr({{0}} || '.000', 1, 23) ELSE {{0}} END"
        return Spelling(f"replace({cut}, ' ', 'T') || 'Z'", whole, self._load)

    def _load(self, text: str) -> datetime:
        return self._zoned(datetime.fromisoformat(text))


class Times(ColumnType, types=[sa.Time]):
    """A time of day, without a zone."""

    functions: Sequence[str] = ORDERED
    shape: Mapping[str, Any] = coerce.SHAPES[coerce.clock]

    def coerce(self, value: Any) -> time:
        return coerce.clock(value)

    def check(self) -> None:
        if self.type.timezone:
            raise TypeError("has a time zone: use Time() without one, or DateTime(timezone=True)")

    def written(self, moment: Any) -> Any:
        return func.strftime("%H:%M:%f000", moment) if self.sqlite else None

    def spelling(self) -> Spelling | None:
        if self.postgresql:
            return Spelling("{0}::text", "strpos({0}::text, '.') = 0", time.fromisoformat)
        if self.binder is None or self.binder(time(1)) != "01:00:00.000000":
            return None
        whole = "CASE WHEN substr({0}, 9) = '.000000' THEN substr({0}, 1, 8) ELSE {0} END"
        return Spelling(whole, load=time.fromisoformat)


class Dates(ColumnType, types=[sa.Date]):
    """A calendar day."""

    functions: Sequence[str] = ORDERED
    shape: Mapping[str, Any] = coerce.SHAPES[coerce.day]

    def coerce(self, value: Any) -> date:
        return coerce.day(value)

    def spelling(self) -> Spelling | None:
        if not self.postgresql and (self.binder is None or self.binder(date(1, 2, 3)) != "0001-02-03"):
            return None
        return Spelling(load=date.fromisoformat)


class Intervals(ColumnType, types=[sa.Interval, postgresql.INTERVAL]):
    """A span of time, in JSON a number of seconds."""

    shape: Mapping[str, Any] = coerce.SHAPES[coerce.seconds]

    def coerce(self, value: Any) -> timedelta:
        return coerce.seconds(value)

    def check(self) -> None:
        if self.sqlite and isinstance(self.impl, postgresql.INTERVAL):
            raise TypeError("is of PostgreSQL alone: use sqlalchemy.Interval")

    def dumped(self, value: Any) -> Any:
        if value is None or not self.postgresql:
            return super().dumped(value)
        return f"{value // timedelta(microseconds=1)} microseconds"


class Uuids(ColumnType, types=[sa.Uuid]):
    """A UUID. With ``as_uuid=False`` it is a text in Python."""

    shape: Mapping[str, Any] = coerce.SHAPES[coerce.uuid]

    def check(self) -> None:
        if self.sqlite and isinstance(self.impl, sa.UUID):
            # Its columns on SQLite turn UUIDs that look like a number into numbers.
            raise TypeError("is of PostgreSQL alone: use sqlalchemy.Uuid")

    def coerce(self, value: Any) -> Any:
        found = coerce.uuid(value)
        return found if self.type.as_uuid else str(found)

    def spelling(self) -> Spelling:
        native = self.postgresql and self.type.native_uuid
        return Spelling("{0}" if native else _DASHED, load=UUID if self.type.as_uuid else None)


class Binaries(ColumnType, types=[sa.LargeBinary, sa.BINARY, sa.VARBINARY]):
    """Bytes, in JSON a text of base64."""

    shape: Mapping[str, Any] = coerce.SHAPES[coerce.binary]
    keeps_empty: bool = True

    def coerce(self, value: Any) -> bytes:
        found, length = coerce.binary(value), self.type.length
        if length is not None and len(found) > length:
            raise ValueError(f"must have at most {length} bytes")
        return found

    def listed(self, expression: Any, values: Any) -> ColumnElement[bool]:
        return super().listed(SQL("CASE WHEN {0} IS NOT NULL THEN hex({0}) END", expression), values)

    def dumped(self, value: Any) -> Any:
        return value and ("\\x" + value.hex() if self.postgresql else value.hex().upper())

    def extracted(self, object: Any, name: str) -> Any:
        text = super().extracted(object, name)
        return text if self.postgresql else func.from_hex(text)

    def spelling(self) -> Spelling | None:
        base64 = r"translate(encode({0}, 'base64'), E'\n', '')"
        return Spelling(base64, load=b64decode) if self.postgresql else None


class Decorated(ColumnType, types=[TypeDecorator]):
    """A type decorator. Its JSON form is that of its ``impl``, and its own processing runs everywhere."""

    def __init__(self, type: Any, dialect: Dialect | None = None) -> None:
        super().__init__(type, dialect)
        given = type.impl if dialect is None else type.load_dialect_impl(dialect)
        self.stored: ColumnType = column_type(given, dialect)
        self.form: ColumnType = self.stored if given is type.impl else column_type(type.impl)
        self.shape: Mapping[str, Any] = self.form.shape
        self.holds: str = self.form.holds or self.stored.holds
        self.is_text: bool = self.stored.is_text
        self.is_json: bool = self.stored.is_json
        self.oid: int | None = self.stored.oid
        self.keeps_empty: bool = self.form.is_text or self.form.keeps_empty
        self.is_read_as_stored: bool = _keeps(type, "process_result_value")
        self.is_bound_as_given: bool = _keeps(type, "process_bind_param")
        is_stored_as_read = self.is_read_as_stored and self.is_bound_as_given
        self.functions: Sequence[str] = self.stored.functions if is_stored_as_read else ()

    def check(self) -> None:
        if isinstance(self.type, sa.PickleType):
            raise TypeError("holds pickled objects, which have no form in JSON: use apex.sql.Json")
        if not _keeps(self.type, "bind_expression", "column_expression"):
            raise TypeError("has SQL around its values, which inserts of many rows would leave out")
        if not _keeps(self.type, "bind_processor", "result_processor"):
            raise TypeError("replaces whole processors: give it process_bind_param and process_result_value")

    def coerce(self, value: Any) -> Any:
        given = self.form.coerce(value) if isinstance(value, JSON_CLASSES) else value
        if self.dialect is None:
            return given
        try:
            self._bound(given)
        except ValueError as error:
            raise ValueError(f"must fit: {error}") from None
        except (TypeError, AttributeError, LookupError, ArithmeticError):
            raise ValueError(f"must be a value of the type {type(self.type).__name__}") from None
        return given

    def _bound(self, value: Any) -> Any:
        """Return the value as the stored type takes it."""
        return value if self.is_bound_as_given else self.type.process_bind_param(value, self.dialect)

    def reader(self) -> Processor | None:
        return self.stored.reader() if self.is_read_as_stored else super().reader()

    def as_read(self, value: Any) -> Any:
        bound = self._bound(value)
        return bound if self.is_read_as_stored else self.type.process_result_value(bound, self.dialect)

    def ordered(self, expression: Any) -> Any:
        return self.stored.ordered(expression)

    def summed(self, expression: Any) -> Any:
        return self.stored.summed(expression)

    def total(self, value: Any) -> Any:
        return self.stored.total(value)

    def written(self, moment: Any) -> Any:
        return self.stored.written(moment) if self.is_bound_as_given else None

    def listed(self, expression: Any, values: Any) -> ColumnElement[bool]:
        return self.stored.listed(expression, values)

    def dumped(self, value: Any) -> Any:
        return self.stored.dumped(self._bound(value))

    def extracted(self, object: Any, name: str) -> Any:
        return self.stored.extracted(object, name)

    def spelling(self) -> Spelling | None:
        return self.stored.spelling() if self.is_read_as_stored else None


def _keeps(type: Any, *names: str) -> bool:
    """Return True if a decorator overrides none of these methods."""
    return all(getattr(type.__class__, name) is getattr(TypeDecorator, name) for name in names)


class Enums(ColumnType, types=[sa.Enum]):
    """One of a few values, in the order in which they are declared. In JSON a member is its value."""

    keeps_empty: bool = True

    def __init__(self, type: sa.Enum, dialect: Dialect | None = None) -> None:
        super().__init__(type, dialect)
        self.is_native: bool = self.postgresql and type.native_enum
        enum: Any = type.enum_class
        members = type.enums if enum is None else list(enum)
        if enum is not None and len(members) != len(type.enums):
            members = list(enum.__members__.values())
        self.objects: dict[str, Any] = dict(zip(type.enums, members, strict=True))
        """The values in Python, by their labels in the database."""
        self.forms: dict[str, Any] = {label: _form(value) for label, value in self.objects.items()}
        self._values = {(form.__class__, form): self.objects[label] for label, form in self.forms.items()}
        self._texts = {str(form): self.objects[label] for label, form in self.forms.items()}
        types = sorted({_JSON_TYPES.get(form.__class__, "string") for form in self.forms.values()})
        one_or_many = types[0] if len(types) == 1 else types
        self.shape: Mapping[str, Any] = {"type": one_or_many, "enum": list(dict.fromkeys(self.forms.values()))}

    def check(self) -> None:
        if any(not isinstance(form, str | int | float) for form in self.forms.values()):
            raise TypeError("has members whose values are neither texts nor numbers: callers could not name them")
        if self.is_native and self.type.name is None:
            raise TypeError("needs a name on PostgreSQL: Enum(..., name='...')")

    def coerce(self, value: Any) -> Any:
        if self.type.enum_class is not None and isinstance(value, self.type.enum_class):
            return value
        found = self._texts.get(value) if isinstance(value, str) else None
        if found is None and isinstance(value, int | float):
            found = self._values.get((value.__class__, value))
        if found is None:
            allowed = [str(form) for form in self.shape["enum"]]
            more = [f"and {len(allowed) - LISTED} more"] if len(allowed) > LISTED else []
            raise ValueError(f"must be one of: {', '.join([*allowed[:LISTED], *more])}")
        return found

    def nullable(self) -> Coerce:
        return coerce.optional(self.coerce) if {"", "null"} & self._texts.keys() else coerce.nullable(self.coerce)

    def reader(self) -> Processor:
        """Return the function that reads a label. A label that another program has stored stays as it is."""
        objects = self.objects
        return lambda label: objects.get(label, label)

    def restored(self, value: Any) -> Any:
        return self._texts.get(str(value), value)

    def ordered(self, expression: Any) -> Any:
        if self.is_native:
            return expression
        whens = " ".join(f"WHEN {_literal(label, self.dialect)} THEN {n}" for n, label in enumerate(self.objects))
        last = f"CASE WHEN {{0}} IS NOT NULL THEN {len(self.objects)} END"
        return SQL(f"CASE {{0}} {whens} ELSE {last} END", expression, type=sa.Integer())

    def extracted(self, object: Any, name: str) -> Any:
        text = object.op("->>")(json_key(name, self.postgresql))
        return sa.cast(text, self.type) if self.is_native else text

    def spelling(self) -> Spelling | None:
        text = "{0}::text" if self.is_native else "{0}"
        if self.type.enum_class is None:
            return Spelling(text)
        if not all(isinstance(form, str) for form in self.forms.values()):
            return None
        texts = self._texts
        whens = " ".join(
            f"WHEN {_literal(label, self.dialect)} THEN {_literal(form, self.dialect)}"
            for label, form in self.forms.items()
        )
        return Spelling(f"CASE {text} {whens} ELSE {text} END", load=lambda form: texts.get(form, form))


class Jsons(ColumnType, types=[sa.JSON]):
    """Any JSON value. Callers can select it, but neither filter nor sort by it."""

    holds: str = "JSON"
    is_json: bool = True

    def coerce(self, value: Any) -> Any:
        return coerce.json(value)

    def nullable(self) -> Coerce:
        return self.coerce

    def dumped(self, value: Any) -> Any:
        return value

    def extracted(self, object: Any, name: str) -> Any:
        return json_member(object, name, self.postgresql)

    def spelling(self) -> Spelling | None:
        if self.postgresql:
            return Spelling(plain=_PLAIN_JSONB) if isinstance(self.impl, postgresql.JSONB) else None
        return Spelling("json(CASE typeof({0}) WHEN 'real' THEN json_number({0}) ELSE {0} END)")


class Arrays(ColumnType, types=[sa.ARRAY]):
    """A list of values of one type, on PostgreSQL. Callers can select it, but neither filter nor sort by it."""

    holds: str = "a list"

    def __init__(self, type: Any, dialect: Dialect | None = None) -> None:
        super().__init__(type, dialect)
        self.is_json: bool = isinstance(self.impl, sa.JSON)
        self.items: ColumnType = column_type(type.item_type, None if self.is_json else dialect)
        self.depth = type.dimensions or 1
        item = nullable_shape(self.items.shape)
        for _ in range(self.depth):
            item = {"type": "array", "items": item}
        self.shape: Mapping[str, Any] = item

    def check(self) -> None:
        if self.sqlite and not self.is_json:
            raise TypeError("is of PostgreSQL alone: use apex.sql.Json")
        if self.items.holds:
            raise TypeError(f"is an array of {self.items.holds}: use apex.sql.Json")

    def coerce(self, value: Any) -> list[Any]:
        return self._coerced(value, self.depth)

    def _coerced(self, value: Any, depth: int) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list" if self.depth == 1 else f"must be lists, {self.depth} deep")
        if depth > 1:
            inner = [self._coerced(item, depth - 1) for item in value]
            if len({len(item) for item in inner}) > 1:
                raise ValueError("must hold lists of one length")
            return inner
        return [self._item(item, place) for place, item in enumerate(value)]

    def _item(self, value: Any, place: int) -> Any:
        try:
            return None if value is None else self.items.coerce(value)
        except ValueError as error:
            raise ValueError(f"has a wrong value at {place}, which {error}") from None

    def reader(self) -> Processor | None:
        if self.is_json or isinstance(self.items, Enums):
            return super().reader()
        load, collect = self.items.reader() or _same, tuple if self.type.as_tuple else list

        def each(value: Any) -> Any:
            return collect(map(each, value)) if isinstance(value, list) else load(value)

        return each

    def dumped(self, value: Any) -> Any:
        return value if self.is_json or value is None else self._dumped(value)

    def _dumped(self, value: Any) -> str:
        """Return the array as PostgreSQL reads it."""
        if value is None:
            return "NULL"
        if isinstance(value, list | tuple):
            return "{" + ",".join(map(self._dumped, value)) + "}"
        dumped = self.items.dumped(value)
        text = dumped if isinstance(dumped, str) else encode(dumped).decode().strip('"')
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def extracted(self, object: Any, name: str) -> Any:
        return json_member(object, name, self.postgresql) if self.is_json else super().extracted(object, name)

    def spelling(self) -> Spelling | None:
        is_alike = isinstance(self.items, Integers | Booleans | Texts) and not self.type.as_tuple
        return Spelling() if self.postgresql and is_alike else None


def to_milliseconds(moment: Any, type: TypeEngine[Any]) -> Any:
    """Return the SQL of a moment cut to milliseconds, on PostgreSQL."""
    return func.date_trunc(sa.literal_column("'milliseconds'"), sa.cast(moment, type))


def trimmed(number: Decimal) -> Decimal:
    """Return the number without zeros at the end of its places."""
    text = f"{number:f}"
    number = Decimal(text.rstrip("0").rstrip(".") if "." in text else text)
    return number if number else abs(number)


def _literal(text: Any, dialect: Dialect | None) -> str:
    """Return a text for the template of ``SQL``."""
    quoted = "'" + str(text).replace("'", "''") + "'"
    if dialect is not None and dialect.name == "postgresql":
        quoted = quoted.replace("%", "%%")  # psycopg would take a single one for a parameter.
    return quoted.replace("{", "{{").replace("}", "}}")


def _form(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _same(value: Any) -> Any:
    return value


_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number"}

_WHOLE_MILLISECONDS = "date_trunc('milliseconds', {0}) = {0}"
_ANY_MOMENT = (
    f"to_char({{0}}, CASE WHEN {_WHOLE_MILLISECONDS}"
    """ THEN 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"' ELSE 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"' END)"""
)
_DASHED = " || '-' || ".join(
    f"substr({{0}}, {start}, {size})" for start, size in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
)
FLOAT_JSON = (
    "CAST(CASE WHEN {0} IN ('NaN', 'Infinity', '-Infinity') THEN NULL WHEN {0}::text ~ '[.e]' THEN {0}::text"
    " ELSE {0}::text || '.0' END AS json)"
)
WITHOUT_EXPONENT = "strpos({0}::text, 'e') = 0"
# There is no space between values, no fraction, and no integer that would be read as a float.
_PLAIN_JSONB = r"({0} IN ('{{}}', '[]') OR {0}::text !~ '[ .]|\d{{20}}')"
