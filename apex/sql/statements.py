"""Compiled statements. All queries of one shape share a statement, and their values are its parameters."""

# The compilers below make properties of two attributes of SQLAlchemy.
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

import string
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from sqlalchemy import (
    BindParameter,
    Boolean,
    ColumnElement,
    Dialect,
    Executable,
    Insert,
    SelectBase,
    Table,
    TextClause,
    TextualSelect,
    Update,
    UpdateBase,
)  # fmt: skip
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg
from sqlalchemy.dialects.postgresql.psycopg import dialect as postgresql_dialect
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.dialects.sqlite.pysqlite import dialect as sqlite_dialect
from sqlalchemy.exc import CompileError, InvalidRequestError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import iterate
from sqlalchemy.types import TypeEngine

from apex.encoding import decode, encode
from apex.sql.defaults import DefaultContext, moments_of
from apex.sql.drivers.executor import Executor, Plan, Values, ValuesOfRows
from apex.sql.types.registry import Processor, value_binder, value_reader
from apex.types import Row

Reader = Callable[[Any], Any]

SEVERAL_WRITES = (
    "Of several inserts and updates in one statement only one may leave a column of a name to a default of Python: "
    "give the others a value"
)

MOST_OPERANDS = 32
"""The most values in the conditions of a statement that is kept."""

SHAPES, CHARACTERS = 512, 2 << 20
"""The most statements that a service keeps, and the most characters of their texts together."""

_READING = ("SELECT", "VALUES")
"""The first words of a text that only reads."""


def _json(value: Any) -> str:
    return encode(value).decode()


def _from_json(stored: Any) -> Any:
    """Return a value of a JSON column. SQLite stores a JSON number as a number."""
    return decode(stored) if isinstance(stored, str | bytes) else stored


class _Compiler(SQLCompiler):
    """A compiler with parameters of any name, which drivers restrict, and one list of the defaults that Python makes.

    SQLAlchemy begins the list of columns anew for each insert and update inside of a statement, and so stores null for
    the columns of all but one.
    """

    bindname_escape_characters = {char: f"_{ord(char):x}_" for char in {*string.punctuation, " "} - {"_"}}

    def __init__(self, *args: Any, **options: Any) -> None:
        self.binders_of_fragments: dict[str, Processor] = {}
        self._inserted: list[Any] = []
        self._updated: list[Any] = []
        super().__init__(*args, **options)

    @property
    def insert_prefetch(self) -> Sequence[Any]:
        return self._inserted

    @insert_prefetch.setter
    def insert_prefetch(self, columns: Sequence[Any]) -> None: ...

    @property
    def update_prefetch(self) -> Sequence[Any]:
        return self._updated

    @update_prefetch.setter
    def update_prefetch(self, columns: Sequence[Any]) -> None: ...

    def visit_fragment(self, fragment: Fragment, **_: Any) -> str:
        self.binders_of_fragments |= fragment.binders
        return fragment.text


class Fragment(ColumnElement[bool]):
    """A condition whose SQL is already written, with the functions that prepare its values for the driver."""

    __visit_name__ = "fragment"
    inherit_cache: bool | None = False
    type: TypeEngine[bool] = Boolean()

    def __init__(self, text: str, binders: Mapping[str, Processor]) -> None:
        self.text: str = text
        self.binders: Mapping[str, Processor] = binders

    def self_group(self, against: Any = None) -> Fragment:
        """Return the condition itself. SQLAlchemy would compare it with 1 on SQLite, which then uses no index."""
        return self


class _PostgreSQLCompiler(_Compiler, PGCompiler_psycopg): ...


class _SQLiteCompiler(_Compiler, SQLiteCompiler): ...


class _PostgreSQL(postgresql_dialect):
    statement_compiler = _PostgreSQLCompiler
    supports_statement_cache = True


class _SQLite(sqlite_dialect):
    statement_compiler = _SQLiteCompiler
    supports_statement_cache = True


_POSTGRESQL: Callable[..., Dialect] = _PostgreSQL

