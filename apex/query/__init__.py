"""The query language: what a caller may ask, as a ``Query`` that adapters run."""

from apex.query.language import DELETED, MAX_ROWS, Hints, Query, Syntax, is_number, suggestion

__all__ = ["DELETED", "MAX_ROWS", "Hints", "Query", "Syntax", "is_number", "suggestion"]
