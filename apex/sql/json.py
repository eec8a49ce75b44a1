"""JSON that the database writes: byte for byte what ``apex.encoding.encode`` makes of the rows.

Where a database spells a value in another way (JSONB with spaces, floats with an exponent), the text comes with a flag
that it is not ``plain``; ``raw_json`` then puts it right. Rows that hooks look at go through a ``loader`` first. On
SQLite dates and JSON columns are taken for what the adapter stores there: the encoder's texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ColumnElement,
    Date,
    Dialect,
    Enum,
    Float,
    Integer,
    String,
    Text,
    Uuid,
    bindparam,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from apex.encoding import RawJSON, decode, encode
from apex.sql.columns import Fixed, Timestamp
from apex.types import Row

PLACES = 5
"""Decimals of more places can be so small that Python writes them with an exponent."""

MOST_COLUMNS = 63
"""SQLite's functions take 127 arguments; an object takes two for each column."""


class Unwritable(TypeError):
    """The database cannot write these columns as the encoder does: read the rows and encode them."""


@dataclass(frozen=True, slots=True)
class Written:
    """An expression for a JSON text, and one for whether it is already as the encoder spells it (None: always)."""

    text: ColumnElement[str]
    plain: ColumnElement[bool] | None

    @property
    def columns(self) -> list[ColumnElement[Any]]:
        """What to select or return: ``json`` and, where it is needed, ``plain``."""
        flag = [] if self.plain is None else [self.plain.label("plain")]
        return [self.text.label("json"), *flag]


def row_json(columns: Iterable[ColumnElement[Any]], dialect: Dialect) -> Written:
    """The object of a row; keys are the columns' names, in their order. Raises Unwritable."""
    text, flags = _object(list(columns), dialect)
    return Written(text, _SQL("coalesce({0}, true)", _all(flags), type=Boolean()) if flags else None)


def rows_json(columns: Iterable[ColumnElement[Any]], dialect: Dialect) -> Written:
    """The array of the rows of a subquery with these columns, in the subquery's order. Raises Unwritable.

    The order holds as long as the statement reads the subquery alone.
    """
    text, flags = _object(list(columns), dialect)
    postgresql = dialect.name == "postgresql"
    array = "'[' || coalesce(string_agg({0}, ','), '') || ']'" if postgresql else "json_group_array({0})"
    every = "coalesce(bool_and({0}), true)" if postgresql else "coalesce(min({0}), 1)"
    return Written(_SQL(array, text), _SQL(every, _all(flags), type=Boolean()) if flags else None)


def page_json(columns: Iterable[ColumnElement[Any]], total: ColumnElement[Any] | None, dialect: Dialect) -> Written:
    """The page with the rows of a subquery, and a total where one is given; ``limit`` and ``skip`` are parameters.

    Raises Unwritable.
    """
    rows = rows_json(columns, dialect)
    limit, skip = (bindparam(name, type_=BigInteger()) for name in ("limit", "skip"))
    if total is None:
        return Written(_SQL(f"'{{{{' || {_PAGE}", limit, skip, rows.text), rows.plain)
    counted = f"""'{{{{"total":' || CAST({{3}} AS TEXT) || ',' || {_PAGE}"""
    return Written(_SQL(counted, limit, skip, rows.text, total), rows.plain)


def raw_json(written: Sequence[Any], load: Callable[[Any], Any] | None = None) -> RawJSON:
    """What the database has written, as the encoder spells it, and what gives its values their types."""
    text, *plain = written
    if not all(plain):
        text = encode(decode(text))
    return RawJSON(text if isinstance(text, bytes) else text.encode(), load)


def loader(columns: Iterable[ColumnElement[Any]], dialect: Dialect) -> Callable[[Row], Row]:
    """What gives the values of a decoded row, in place, the types they have when rows are read. Raises Unwritable."""
    spelled = ((str(column.name), _spelling(column, dialect).load) for column in columns)
    loads = [(name, load) for name, load in spelled if load is not None]

    def load_row(row: Row) -> Row:
        for name, load in loads:
            if row[name] is not None:
                row[name] = load(row[name])
        return row

    return load_row


def written_row(columns: list[Any], dialect: Dialect) -> tuple[list[Any], Callable[[Any], RawJSON]]:
    """What to select or return for the object of a row, and what reads it. Raises Unwritable."""
    load = loader(columns, dialect)

    return row_json(columns, dialect).columns, lambda values: raw_json(values, load)


def written_page(
    columns: Iterable[ColumnElement[Any]], total: ColumnElement[Any] | None, dialect: Dialect
) -> tuple[list[Any], Callable[[Any], RawJSON]]:
    """What to select for a page of a subquery's rows, and what reads it. Raises Unwritable."""
    columns = list(columns)
    load = loader(columns, dialect)

    def load_page(page: Any) -> Any:
        page["data"] = [load(row) for row in page["data"]]
        return page

    return page_json(columns, total, dialect).columns, lambda values: raw_json(values, load_page)


def is_writable(columns: Iterable[ColumnElement[Any]], dialect: Dialect) -> bool:
    """Whether the database can write rows with these columns as the encoder does."""
    try:
        row_json(columns, dialect)
    except Unwritable:
        return False
    return True


class _SQL(FunctionElement[Any]):
    """SQL text around expressions: ``{0}`` is the first."""

    inherit_cache = False

    def __init__(self, template: str, *expressions: Any, type: TypeEngine[Any] | None = None) -> None:
        super().__init__(*expressions)
        self.template, self.type = template, type or Text()


@compiles(_SQL)
def _compile(element: _SQL, compiler: SQLCompiler, **options: Any) -> str:
    return element.template.format(*(compiler.process(part, **options) for part in element.clauses))