DIALECTS: Mapping[str, Dialect] = {
    "postgresql": _POSTGRESQL(json_serializer=_json, json_deserializer=decode),
    "sqlite": _SQLite(paramstyle="named", json_serializer=_json, json_deserializer=_from_json),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A compiled statement: the SQL text, the functions that prepare its values, and the reader of its rows.

    ``defaults`` are columns that Python fills in for each execution. ``late`` is the compiled statement if its text
    depends on the values, as with ``IN``. Without ``read`` the driver names the columns, and ``readers`` read their
    values by place or name. ``table`` is the table that the statement changes.
    """

    text: str
    binders: Mapping[str, Processor]
    constants: Values
    read: Reader | None
    writes: bool
    plan: Plan
    required: frozenset[str] = frozenset()
    renamed: Mapping[str, str] | None = None
    defaults: tuple[tuple[str, Any, Any], ...] = ()
    late: SQLCompiler | None = None
    readers: Mapping[int | str, Processor] | None = None
    table: Table | None = None

    async def run(self, executor: Executor, values: Values) -> list[Any]:
        """Run the statement, and return its rows. Raises Violation if it breaks a rule of the database."""
        text, bound = self.bind(values)
        if self.read is not None:
            return list(map(self.read, await executor.fetch(text, bound, self.writes, self.plan)))
        names, *rows = await executor.fetch(text, bound, self.writes, self.plan, header=True)
        return list(map(self.reader(names), rows))

    def bind(self, values: Values) -> tuple[str, dict[str, Any]]:
        """Return the text, and the values as the driver takes them."""
        bound = {**self.constants, **values}
        for name, column, default in self.defaults:
            bound[name] = default.arg(DefaultContext(bound, column)) if default.is_callable else default.arg
        if self.late is not None:
            return self._expanded(self.late, bound)
        for name, process in self.binders.items():
            bound[name] = process(bound[name])
        return self.text, bound if self.renamed is None else _renamed(bound, self.renamed)

    def bind_later(self, values: ValuesOfRows) -> tuple[str, ValuesOfRows]:
        """Return the text, and the function that returns the values as the driver takes them."""
        return self.text, lambda rows: self.bind(values(rows))[1]

    def _expanded(self, late: SQLCompiler, bound: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        state = late.construct_expanded_state(bound, escape_names=False)
        binders = {**self.binders, **state.processors}
        parameters = state.parameters
        processed = {n: binders[n](value) if n in binders else value for n, value in parameters.items()}
        return state.statement, processed if self.renamed is None else _renamed(processed, self.renamed)

    def require(self, values: Values) -> None:
        """Raise TypeError if a parameter has no value, or if a value to store has no column."""
        if missing := self.required - values.keys():
            raise TypeError(f"The statement needs a value for {', '.join(sorted(missing))}")
        taken = self.required.union(self.constants).difference(name for name, _, _ in self.defaults)
        if self.table is not None and (unknown := values.keys() - taken):
            raise TypeError(f"The statement has no parameter or column for {', '.join(sorted(map(str, unknown)))}")

    def reader(self, names: Sequence[str]) -> Reader:
        """Return the reader of rows with these columns. Further columns of one name become name_1, name_2."""
        readers = self.readers or {}
        distinct = _distinct(names)
        reads = [(distinct[place], readers.get(place) or readers.get(name)) for place, name in enumerate(names)]
        return _row_reader(distinct, tuple((name, read) for name, read in reads if read is not None))


def _renamed(bound: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in bound.items()}


def compiled(
    statement: Executable,
    dialect: Dialect,
    plan: Plan = "kept",
    *,
    writes: bool = False,
    read: Reader | None = None,
    keys: Iterable[str] | None = None,
) -> Statement:
    """Compile any statement of SQLAlchemy Core for an executor.

    A select with a function that writes needs ``writes``. ``read`` reads a row, by default as a dict. ``keys`` are the
    columns for which an insert or update will get values. Raises TypeError if the statement cannot be compiled.
    """
    if not isinstance(statement, Executable):
        raise TypeError(f"{statement!r:.80} is no statement of SQLAlchemy: SQL as a string goes into sqlalchemy.text()")
    made: Any = statement.select() if isinstance(statement, FunctionElement) else statement
    try:
        result = _result(made, dialect, keys)
    except CompileError as error:
        if sum(isinstance(part, UpdateBase) for part in iterate(made)) > 1:
            raise TypeError(f"{SEVERAL_WRITES} ({error})") from error
        raise
    if not isinstance(result, _Compiler):
        return Statement(result.string, binders={}, constants={}, read=_row_reader((), ()), writes=True, plan=plan)
    binds = {name: bind for bind, name in result.bind_names.items()}
    binders = {name: process for name, bind in binds.items() if (process := value_binder(bind.type, dialect))}
    by_python = [(column.key, column, column.default) for column in result.insert_prefetch]
    by_python += [(column.key, column, column.onupdate) for column in result.update_prefetch]
    read, readers = (read, None) if read is not None else _readers(made, result, dialect)
    return Statement(
        result.string,
        binders=binders | result.binders_of_fragments,
        constants={name: bind.effective_value for name, bind in binds.items() if not bind.required},
        read=read,
        writes=writes or not all(map(_reads, (made, *(cte.element for cte in result.ctes or ())))),
        plan=plan,
        required=frozenset(name for name, bind in binds.items() if bind.required),
        renamed=result.escaped_bind_names or None,
        defaults=tuple(by_python),
        late=result if result.post_compile_params or result.literal_execute_params else None,
        readers=readers,
        table=made.table if isinstance(made, UpdateBase) and isinstance(made.table, Table) else None,
    )


def _readers(
    made: Any, result: SQLCompiler, dialect: Dialect
) -> tuple[Reader | None, Mapping[int | str, Processor] | None]:
    """Return the reader of a statement's rows. If only the driver knows the columns, return the readers of values."""
    names = [entry.keyname and str(entry.keyname) for entry in result._result_columns]
    found = ((place, value_reader(entry.type, dialect)) for place, entry in enumerate(result._result_columns))
    readers: dict[int | str, Processor] = {place: reader for place, reader in found if reader is not None}
    if isinstance(made, (TextClause, TextualSelect)) or None in names:
        if isinstance(made, TextualSelect) and not made.positional:
            readers = {name: readers[place] for place, name in enumerate(names) if place in readers}
        return None, readers
    named = ((name, readers[place]) for place, name in enumerate(names) if place in readers)
    return _row_reader(tuple(names), tuple(named)), None


def _result(statement: Any, dialect: Dialect, keys: Iterable[str] | None) -> Any:
    if not isinstance(statement, (Insert, Update)):
        return statement.compile(dialect=dialect)
    if not statement.exported_columns:
        statement = statement.inline()  # Without it SQLAlchemy asks for the primary key.
    own = {part.key for part in iterate(statement) if isinstance(part, BindParameter)}
    options = {} if keys is None else {"column_keys": [key for key in keys if key not in own]}
    return _complete(statement, dialect, options)


def _reads(statement: Any) -> bool:
    if isinstance(statement, TextualSelect):
        statement = statement.element
    if isinstance(statement, TextClause):
        return statement.text.lstrip().upper().startswith(_READING)
    return isinstance(statement, SelectBase)


def _complete(statement: Any, dialect: Dialect, options: Mapping[str, Any]) -> SQLCompiler:
    """Compile an insert or update. Moments that the database makes get the form of stored moments."""
    result: SQLCompiler = statement.compile(dialect=dialect, **options)
    made = moments_of(statement.table, "onupdate" if isinstance(statement, Update) else "default", dialect)
    moments = {c: made[c.name] for c in result.postfetch or () if c.table is statement.table and c.name in made}
    try:
        return statement.values(moments).compile(dialect=dialect, **options) if moments else result
    except InvalidRequestError:  # An insert of several rows, or from a select, takes no more values.
        return result


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    taken, distinct = set(names), dict.fromkeys(names[:1])
    for name in names[1:]:
        if name in distinct:
            name = next(other for number in count(1) if (other := f"{name}_{number}") not in taken)
            taken.add(name)
        distinct[name] = None
    return tuple(distinct)


def _row_reader(names: tuple[str, ...], readers: tuple[tuple[str, Processor], ...]) -> Reader:
    def read(values: Any) -> Row:
        row = dict(zip(names, values, strict=True))
        for name, reader in readers:
            row[name] = reader(row[name])
        return row

    return read


class StatementCache:
    """The compiled statements of one service, by shape.

    The oldest statements are evicted if there are more than ``size``, or if their texts together have more than
    ``characters``. A statement with many ``operands`` is not kept, because its shape hardly comes again.
    """

    def __init__(self, size: int = SHAPES, characters: int = CHARACTERS) -> None:
        self.size: int = size
        self.characters: int = characters
        self._statements: OrderedDict[Hashable, Statement] = OrderedDict()
        self._length = 0

    def __contains__(self, shape: Hashable) -> bool:
        return shape in self._statements

    def get(self, shape: Hashable, build: Callable[[], Statement], operands: Sized = ()) -> Statement:
        """Return the statement of a shape, and build it if there is none yet."""
        if len(operands) > MOST_OPERANDS:
            return replace(build(), plan="once")
        statement = self._statements.get(shape)
        if statement is None:
            statement = self._statements[shape] = build()
            self._length += len(statement.text)
            while len(self._statements) > self.size or (self._length > self.characters and len(self._statements) > 1):
                self._length -= len(self._statements.popitem(last=False)[1].text)
        return statement
