"""JSON that the database writes: byte for byte what ``apex.encoding.encode`` makes of the rows.

Where a database spells a value in another way (JSONB with spaces, floats with an exponent), the text comes with a flag
that it is not ``plain``; ``raw_json`` then puts it right. Rows that hooks look at go through a ``loader`` first.
``apex.sql.types`` has the spelling of each type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Boolean, ColumnElement, Dialect, bindparam

from apex.encoding import RawJSON, decode, encode
from apex.sql.types import SQL, Spelling, known_type
from apex.types import Row

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
    return Written(text, SQL("coalesce({0}, true)", _all(flags), type=Boolean()) if flags else None)


def rows_json(columns: Iterable[ColumnElement[Any]], dialect: Dialect) -> Written:
    """The array of the rows of a subquery with these columns, in the subquery's order. Raises Unwritable.

    The order holds as long as the statement reads the subquery alone.
    """
    text, flags = _object(list(columns), dialect)
    postgresql = dialect.name == "postgresql"
    array = "'[' || coalesce(string_agg({0}, ','), '') || ']'" if postgresql else "json_group_array({0})"
    every = "coalesce(bool_and({0}), true)" if postgresql else "coalesce(min({0}), 1)"
    return Written(SQL(array, text), SQL(every, _all(flags), type=Boolean()) if flags else None)


def page_json(columns: Iterable[ColumnElement[Any]], total: ColumnElement[Any] | None, dialect: Dialect) -> Written:
    """The page with the rows of a subquery, and a total where one is given; ``limit`` and ``skip`` are parameters.

    Raises Unwritable.
    """
    rows = rows_json(columns, dialect)
    limit, skip = (bindparam(name, type_=BigInteger()) for name in ("limit", "skip"))
    if total is None:
        return Written(SQL(f"'{{{{' || {_PAGE}", limit, skip, rows.text), rows.plain)
    counted = f"""'{{{{"total":' || CAST({{3}} AS TEXT) || ',' || {_PAGE}"""
    return Written(SQL(counted, limit, skip, rows.text, total), rows.plain)


def raw_json(written: Sequence[Any], load: Callable[[Any], Any] | None = None) -> RawJSON:
    """What the database has written, as the encoder spells it, and what gives its values their types."""
    text, *plain = written
    if all(plain):
        return RawJSON(text.encode(), load)
    if load is None:
        return RawJSON(encode(decode(text)))
    # JSON may lack the fractions of a millisecond that the values have.
    return RawJSON(encode(load(decode(text))), lambda _: load(decode(text)))


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


def _object(columns: list[ColumnElement[Any]], dialect: Dialect) -> tuple[ColumnElement[str], list[SQL]]:
    """The object's text, and a flag for each column that needs one."""
    spelled = [(column, _spelling(column, dialect)) for column in columns]
    flags = [SQL(spelling.plain, column, type=Boolean()) for column, spelling in spelled if spelling.plain]
    values = [SQL(spelling.value, column) for column, spelling in spelled]
    names = [str(column.name).replace("{", "{{").replace("}", "}}") for column in columns]
    if dialect.name == "postgresql":
        quote = dialect.identifier_preparer.quote
        listed = ", ".join(f"{{{place}}} AS {quote(name)}" for place, name in enumerate(names))
        return SQL(f"(SELECT row_to_json(row_.*) FROM (SELECT {listed}) AS row_)::text", *values), flags
    if len(columns) > MOST_COLUMNS:
        raise Unwritable(f"An object with more than {MOST_COLUMNS} properties is too large for SQLite")
    listed = ", ".join("'{}', {{{}}}".format(name.replace("'", "''"), place) for place, name in enumerate(names))
    return SQL(f"json_object({listed})", *values), flags


def _all(flags: list[SQL]) -> SQL:
    return SQL(" AND ".join(f"{{{place}}}" for place in range(len(flags))), *flags)


def _spelling(column: ColumnElement[Any], dialect: Dialect) -> Spelling:
    made = known_type(column.type, dialect)
    spelling = None if made is None else made.spelling()
    if spelling is None:
        raise Unwritable(f"{dialect.name} cannot write '{column.name}' as the encoder does: it is {column.type!r}")
    return spelling


_PAGE = """'"limit":' || CAST({0} AS TEXT) || ',"skip":' || CAST({1} AS TEXT) || ',"data":' || {2} || '}}'"""
