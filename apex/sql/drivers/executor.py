"""The small interface between compiled statements and a database driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

Values = Mapping[str, Any]
Tuples = Sequence[Sequence[Any]]
Kind = Literal["unique", "foreign key", "not null", "check", "data"]
Plan = Literal["anew", "kept", "one", "once"]
"""A statement's plan is made anew for the values of each call, or kept where the database thinks that one will do for
all; ``one`` says that it does, whatever the values are. A statement that runs ``once`` is not kept.
"""


FAILED_UNIT = "A statement of this unit of work has failed: nothing was stored"


class Executor(Protocol):
    """Runs SQL text with named values and gives rows as tuples. Each statement commits by itself, unless it is run
    inside ``transaction``, where all commit together or not at all: after one that failed nothing is committed, even
    where the failure was caught. Inside ``savepoint``, which is inside of a ``transaction``, the statements alone are
    undone by an error.

    Raises Violation where the data breaks a rule of the database, Conflict for transactions that stay in each other's
    way, Unavailable where the database cannot be reached. The driver's own text stays in the log.
    """

    dialect: str

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def fetch(
        self, text: str, values: Values, writes: bool = False, plan: Plan = "kept", header: bool = False
    ) -> Tuples:
        """Return the rows. With a ``header`` the first row has the names of the columns."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]: ...

    def savepoint(self) -> AbstractAsyncContextManager[None]: ...


class Violation(Exception):
    """A rule of the database was broken: which kind, which constraint and columns where the driver tells."""

    def __init__(self, kind: Kind, constraint: str | None = None, columns: Sequence[str] = ()) -> None:
        super().__init__(f"{kind} violated: {constraint or ', '.join(columns)}")
        self.kind, self.constraint, self.columns = kind, constraint, tuple(columns)