def _object(columns: list[ColumnElement[Any]], dialect: Dialect) -> tuple[ColumnElement[str], list[_SQL]]:
    """The object's text, and a flag for each column that needs one."""
    spelled = [(column, _spelling(column, dialect)) for column in columns]
    flags = [_SQL(spelling.plain, column, type=Boolean()) for column, spelling in spelled if spelling.plain]
    values = [_SQL(spelling.value, column) for column, spelling in spelled]
    names = [str(column.name).replace("{", "{{").replace("}", "}}") for column in columns]
    if dialect.name == "postgresql":
        quote = dialect.identifier_preparer.quote
        listed = ", ".join(f"{{{place}}} AS {quote(name)}" for place, name in enumerate(names))
        return _SQL(f"(SELECT row_to_json(row_.*) FROM (SELECT {listed}) AS row_)::text", *values), flags
    if len(columns) > MOST_COLUMNS:
        raise Unwritable(f"An object with more than {MOST_COLUMNS} properties is too large for SQLite")
    listed = ", ".join("'{}', {{{}}}".format(name.replace("'", "''"), place) for place, name in enumerate(names))
    return _SQL(f"json_object({listed})", *values), flags


def _all(flags: list[_SQL]) -> _SQL:
    return _SQL(" AND ".join(f"{{{place}}}" for place in range(len(flags))), *flags)


@dataclass(frozen=True, slots=True)
class _Spelling:
    """SQL for a column's value in an object, for when that is what the encoder gives, and what reads it back."""

    value: str = "{0}"
    plain: str | None = None
    load: Callable[[Any], Any] | None = None


def _spelling(column: ColumnElement[Any], dialect: Dialect) -> _Spelling:
    kind = column.type.dialect_impl(dialect)
    spelling = _alike(kind) or (_on_postgresql(kind) if dialect.name == "postgresql" else _on_sqlite(kind))
    if spelling is None:
        raise Unwritable(f"{dialect.name} cannot write '{column.name}' as the encoder does: it is {kind!r}")
    return spelling


def _alike(kind: TypeEngine[Any]) -> _Spelling | None:
    match kind:
        case Enum():
            return None
        case Integer() | String():
            return _Spelling()
        case Date():
            return _Spelling(load=date.fromisoformat)
    return None


def _on_postgresql(kind: TypeEngine[Any]) -> _Spelling | None:
    match kind:
        case Timestamp():
            return _Spelling(_MOMENT, load=datetime.fromisoformat)
        case Fixed(places=places) if places > PLACES:
            return None
        case Fixed(as_float=True):
            return _Spelling(_FLOAT.format("{0}::float8"), _NO_EXPONENT.format("{0}::float8"))
        case Fixed(trimmed=trimmed):
            return _Spelling("trim_scale({0})::text" if trimmed else "{0}::text", load=Decimal)
        case Float(asdecimal=False):
            return _Spelling(_FLOAT, _NO_EXPONENT)
        case Boolean():
            return _Spelling()
        case Uuid(as_uuid=True, native_uuid=True):
            return _Spelling(load=UUID)
        case JSONB():
            return _Spelling(plain=_PLAIN_JSONB)
    return None


def _on_sqlite(kind: TypeEngine[Any]) -> _Spelling | None:
    match kind:
        case Timestamp():
            return _Spelling(load=datetime.fromisoformat)
        case Fixed(places=places) if places <= PLACES:
            return _units(kind)
        case Float(asdecimal=False):
            return _Spelling("json(json_number({0}))")
        case Boolean():
            return _Spelling("json(CASE WHEN {0} THEN 'true' WHEN NOT {0} THEN 'false' END)")
        case Uuid(as_uuid=True):
            return _Spelling(_DASHED, load=UUID)
        case JSON():
            return _Spelling("json(CASE typeof({0}) WHEN 'real' THEN json_number({0}) ELSE {0} END)")
    return None


def _units(kind: Fixed) -> _Spelling:
    """The decimal number of so many smallest units."""
    one, digits = 10**kind.places, "CAST({0} AS TEXT)"
    if kind.places:
        digits = (
            f"CASE WHEN {{0}} IS NOT NULL THEN printf('%s%d.%0{kind.places}d',"
            f" CASE WHEN {{0}} < 0 THEN '-' ELSE '' END, abs({{0}}) / {one}, abs({{0}}) % {one}) END"
        )
    trimmed = f"rtrim(rtrim({digits}, '0'), '.')" if kind.places else digits
    if kind.as_float:
        # With more digits the nearest float may have a shorter spelling.
        return _Spelling(f"json({trimmed} || CASE WHEN {{0}} % {one} THEN '' ELSE '.0' END)", f"abs({{0}}) < {10**15}")
    return _Spelling(trimmed if kind.trimmed else digits, load=Decimal)


_PAGE = """'"limit":' || CAST({0} AS TEXT) || ',"skip":' || CAST({1} AS TEXT) || ',"data":' || {2} || '}}'"""
_MOMENT = """to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
_DASHED = " || '-' || ".join(
    f"substr({{0}}, {start}, {size})" for start, size in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
)
_FLOAT = (
    "CAST(CASE WHEN {0} IN ('NaN', 'Infinity', '-Infinity') THEN NULL WHEN {0}::text ~ '[.e]' THEN {0}::text"
    " ELSE {0}::text || '.0' END AS json)"
)
_NO_EXPONENT = "strpos({0}::text, 'e') = 0"
# No space between values, no fraction, no integer that is read as a float.
_PLAIN_JSONB = r"({0} IN ('{{}}', '[]') OR {0}::text !~ '[ .]|\d{{20}}')"
