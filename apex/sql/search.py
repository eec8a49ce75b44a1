"""Full-text search on SQL databases: the conditions and the order that read the index of a table.

``create_search_index`` of ``apex.migrations`` makes the index.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Dialect,
    FromClause,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal,
    select,
    table,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR

from apex.errors import Unavailable
from apex.migrations.search import DOCUMENT, SEARCHABLE, index_name
from apex.query.language import Search
from apex.sql.types.registry import column_types

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.sql.service import SQLService

log: logging.Logger = logging.getLogger("apex")

RANKED = "search_rank"
"""The parameter with the search whose best matches come first."""

WEIGHTS = (10.0, 1.0, 0.3, 0.1)
"""How much matches in a field count on SQLite. On PostgreSQL the words of a field have a weight too."""


def declare_searchable(app: Apex, path: str, service: SQLService[Any]) -> None:
    """Note in ``info`` of the table of a service which fields its index has, for migrations.

    Raises TypeError for a field without text, or if another service of the table searches in other fields.
    """
    source, fields = service.table, tuple(service.searchable)
    for name in fields:
        if not column_types(source)[name].is_text:
            raise TypeError(f"Option searchable of service '{path}' names '{name}', which does not hold text")
    if not isinstance(source, Table):
        raise TypeError(f"Option searchable of service '{path}' needs a table with an index, not a subquery")
    for other, bound in app.services.items():
        others = tuple(getattr(bound.service, "searchable", ()))
        if getattr(bound.service, "table", None) is source and others and others != fields:
            raise TypeError(
                f"Table '{source.name}' has one search index: service '{other}' has other searchable fields"
            )
    source.info[SEARCHABLE] = fields


def missing_index(source: Table) -> Unavailable:
    """Return the error for a search in a table without an index, and log the fix."""
    log.error("%s", missing_index_fix(source))
    return Unavailable(f"The search in '{source.name}' is not available: its index is missing", retry_after=None)


def missing_index_fix(source: Table) -> str:
    """Return the sentence that tells how to make the index of a table."""
    arguments = ", ".join(repr(name) for name in (str(source.name), *source.info[SEARCHABLE]))
    return f"table '{source.name}' has no search index: call create_search_index({arguments}) in a migration"


class SearchIndex:
    """The search index of a table, for its fields."""

    def __init__(self, source: Table, fields: Sequence[str], dialect: Dialect) -> None:
        self.source = source
        self.fields = fields
        self.postgresql = dialect.name == "postgresql"
        self.name = index_name(str(source.name))

    def operand(self, search: Search) -> str:
        """Return the words of a search as the database takes them. They are letters and digits alone."""
        *whole, start = search.words
        if self.postgresql:
            return " & ".join((*(f"'{word}'" for word in whole), f"'{start}':*"))
        return " AND ".join((*(f'"{word}"' for word in whole), f'"{start}" *'))

    def condition(self, name: str) -> ColumnElement[bool]:
        """Return the condition that a row matches the search in a parameter."""
        if self.postgresql:
            return self._document.bool_op("@@")(_query(name))
        return column("rowid", _selectable=self.source).in_(select(column("rowid")).where(self._matches(name)))

    def ranked(self, rows: FromClause) -> tuple[FromClause, ColumnElement[Any]]:
        """Return the rows, and the order that puts the best matches of the search in ``RANKED`` first."""
        if self.postgresql:
            return rows, func.ts_rank(self._document, _query(RANKED)).desc()
        hits = self._hits
        return rows.join(hits, column("rowid", _selectable=self.source) == hits.c.hit), hits.c.score

    @cached_property
    def _document(self) -> ColumnElement[Any]:
        return column(DOCUMENT, TSVECTOR(), _selectable=self.source)

    @cached_property
    def _index(self) -> Any:
        return table(self.name, column("rowid"), column(self.name))

    def _matches(self, name: str) -> ColumnElement[bool]:
        found: ColumnElement[bool] = self._index.c[self.name].bool_op("MATCH")(bindparam(name, type_=Text()))
        return found

    @cached_property
    def _hits(self) -> CTE:
        """The matches with their scores. They are found first, as the planner would search again for each row."""
        weights = [WEIGHTS[min(place, len(WEIGHTS) - 1)] for place, _ in enumerate(self.fields)]
        score = func.bm25(self._index.c[self.name], *map(literal, weights))
        return (
            select(column("rowid").label("hit"), score.label("score"))
            .where(self._matches(RANKED))
            .cte("hits_")
            .prefix_with("MATERIALIZED")
        )


def _query(name: str) -> ColumnElement[Any]:
    return cast(bindparam(name, type_=Text()), TSQUERY())
