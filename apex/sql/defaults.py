"""The defaults of columns, those that Python makes for each row and those that the database fills in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    ClauseElement,
    Column,
    Dialect,
    FetchedValue,
    Identity,
    Integer,
    Sequence,
    Table,
    literal,
)  # fmt: skip
from sqlalchemy.sql import functions

from apex.encoding import encode
from apex.query.coercion import Coerce
from apex.sql.types.registry import known_type
from apex.types import Row

Make = Callable[[Row], Any]


class DefaultContext:
    """The argument of a ``default=`` or ``onupdate=`` function, with the row that the function makes a value for.

    It has those parts of SQLAlchemy's execution context that need no connection.
    """

    def __init__(self, parameters: Row, column: Any) -> None:
        self.current_parameters: Row = parameters
        self.current_column: Any = column

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> Row:
        """Return the values of the row by the keys of columns, with those that defaults have made so far.

        If a statement has several rows, these are the values of one row. With ``isolate_multiinsert_groups=False`` they
        are the values of all rows.
        """
        column, parameters = self.current_column, self.current_parameters
        if not isolate_multiinsert_groups:
            return parameters
        # SQLAlchemy names the values of several rows name_m0, name_m1 and so on, and their columns too.
        original = getattr(column, "original", column)
        suffix, keys = f"_m{0 if original is column else column.index + 1}", original.table.c
        own = {name.removesuffix(suffix): value for name, value in parameters.items() if name.endswith(suffix)}
        return own if own and all(name in keys and f"{name}{suffix}" not in keys for name in own) else parameters

    @property
    def connection(self) -> Any:
        """Raise NotImplementedError, because defaults run outside of a connection."""
        raise NotImplementedError("A default has no connection here: use an SQL expression, or a hook")


class Defaults:
    """The defaults of a table's columns, by the names of the columns.

    Python makes the defaults in ``on_insert`` and ``on_update``. The database fills the columns in ``filled`` if a new
    row has no value for them. ``read_only`` are columns that only the database writes. Raises TypeError for a constant
    that does not fit its column.
    """

    def __init__(self, table: Table, id: str, coercers: Mapping[str, Coerce]) -> None:
        columns = _columns(table)
        self.on_insert: Mapping[str, Make] = _made(columns, "default", coercers)
        self.on_update: Mapping[str, Make] = _made(columns, "onupdate", coercers)
        self.filled: tuple[str, ...] = tuple(
            str(c.name) for c in columns if c.name == id or (_is_filled(c) and c.name not in self.on_insert)
        )
        self.read_only: frozenset[str] = frozenset(
            str(c.name) for c in columns if c.computed is not None or _is_always_identity(c)
        )
        self.ids_ascend: bool = any(_ascends(column) for column in columns if column.name == id)

    def of_insert(self, row: Row) -> Row:
        """Return the row with the defaults that Python makes."""
        return _filled(row, self.on_insert)

    def of_update(self, values: Row) -> Row:
        """Return the changes with the defaults that Python makes."""
        return _filled(values, self.on_update) if self.on_update else values


def has_default(column: Any) -> bool:
    """Return True if a column gets a value when the caller gives none."""
    sources = (column.default, column.server_default, column.onupdate, column.server_onupdate)
    return any(source is not None for source in sources)


def require_sqlite(table: Table, id: str) -> None:
    """Raise TypeError for a column that SQLite would silently leave null."""
    for column in _columns(table):
        if encode(column.name).decode() != f'"{column.name}"':
            raise TypeError(
                f"SQLite finds no {column.name!r} in JSON: leave out quotes, backslashes and control characters"
            )
        if column.name != id and (isinstance(column.default, Sequence) or column.identity is not None):
            kind = "Identity" if column.identity is not None else "Sequence"
            raise TypeError(f"SQLite has no {kind}, which fills {column}: only the id counts up there")


def set_by_trigger(table: Table) -> bool:
    """Return True if a trigger writes a column. SQLite's RETURNING does not return such values."""
    sources = (
        source for c in _columns(table) for source in (c.server_default, c.server_onupdate) if c.computed is None
    )
    return any(source is not None and not source.has_argument and not source.is_identity for source in sources)


def moments_of(table: Table, source: str, dialect: Dialect) -> Mapping[str, Any]:
    """Return the SQL expressions of moments that the database makes, by column. ``source`` is default or onupdate.

    They have milliseconds and the form of the column's type, as values from Python have, so that all values compare.
    """
    written = {}
    for column in _columns(table):
        made = known_type(column.type, dialect)
        default = getattr(column, source) or (column.server_default if source == "default" else None)
        arg = getattr(default, "arg", None)
        if made is None or not (isinstance(arg, ClauseElement) or (arg and isinstance(default, FetchedValue))):
            continue
        moment: Any = literal(arg) if isinstance(arg, str) else arg
        if dialect.name == "sqlite" and isinstance(arg, functions.now | functions.current_timestamp):
            moment = literal("now")  # CURRENT_TIMESTAMP has no milliseconds.
        if (expression := made.written(moment)) is not None:
            written[str(column.name)] = expression
    return written


def _columns(table: Table) -> list[Any]:
    """Return the columns of a table. The columns of a subquery have no defaults."""
    return [column for column in table.columns if isinstance(column, Column)]


def _filled(row: Row, makes: Mapping[str, Make]) -> Row:
    row = dict(row)
    for name, make in makes.items():
        if name not in row:
            row[name] = make(row)
    return row


def _made(columns: list[Any], source: str, coercers: Mapping[str, Coerce]) -> Mapping[str, Make]:
    defaults = [(column, getattr(column, source)) for column in columns]
    return {
        str(column.name): _make(column, source, default, coercers[str(column.name)])
        for column, default in defaults
        if default is not None and (default.is_callable or default.is_scalar)
    }


def _make(column: Any, source: str, default: Any, coerce: Coerce) -> Make:
    def typed(value: Any) -> Any:
        try:
            return coerce(value)
        except ValueError as error:
            raise TypeError(f"The {source} of {column} makes {value!r}, which {error}") from None

    if default.is_callable:
        return lambda row: typed(default.arg(DefaultContext(row, column)))
    constant = typed(default.arg)
    return lambda row: constant


def _is_filled(column: Any) -> bool:
    return column.default is not None or column.server_default is not None


def _is_always_identity(column: Any) -> bool:
    return column.identity is not None and bool(column.identity.always)


def _ascends(column: Any) -> bool:
    """Return True if each id that the database makes is larger than the one before."""
    source = column.identity or column.default
    if isinstance(source, (Identity, Sequence)):
        return (source.increment or 1) > 0 and not source.cycle
    return isinstance(column.type, Integer) and not _is_filled(column)
