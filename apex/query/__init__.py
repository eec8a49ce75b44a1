"""The query language: a query of a caller becomes a ``Query``, which adapters run."""

from apex.query.language import (
    DELETED,
    MAX_ROWS,
    Compare,
    Hints,
    Junction,
    Predicate,
    Query,
    Rank,
    Syntax,
    every,
    is_number,
    suggestion,
)

__all__ = [
    "DELETED", "MAX_ROWS", "Compare", "Hints", "Junction", "Predicate", "Query", "Rank", "Syntax", "every",
    "is_number", "suggestion",
]  # fmt: skip
