"""A query's shape becomes one compiled statement, kept for all queries of that shape; values travel as parameters."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Dialect, Executable, Float, Numeric, Select
from sqlalchemy.dialects.postgresql.psycopg import dialect as postgresql_dialect
from sqlalchemy.dialects.sqlite.pysqlite import dialect as sqlite_dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from apex.encoding import decode, encode
from apex.executor import Plan, Values
from apex.fresh import Bounded
from apex.types import Row

Processor = Callable[[Any], Any]
Reader = Callable[[Any], Any]

FLOAT8, NUMERIC = 701, 1700
"""PostgreSQL's ids of the types whose values depend on what the server sends."""


_POSTGRESQL: Callable[..., Dialect] = postgresql_dialect


def _json(value: Any) -> str:
    return encode(value).decode()


def _from_json(stored: Any) -> Any:
    """SQLite keeps a number in a JSON column as a number."""
    return decode(stored) if isinstance(stored, str | bytes) else stored


DIALECTS: Mapping[str, Dialect] = {
    "postgresql": _POSTGRESQL(json_serializer=_json, json_deserializer=decode),
    "sqlite": sqlite_dialect(paramstyle="named", json_serializer=_json, json_deserializer=_from_json),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text, how its values are bound, and what is read from a row: a dict by column, or JSON."""

    text: str
    binders: Mapping[str, Processor]
    constants: Values
    read: Reader
    writes: bool
    plan: Plan

    def bind(self, values: Values) -> dict[str, Any]:
        bound = {**self.constants, **values}
        for name, process in self.binders.items():
            bound[name] = process(bound[name])
        return bound


def compiled(
    statement: Executable, dialect: Dialect, plan: Plan = "kept", *, writes: bool = False, read: Reader | None = None
) -> Statement:
    """Compiles any SQLAlchemy Core statement for an executor. A select that ``writes`` has to say so; ``read`` makes
    something else of a row than a dict.
    """
    result: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
    binds = getattr(result, "binds", {})
    columns = list(getattr(statement, "exported_columns", ()))
    return Statement(
        result.string,
        {name: process for name, bind in binds.items() if (process := binder(bind.type, dialect))},
        {name: bind.value for name, bind in binds.items() if not bind.required},
        read or _reader(tuple(str(column.name) for column in columns), tuple(_loaders(columns, dialect))),
        writes or not isinstance(statement, Select),
        plan,
    )


def _reader(names: tuple[str, ...], loaders: tuple[tuple[str, Processor], ...]) -> Reader:
    def read(values: Any) -> Row:
        row = dict(zip(names, values, strict=True))
        for name, load in loaders:
            row[name] = load(row[name])
        return row

    return read


def binder(kind: TypeEngine[Any], dialect: Dialect) -> Processor | None:
    """What takes a value to the form in which the driver wants it; None where that is the value itself."""
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _loaders(columns: Iterable[Any], dialect: Dialect) -> Iterator[tuple[str, Processor]]:
    """For each column whose values need it, what reads them as the driver gives them."""
    for column in columns:
        kind = column.type
        inner = kind.load_dialect_impl(dialect) if isinstance(kind, TypeDecorator) else kind
        numeric = FLOAT8 if isinstance(inner, Float) else NUMERIC if isinstance(inner, Numeric) else None
        load = kind.dialect_impl(dialect).result_processor(dialect, numeric)
        if load is not None:
            yield str(column.name), load


class StatementCache:
    """The compiled statements of one service, by shape; the oldest goes when there are too many shapes."""

    def __init__(self, size: int = 512) -> None:
        self._statements: Bounded[Hashable, Statement] = Bounded(size)

    def get(self, shape: Hashable, build: Callable[[], Statement]) -> Statement:
        statement = self._statements.get(shape)
        if statement is None:
            statement = self._statements[shape] = build()
        return statement
