"""The registry of column types: the form of their values in Python, in JSON, in queries and on each database.

A class for each kind of column holds all of that. It is found by the class of the column's type, or the nearest of its
base classes. A type without one is refused when its service is registered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Dialect, FromClause, func
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from apex.query import coercion as coerce
from apex.query.coercion import Coerce

Shape = dict[str, Any]
Processor = Callable[[Any], Any]

PLAIN = (str, int, float, list, dict, type(None))
"""The types of values in JSON."""


class SQL(FunctionElement[Any]):
    """SQL text around expressions: ``{0}`` is the first."""

    inherit_cache = False

    def __init__(self, template: str, *expressions: Any, type: TypeEngine[Any] | None = None) -> None:
        super().__init__(*expressions)
        self.template, self.type = template, type or sa.Text()


@compiles(SQL)
def _compile(element: SQL, compiler: SQLCompiler, **options: Any) -> str:
    return element.template.format(*(compiler.process(part, **options) for part in element.clauses))


@dataclass(frozen=True, slots=True)
class Spelling:
    """The SQL for a value in a JSON object, and the function that reads the decoded JSON.

    ``plain`` is the SQL of a condition: true if the encoder would write the same. None means always.
    """

    value: str = "{0}"
    plain: str | None = None
    load: Processor | None = None


class ColumnType:
    """A kind of column. A subclass is registered for the SQLAlchemy ``types`` that it names.

    Describe the JSON values of your own type::

        class Points(ColumnType, types=[Point]):
            shape = {"type": "string"}

            def coerce(self, value):  # from JSON, a query or a hook, to what the SQLAlchemy type takes
                return value if isinstance(value, tuple) else parse(value)

            def read(self, value):  # from what the SQLAlchemy type gives to what a record holds
                return f"{value[0]},{value[1]}"

    ``coerce`` raises ValueError with a sentence such as "must be a point". It also takes the values that ``read``
    returns. ``holds`` names the content, such as "JSON", if queries can neither compare the column nor sort by it.
    """

    shape: Mapping[str, Any] = {}
    holds: str = ""
    is_text: bool = False
    """True if ``$like`` and a search can look into it."""
    is_json: bool = False
    """True if the database stores it as JSON."""
    keeps_empty: bool = False
    """True if an empty text in a URL is a value and not null."""
    oid: int | None = None
    """PostgreSQL's id of the type, if SQLAlchemy needs it to read the values."""

    def __init_subclass__(cls, *, types: Sequence[type[TypeEngine[Any]]] = (), **options: Any) -> None:
        super().__init_subclass__(**options)
        _REGISTRY.update(dict.fromkeys(types, cls))

    def __init__(self, type: Any, dialect: Dialect | None = None) -> None:
        self.type, self.dialect = type, dialect
        self.postgresql = dialect is not None and dialect.name == "postgresql"
        self.sqlite = dialect is not None and dialect.name == "sqlite"
        self.impl: Any = type if dialect is None else type.dialect_impl(dialect)

    def check(self) -> None:
        """Raise TypeError with the reason if the type cannot be used, or not on the database."""

    def coerce(self, value: Any) -> Any:
        """Return a value from outside as the SQLAlchemy type takes it. Raises ValueError with the rule."""
        return value

    def read(self, value: Any) -> Any:
        """Return a value as a record holds it, from the one that the SQLAlchemy type gives."""
        return value

    def nullable(self) -> Coerce:
        """Return ``coerce`` for a column that may be null."""
        return coerce.optional(self.coerce) if self.is_text or self.keeps_empty else coerce.nullable(self.coerce)

    @cached_property
    def binder(self) -> Processor | None:
        """Prepares a value for the driver. None: there is nothing to do."""
        return None if self.dialect is None else self.impl.bind_processor(self.dialect)

    def loader(self) -> Processor | None:
        """Return the function that reads a value as the driver gives it. None: there is nothing to do."""
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
        kind = type(self)
        return kind.read is not ColumnType.read or kind.as_read is not ColumnType.as_read

    def as_read(self, value: Any) -> Any:
        """Return a value that is about to be stored as it will be read."""
        return None if value is None else self.read(value)

    def restored(self, value: Any) -> Any:
        """Return a value of a cursor, which has it in its JSON form, as the SQLAlchemy type takes it."""
        return value if type(self).read is ColumnType.read else self.coerce(value)

    @property
    def parameter(self) -> TypeEngine[Any]:
        """The type of a value that the column is compared with."""
        parameter: TypeEngine[Any] = self.type
        return parameter

    def ordered(self, expression: Any) -> Any:
        """Return the expression for orders and ranges, which are then the same on every database."""
        return expression

    def listed(self, expression: Any, values: Any) -> ColumnElement[bool]:
        """Return the condition that the expression is among the values of a JSON array, on SQLite."""
        member: ColumnElement[bool] = expression.in_(values)
        return member

    @property
    def dumps_otherwise(self) -> bool:
        """True if ``dumped`` returns other JSON than the encoder writes."""
        return self.binder is not None or type(self).dumped is not ColumnType.dumped

    def dumped(self, value: Any) -> Any:
        """Return a value as JSON, for ``listed`` and for inserts of many rows, where ``extracted`` reads it."""
        return value if self.binder is None or value is None else self.binder(value)

    def extracted(self, object: Any, name: str) -> Any:
        """Return the expression for the value of a name in a JSON object that the database reads."""
        text = object.op("->>")(key(name, self.postgresql))
        return sa.cast(text, self.type) if self.postgresql and not self.is_text else text

    def written(self, moment: Any) -> Any:
        """Return the SQL of a moment that the database fills in, in the form of values from Python. None: as it is."""
        return None

    def spelling(self) -> Spelling | None:
        """Return how the database writes a value as JSON. None: rows are read and encoded instead."""
        return None


