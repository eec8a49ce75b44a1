"""Queries as query strings with brackets, lists by index: ``id[$in][0]=1``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from apex.encoding import decode, encode
from apex.errors import BadRequest


def write(query: Mapping[str, Any], safe: str = "") -> str:
    """The query string: null is an empty value, dates and decimals are written as JSON writes them, and the characters
    that are ``safe`` as they are.

    Raises BadRequest for an empty list or object within the query, TypeError for a value without a JSON form.
    """
    pairs = (pair for name, value in decode(encode(dict(query))).items() for pair in _pairs(name, value))
    return "&".join(f"{quote(name, safe=safe)}={quote(text, safe=safe)}" for name, text in pairs)


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict | list):
        yield name, _text(value)
        return
    if not value:
        # Left out, as by other writers, an empty $in would ask for all records, and a remove would take them.
        raise BadRequest(f"'{name}' is empty, which a query string cannot say")
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _pairs(f"{name}[{key}]", child)


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else encode(value).decode()
