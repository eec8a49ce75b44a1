"""The registry of column types: the form of their values in Python, in JSON, in queries and on each database.

A subclass of ``ColumnType`` has all of that for some types of SQLAlchemy. ``column_type`` finds it by the class of a
column's type, or by the nearest of its base classes. A service whose table has an unknown type cannot be registered.
``apex.sql.types.standard`` has the types of SQLAlchemy, ``apex.sql.types.columns`` those of apex.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Dialect, FromClause, func
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from apex.query import coercion as coerce
from apex.query.coercion import Coerce

Shape = dict[str, Any]
Processor = Callable[[Any], Any]


class SQL(FunctionElement[Any]):
    """SQL text around expressions: ``{0}`` is the first."""

    inherit_cache: bool | None = False

    def __init__(self, template: str, *expressions: Any, type: TypeEngine[Any] | None = None) -> None:
        super().__init__(*expressions)
        self.template: str = template
        self.type: TypeEngine[Any] = type or sa.Text()


@compiles(SQL)
def _compile(element: SQL, compiler: SQLCompiler, **options: Any) -> str:
    return element.template.format(*(compiler.process(part, **options) for part in element.clauses))


@dataclass(frozen=True, slots=True)
class Spelling:
    """The SQL for a value in a JSON object, and the function that reads the decoded JSON.

    ``plain`` is the SQL of a condition that is true if apex's encoder would write the same. None means always.
    """

    value: str = "{0}"
    plain: str | None = None
    load: Processor | None = None


class ColumnType:
    """The column type for some types of SQLAlchemy. A subclass is registered for the ``types`` that it names.

    Describe the JSON values of your own type::

        class Points(ColumnType, types=[Point]):
            shape = {"type": "string"}

            def coerce(self, value):  # from JSON, a query or a hook, to what the SQLAlchemy type takes
                return value if isinstance(value, tuple) else parse(value)

            def read(self, value):  # from what the SQLAlchemy type gives to what a record has
                return f"{value[0]},{value[1]}"

    ``coerce`` raises ValueError with a sentence such as "must be a point". It also takes the values that ``read``
    returns. ``holds`` names the content, such as "JSON", if queries can neither filter nor sort by the column.
    """

    shape: Mapping[str, Any] = {}
    holds: str = ""
    is_text: bool = False
    """True if ``$like`` and a search can look into the values."""
    is_json: bool = False
    """True if the database stores JSON."""
    functions: Sequence[str] = ()
    """The functions of aggregates that the values have."""
    keeps_empty: bool = False
    """True if an empty text in a URL is a value and not null."""
    oid: int | None = None
    """PostgreSQL's id of the type, if SQLAlchemy needs it to read the values."""

    def __init_subclass__(cls, *, types: Sequence[type[TypeEngine[Any]]] = (), **options: Any) -> None:
        super().__init_subclass__(**options)
        _REGISTRY.update(dict.fromkeys(types, cls))
        column_type.cache_clear()

    def __init__(self, type: Any, dialect: Dialect | None = None) -> None:
        self.type: Any = type
        self.dialect: Dialect | None = dialect
        self.postgresql: bool = dialect is not None and dialect.name == "postgresql"
        self.sqlite: bool = dialect is not None and dialect.name == "sqlite"
        self.impl: Any = type if dialect is None else type.dialect_impl(dialect)

    def check(self) -> None:
        """Raise TypeError with the reason if the type cannot be used, or cannot be used on the database."""

    def coerce(self, value: Any) -> Any:
        """Return a value from outside as the SQLAlchemy type takes it. Raises ValueError with the rule."""
        return value

    def read(self, value: Any) -> Any:
        """Return the value of a record for a value from the SQLAlchemy type."""
        return value

    def nullable(self) -> Coerce:
        """Return ``coerce`` for a column that may be null."""
        return coerce.optional(self.coerce) if self.is_text or self.keeps_empty else coerce.nullable(self.coerce)

    @cached_property
    def binder(self) -> Processor | None:
        """The function that prepares a value for the driver. None, if the driver takes the value as it is."""
        return None if self.dialect is None else self.impl.bind_processor(self.dialect)

    def reader(self) -> Processor | None:
        """Return the function that reads a value from the driver. None, if the value stays as it is."""
        process = None if self.dialect is None else self.impl.result_processor(self.dialect, self.oid)
        if type(self).read is ColumnType.read:
            return process
        read = self.read

        def load(value: Any) -> Any:
            given = value if process is None else process(value)
            return None if given is None else read(given)

        return load

    @property
    def changes_values(self) -> bool:
        """True if a value is read in another form than it is stored."""
        own = type(self)
        return own.read is not ColumnType.read or own.as_read is not ColumnType.as_read

    def as_read(self, value: Any) -> Any:
        """Return the value that a record will have after this value is stored."""
        return None if value is None else self.read(value)

    def restored(self, value: Any) -> Any:
        """Return a value from a cursor as the SQLAlchemy type takes it. Cursors hold values in their JSON form."""
        return value if type(self).read is ColumnType.read else self.coerce(value)

    @property
    def parameter(self) -> TypeEngine[Any]:
        """The type of a value that the column is compared with."""
        parameter: TypeEngine[Any] = self.type
        return parameter

    def ordered(self, expression: Any) -> Any:
        """Return the expression for orders and ranges, which are the same on every database."""
        return expression

    def summed(self, expression: Any) -> Any:
        """Return the expression whose sum is exact, or at least the same on every database."""
        return expression

    def total(self, value: Any) -> Any:
        """Return the sum of values, from what the SQLAlchemy type reads."""
        return value

    def listed(self, expression: Any, values: Any) -> ColumnElement[bool]:
        """Return the condition that the expression is among the values of a JSON array, on SQLite."""
        member: ColumnElement[bool] = expression.in_(values)
        return member

    @property
    def dumps_otherwise(self) -> bool:
        """True if ``dumped`` returns other JSON than apex's encoder writes."""
        return self.binder is not None or type(self).dumped is not ColumnType.dumped

    def dumped(self, value: Any) -> Any:
        """Return a value as JSON, for ``listed`` and for inserts of many rows. ``extracted`` reads it."""
        return value if self.binder is None or value is None else self.binder(value)

    def extracted(self, object: Any, name: str) -> Any:
        """Return the expression for the value of a name in a JSON object that the database reads."""
        text = object.op("->>")(json_key(name, self.postgresql))
        return sa.cast(text, self.type) if self.postgresql and not self.is_text else text

    def written(self, moment: Any) -> Any:
        """Return the SQL of a moment from the database in the form of values from Python. None, if it has that form."""
        return None

    def spelling(self) -> Spelling | None:
        """Return how the database writes a value as JSON. None, if apex has to read and encode the rows."""
        return None