_REGISTRY: dict[type[Any], type[ColumnType]] = {}


def column_type(kind: TypeEngine[Any], dialect: Dialect | None = None) -> ColumnType:
    """Return the kind of a type. Raises TypeError if it is not registered, or cannot be used on the database."""
    found = next((_REGISTRY[base] for base in type(kind).__mro__ if base in _REGISTRY), None)
    if found is None:
        raise TypeError("is not known: register it with a subclass of apex.sql.ColumnType")
    made = found(kind, dialect)
    made.check()
    return made


def known_type(kind: TypeEngine[Any], dialect: Dialect) -> ColumnType | None:
    """Return what is known of a type, or None for one that is not registered, or not for the database."""
    try:
        return column_type(kind, dialect)
    except TypeError:
        return None


def column_types(table: FromClause, dialect: Dialect | None = None) -> dict[str, ColumnType]:
    """Return the kind of each column, by name.

    Raises TypeError naming table, column and type where one cannot be used.
    """
    types: dict[str, ColumnType] = {}
    for column in table.columns:
        try:
            types[str(column.name)] = column_type(column.type, dialect)
        except TypeError as error:
            raise TypeError(f"Column '{table}.{column.name}': the type {column.type!r} {error}") from None
    return types


def coercers(table: FromClause, dialect: Dialect | None = None) -> Mapping[str, Coerce]:
    """Return for each column the function that converts a value from outside to the column's type, or refuses it."""
    return {name: coercer(made, table.columns[name]) for name, made in column_types(table, dialect).items()}


def coercer(made: ColumnType, column: Any) -> Coerce:
    """Return the function for a column, which takes null where the column does."""
    function = made.nullable() if column.nullable else made.coerce
    return coerce.opaque(function, made.holds) if made.holds and coerce.held(function) is None else function


def shapes_of(table: FromClause) -> Mapping[str, Shape]:
    """Return the JSON Schema of each column, by name."""
    return {name: _shape(made, table.columns[name].nullable) for name, made in column_types(table).items()}


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


def binder(kind: TypeEngine[Any], dialect: Dialect) -> Processor | None:
    """Return the function that prepares a value for the driver. None: there is nothing to do.

    Types that are not registered are bound as SQLAlchemy does.
    """
    process: Processor | None = kind.dialect_impl(dialect).bind_processor(dialect)
    return process


def loader(kind: TypeEngine[Any], dialect: Dialect) -> Processor | None:
    """Return the function that reads a value from the driver. None: there is nothing to do.

    Types that are not registered are read as SQLAlchemy does.
    """
    made = known_type(kind, dialect)
    process: Processor | None = (
        kind.dialect_impl(dialect).result_processor(dialect, None) if made is None else made.loader()
    )
    return process


class Decorated(ColumnType, types=[TypeDecorator]):
    """A type decorator. Its JSON form is that of its ``impl``, and its own processing runs everywhere."""

    def __init__(self, type: Any, dialect: Dialect | None = None) -> None:
        super().__init__(type, dialect)
        given = type.impl if dialect is None else type.load_dialect_impl(dialect)
        self.stored = column_type(given, dialect)
        self.form = self.stored if given is type.impl else column_type(type.impl)
        self.shape, self.holds = self.form.shape, self.form.holds or self.stored.holds
        self.is_text, self.is_json, self.oid = self.stored.is_text, self.stored.is_json, self.stored.oid
        self.keeps_empty = self.form.is_text or self.form.keeps_empty
        self.is_read_as_stored = _keeps(type, "process_result_value")
        self.is_bound_as_given = _keeps(type, "process_bind_param")

    def check(self) -> None:
        if isinstance(self.type, sa.PickleType):
            raise TypeError("holds pickled objects, which have no form in JSON: use apex.sql.Json")
        if not _keeps(self.type, "bind_expression", "column_expression"):
            raise TypeError("has SQL around its values, which inserts of many rows would leave out")
        if not _keeps(self.type, "bind_processor", "result_processor"):
            raise TypeError("replaces whole processors: give it process_bind_param and process_result_value")

    def coerce(self, value: Any) -> Any:
        given = self.form.coerce(value) if isinstance(value, PLAIN) else value
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

    def loader(self) -> Processor | None:
        return self.stored.loader() if self.is_read_as_stored else super().loader()

    def as_read(self, value: Any) -> Any:
        bound = self._bound(value)
        return bound if self.is_read_as_stored else self.type.process_result_value(bound, self.dialect)

    def ordered(self, expression: Any) -> Any:
        return self.stored.ordered(expression)

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
    """Return True if a decorator leaves these methods as they are."""
    return all(getattr(type.__class__, name) is getattr(TypeDecorator, name) for name in names)


def key(name: str, postgresql: bool) -> Any:
    quoted = name.replace("'", "''")
    return sa.literal_column(f"'{quoted}'" if postgresql else f"'$.\"{quoted}\"'")


def json_of(object: Any, name: str, postgresql: bool) -> Any:
    return func.nullif(object.op("->")(key(name, postgresql)), sa.literal_column("'null'"))
