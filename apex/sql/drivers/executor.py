"""The interface between compiled statements and the drivers of databases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

Values = Mapping[str, Any]
Tuples = Sequence[Sequence[Any]]
ValuesOfRows = Callable[[Tuples], Values]
"""A function that returns the values of a statement for the rows of the one before it."""

Statements = Sequence[tuple[str, Values | ValuesOfRows]]
Rule = Literal["unique", "foreign key", "not null", "check", "data"]
Plan = Literal["anew", "kept", "one", "once"]
"""The life of a statement's plan in the database.

``anew``: it plans each call for the values of the call. ``kept``: it decides by itself when one plan serves all values.
``one``: one plan serves all values. ``once``: the statement runs once, so neither plan nor statement are kept.
"""

FAILED_TRANSACTION = "A statement of this unit of work has failed: nothing was stored"

OUTDATED = "The database lacks a table or a column of the app: 'apex check' names it"


class Executor(Protocol):
    """Runs SQL text with named values and returns rows as tuples.

    Outside of ``transaction`` each statement commits by itself. Inside, the statements commit together or not at all:
    after an error nothing is committed, even if somebody has caught the error. ``savepoint`` is a part of a transaction
    that an error undoes by itself.

    Raises Violation if the data breaks a rule of the database, Conflict if transactions hinder each other, and
    Unavailable if the database cannot be reached. The text of the driver goes to the log only.
    """

    dialect: str
    """The name of SQLAlchemy's dialect: ``postgresql`` or ``sqlite``."""

    async def open(self) -> None:
        """Connect to the database. Raises Unavailable."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...

    async def fetch(
        self, text: str, values: Values, writes: bool = False, plan: Plan = "kept", header: bool = False
    ) -> Tuples:
        """Run a statement and return its rows. With ``header`` the names of the columns come first."""
        ...

    async def fetch_together(self, statements: Statements) -> list[Tuples]:
        """Run quick statements that write as one transaction, and return the rows of each.

        The values of a statement may be a function of the rows of the statement before it.
        """
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Return a transaction. One inside another is part of it."""
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Return a part of the current transaction. Raises RuntimeError if there is no transaction."""
        ...


def values_after(found: Sequence[Tuples], values: Values | ValuesOfRows) -> Values:
    """Return the values of a statement that runs together with others. ``found`` are the rows of those before it."""
    return values(found[-1]) if callable(values) else values


class Violation(Exception):
    """A rule of the database that a statement has broken.

    ``kind`` says which kind of rule. ``constraint`` and ``columns`` are known only if the driver names them.
    """

    def __init__(self, kind: Rule, constraint: str | None = None, columns: Sequence[str] = ()) -> None:
        super().__init__(f"{kind} violated: {constraint or ', '.join(columns)}")
        self.kind = kind
        self.constraint = constraint
        self.columns: tuple[str, ...] = tuple(columns)