_REGISTRY: dict[type[Any], type[ColumnType]] = {}


@lru_cache(maxsize=4096)  # Each service of a table asks for it several times, and SQLAlchemy takes types as keys, too.
def column_type(sql_type: TypeEngine[Any], dialect: Dialect | None = None) -> ColumnType:
    """Return the column type for a type of SQLAlchemy.

    Raises TypeError if none is registered, or if it cannot be used on the database.
    """
    found = next((_REGISTRY[base] for base in type(sql_type).__mro__ if base in _REGISTRY), None)
    if found is None:
        raise TypeError("is not known: register it with a subclass of apex.sql.ColumnType")
    made = found(sql_type, dialect)
    made.check()
    return made


def known_type(sql_type: TypeEngine[Any], dialect: Dialect) -> ColumnType | None:
    """Return the column type, or None where ``column_type`` raises."""
    try:
        return column_type(sql_type, dialect)
    except TypeError:
        return None


def column_types(table: FromClause, dialect: Dialect | None = None) -> dict[str, ColumnType]:
    """Return the types of a table's columns by name.

    Raises TypeError with the table, the column and the type if a type cannot be used.
    """
    types: dict[str, ColumnType] = {}
    for column in table.columns:
        try:
            types[str(column.name)] = column_type(column.type, dialect)
        except TypeError as error:
            raise TypeError(f"Column '{table}.{column.name}': the type {column.type!r} {error}") from None
    return types


def coercers(table: FromClause, dialect: Dialect | None = None) -> Mapping[str, Coerce]:
    """Return by column name the functions that convert a value from outside. They raise ValueError."""
    return {name: coercer(made, table.columns[name]) for name, made in column_types(table, dialect).items()}


def coercer(made: ColumnType, column: Any) -> Coerce:
    """Return the function that converts a value from outside for a column. It takes null if the column does."""
    function = made.nullable() if column.nullable else made.coerce
    return coerce.opaque(function, made.holds) if made.holds and coerce.held(function) is None else function


def shapes_of(table: FromClause) -> Mapping[str, Shape]:
    """Return the JSON Schema of each column, by name."""
    return {name: _shape(made, table.columns[name].nullable) for name, made in column_types(table).items()}


def shape_of(column: ColumnElement[Any]) -> Shape:
    """Return the JSON Schema of a column's values."""
    return _shape(column_type(column.type), getattr(column, "nullable", None))


def _shape(made: ColumnType, nullable: bool | None) -> Shape:
    if nullable:
        return nullable_shape(made.shape)
    return dict(made.shape) or {"not": {"type": "null"}}


def nullable_shape(shape: Mapping[str, Any]) -> Shape:
    """Return the JSON Schema that allows null too."""
    if "type" not in shape:
        return dict(shape)
    types = shape["type"] if isinstance(shape["type"], list) else [shape["type"]]
    listed = {"enum": [*shape["enum"], None]} if "enum" in shape else {}
    return {**shape, "type": [*types, "null"], **listed}


def value_binder(sql_type: TypeEngine[Any], dialect: Dialect) -> Processor | None:
    """Return the function that prepares a value for the driver, as SQLAlchemy does. None, if there is nothing to do."""
    process: Processor | None = sql_type.dialect_impl(dialect).bind_processor(dialect)
    return process


def value_reader(sql_type: TypeEngine[Any], dialect: Dialect) -> Processor | None:
    """Return the function that reads a value from the driver. None, if there is nothing to do.

    Types that are not registered are read as SQLAlchemy does.
    """
    made = known_type(sql_type, dialect)
    process: Processor | None = (
        sql_type.dialect_impl(dialect).result_processor(dialect, None) if made is None else made.reader()
    )
    return process


def json_key(name: str, postgresql: bool) -> Any:
    """Return the SQL for a key of a JSON object."""
    quoted = name.replace("'", "''")
    return sa.literal_column(f"'{quoted}'" if postgresql else f"'$.\"{quoted}\"'")


def json_member(object: Any, name: str, postgresql: bool) -> Any:
    """Return the SQL for the JSON value of a name in a JSON object, with NULL for JSON's null."""
    return func.nullif(object.op("->")(json_key(name, postgresql)), sa.literal_column("'null'"))
