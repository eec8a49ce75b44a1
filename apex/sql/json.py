"""JSON that the database writes, byte for byte as ``apex.encoding.encode`` would write the rows.

Where a database spells a value in another way (JSONB with spaces, floats with an exponent), the text comes with a flag
that says it is not ``plain``. ``json_reader`` then encodes it again. ``ColumnType.spelling`` has the SQL of each type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Boolean, ColumnElement, Dialect, bindparam

from apex.encoding import RawJSON, decode, encode
from apex.sql.types.registry import SQL, Processor, Spelling, known_type
from apex.types import Row

MOST_COLUMNS = 63
"""The most columns of an object on SQLite. A function takes 127 arguments, and an object takes two for each column."""


class Unwritable(TypeError):
    """The database cannot write these columns as the encoder does: read the rows and encode them."""


@dataclass(frozen=True, slots=True)
class JsonColumns:
    """An expression for a JSON text, and one that is true if the encoder would write the same. None means always."""

    text: ColumnElement[str]
    plain: ColumnElement[bool] | None

    @property
    def columns(self) -> list[ColumnElement[Any]]:
        """The columns to select or return: ``json`` and, where it is needed, ``plain``."""
        flag = [] if self.plain is None else [self.plain.label("plain")]
        return [self.text.label("json"), *flag]


def row_json(columns: Iterable[ColumnElement[Any]], dialect: Dialect) -> JsonColumns:
    """Return the object of a row. Its keys are the names of the columns, in their order. Raises Unwritable."""
    text, flags = _object(list(columns), dialect)
    return JsonColumns(text, SQL("coalesce({0}, true)", _all(flags), type=Boolean()) if flags else None)


def rows_json(columns: Iterable[ColumnElement[Any]], dialect: Dialect) -> JsonColumns:
    """Return the array of a subquery's rows, in its order. Raises Unwritable.

    The order holds only if the statement reads nothing but the subquery.
    """
    text, flags = _object(list(columns), dialect)
    postgresql = dialect.name == "postgresql"
    array = "'[' || coalesce(string_agg({0}, ','), '') || ']'" if postgresql else "json_group_array({0})"
    every = "coalesce(bool_and({0}), true)" if postgresql else "coalesce(min({0}), 1)"
    return JsonColumns(SQL(array, text), SQL(every, _all(flags), type=Boolean()) if flags else None)


def page_json(columns: Iterable[ColumnElement[Any]], total: ColumnElement[Any] | None, dialect: Dialect) -> JsonColumns:
    """Return the page with a subquery's rows, and with a total if one is given. Raises Unwritable.

    ``limit`` and ``skip`` are parameters of the statement.
    """
    rows = rows_json(columns, dialect)
    limit, skip = (bindparam(name, type_=BigInteger()) for name in ("limit", "skip"))
    if total is None:
        return JsonColumns(SQL(f"'{{{{' || {_PAGE}", limit, skip, rows.text), rows.plain)
    counted = f"""'{{{{"total":' || CAST({{3}} AS TEXT) || ',' || {_PAGE}"""
    return JsonColumns(SQL(counted, limit, skip, rows.text, total), rows.plain)


def row_output(columns: list[Any], dialect: Dialect) -> tuple[list[Any], Processor]:
    """Return the columns to select or return for the object of a row, and the function that reads it.

    Raises Unwritable.
    """
    return row_json(columns, dialect).columns, json_reader(row_reader(columns, dialect))


def page_output(
    columns: Iterable[ColumnElement[Any]], total: ColumnElement[Any] | None, dialect: Dialect
) -> tuple[list[Any], Processor]:
    """Return the columns to select for a page of a subquery's rows, and the function that reads it.

    Raises Unwritable.
    """
    columns = list(columns)
    read_row = row_reader(columns, dialect)

    def read_page(page: Any) -> Any:
        page["data"] = [read_row(row) for row in page["data"]]
        return page

    return page_json(columns, total, dialect).columns, json_reader(read_page)


def json_reader(read: Processor | None = None) -> Callable[[Sequence[Any]], RawJSON]:
    """Return the function that makes JSON of the columns of ``JsonColumns``, as the encoder writes it.

    ``read`` gives the values of the decoded JSON their types.
    """

    def read_json(written: Sequence[Any]) -> RawJSON:
        text, *plain = written
        if all(plain):
            return RawJSON(text.encode(), read)
        if read is None:
            return RawJSON(encode(decode(text)))
        typed = read
        # JSON may lack the fractions of a millisecond that the values have, so it is decoded from the first text.
        return RawJSON(encode(typed(decode(text))), lambda _: typed(decode(text)))

    return read_json


def row_reader(columns: Iterable[ColumnElement[Any]], dialect: Dialect) -> Callable[[Row], Row]:
    """Return the function that gives the values of a decoded row, in place, the types that values of rows have.

    Raises Unwritable.
    """
    spelled = ((str(column.name), _spelling(column, dialect).load) for column in columns)
    loads = [(name, load) for name, load in spelled if load is not None]

    def read_row(row: Row) -> Row:
        for name, load in loads:
            if row[name] is not None:
                row[name] = load(row[name])
        return row

    return read_row


def is_writable(columns: Iterable[ColumnElement[Any]], dialect: Dialect) -> bool:
    """Return True if the database can write rows with these columns as the encoder does."""
    try:
        row_json(columns, dialect)
    except Unwritable:
        return False
    return True


def _object(columns: list[ColumnElement[Any]], dialect: Dialect) -> tuple[ColumnElement[str], list[SQL]]:
    """Return the text of an object, and a flag for each column that needs one."""
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
