"""Query strings with brackets, such as ``a[b][$in][0]=1``: ``parse`` reads them, and ``write`` writes them.

The parsers of Node guess, so that a list of 21 items becomes an object, and a deep part of a name becomes a key. This
one refuses such query strings.

Many HTTP clients write no nested lists and objects. For them, ``$sort`` and ``$select`` may also be names separated by
commas, and ``$or``, ``$and``, ``$in`` and ``$nin`` may also be JSON::

    ?$sort=-age,name&$select=name,age&id[$in]=[1,2]&$or=[{"age":{"$gt":5}},{"name":null}]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote_plus

from apex.encoding import decode, encode
from apex.errors import BadRequest

__all__ = ["parse", "write"]


def write(query: Mapping[str, Any], safe: str = "") -> str:
    """Return a query as a query string. The characters in ``safe`` are not escaped.

    Null is an empty value, and dates and decimals are written as in JSON. Raises BadRequest for an empty list or object
    in the query, and TypeError for a value without a JSON form.
    """
    pairs = (pair for name, value in decode(encode(dict(query))).items() for pair in _pairs(name, value))
    return "&".join(f"{quote(name, safe=safe)}={quote(text, safe=safe)}" for name, text in pairs)


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict | list):
        yield name, _text(value)
        return
    if not value:
        # Other writers leave it out. Then an empty $in would match all records, and a remove would take them.
        raise BadRequest(f"'{name}' is empty, which a query string cannot say")
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _pairs(f"{name}[{key}]", child)


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else encode(value).decode()


MAX_PAIRS = 10_000
MAX_DEPTH = 10

MAX_CACHED, MAX_CACHED_LENGTH = 16_384, 512
"""The number of query strings in the cache, and the characters that each may have."""

_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_LIST_IN_LIST = re.compile(r"\[\]\[[0-9]*\]")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


def parse(text: str) -> dict[str, Any]:
    """Return a query string as a query: ``{"a": {"$in": ["1"]}}`` for ``a[$in][0]=1``.

    Values are strings, apart from those in JSON, and lists are in the order of their indices. Raises BadRequest for
    malformed brackets, encoding or JSON, a name that is used in two forms, more than 10 levels, and more than 10,000
    pairs.
    """
    if not text:
        return {}
    return decode(_parsed_json(text)) if len(text) <= MAX_CACHED_LENGTH else _parse(text)


@lru_cache(MAX_CACHED)
def _parsed_json(text: str) -> bytes:
    """Return the query as JSON. Each call decodes its own copy, as hooks may change it."""
    # The copy has no more bytes than it needs. The encoder keeps 4 KiB for each of its results.
    return bytes(memoryview(encode(_parse(text))))


def _parse(text: str) -> dict[str, Any]:
    pairs = [pair for pair in text.split("&") if pair and pair[0] != "="]
    if len(pairs) > MAX_PAIRS:
        raise BadRequest(f"The query string has more than {MAX_PAIRS} parameters")
    tree: dict[str | int, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        _insert(tree, _path(_decode(key)), _text_of(_decode(key), _decode(value)))
    return {str(key): _value(str(key), node, str(key)) for key, node in tree.items()}


def _decode(text: str) -> str:
    try:
        text = unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("The query string is not valid UTF-8") from None
    if "\0" in text:
        raise BadRequest("The query string holds a NUL character")
    return text


def _text_of(key: str, value: str) -> str:
    """Return the value. Raises BadRequest if it is an object that a client has turned into a text of its language."""
    if value == "[object Object]" or value.startswith("{'$"):
        key = key[:80]
        advice = f'write {key}[$gt]=5, or use $and=[{{"{key}":{{"$gt":5}}}}]'
        raise BadRequest(f"Query parameter '{key}' holds an object that is written as text: {advice}")
    return value


def _path(key: str) -> list[str]:
    match = _KEY.fullmatch(key)
    if match is None:
        raise BadRequest(f"Malformed query parameter '{key[:80]}': brackets must be closed and not nested")
    if _LIST_IN_LIST.search(key):
        raise BadRequest(f"Query parameter '{match[1]}' holds a list in a list: number the outer one")
    path = [match[1], *match[2][1:-1].split("][")] if match[2] else [match[1]]
    if len(path) > MAX_DEPTH:
        raise BadRequest(f"Query parameter '{path[0]}' is nested deeper than {MAX_DEPTH} levels")
    return path


def _insert(node: dict[str | int, Any], path: list[str], value: str) -> None:
    for place, name in enumerate(path[:-1]):
        node = node.setdefault(_segment(name) if place else name, {})
        if not isinstance(node, dict):
            raise _mixed(path[0])
    last = _segment(path[-1]) if len(path) > 1 else path[-1]
    leaf = node.setdefault(last, [])
    if not isinstance(leaf, list) or (leaf and isinstance(last, int)):
        raise _mixed(path[0])
    leaf.append(value)


def _segment(name: str) -> str | int:
    return int(name) if _INDEX.fullmatch(name) else name


def _settle(node: dict[str | int, Any] | list[str], name: str) -> Any:
    if isinstance(node, list):
        return node[0] if len(node) == 1 else node
    indices = [key for key in node if isinstance(key, int)]
    if len(node) > 1 and (0 < len(indices) < len(node) or "" in node):
        raise _mixed(name)
    if "" in node:
        return node[""] if isinstance(node[""], list) else [_settle(node[""], name)]
    if indices:
        return [_settle(node[index], name) for index in sorted(indices)]
    return {str(key): _value(str(key), child, name) for key, child in node.items()}


def _value(key: str, node: dict[str | int, Any] | list[str], name: str) -> Any:
    """Return the value of a key. Texts that stand for a list or an object are read as such."""
    value = _settle(node, name)
    read = _TEXTS.get(key)
    return value if read is None else read(key, value)


def _order(name: str, value: Any) -> Any:
    """Read ``-age,name`` as ``{"age": -1, "name": 1}``."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return value
    order: dict[str, int] = {}
    for word in filter(None, (one.strip() for text in words for one in text.split(","))):
        field = word.removeprefix("-")
        if field in order:
            raise _unreadable(name, f"names '{field[:80]}' twice")
        order[field] = -1 if word != field else 1
    return order


def _names(name: str, value: Any) -> Any:
    """Read ``name,age`` as ``["name", "age"]``."""
    return [one.strip() for one in value.split(",")] if isinstance(value, str) and "," in value else value


def _queries(name: str, value: Any) -> Any:
    """Read a list of queries in JSON."""
    return value if not isinstance(value, str) else _json_list(name, value, '[{"age":{"$gt":5}},{"name":null}]')


def _items(name: str, value: Any) -> Any:
    """Read a list of values in JSON. Any other text is the one value of a list."""
    is_json = isinstance(value, str) and value[:1] == "[" and value[-1:] == "]"
    return _json_list(name, value, '["a",null]') if is_json else value


def _json_list(name: str, text: str, example: str) -> list[Any]:
    try:
        value = decode(text)
    except ValueError:
        value = None
    if not isinstance(value, list):
        raise _unreadable(name, f"must be a list in JSON such as {example}, or have numbers in brackets: {name}[0]")
    return value


_TEXTS: Mapping[str, Callable[[str, Any], Any]] = {
    "$sort": _order, "$select": _names, "$or": _queries, "$and": _queries, "$in": _items, "$nin": _items,
}  # fmt: skip


def _unreadable(name: str, sentence: str) -> BadRequest:
    return BadRequest(f"Invalid query: {name} {sentence}", errors={name: sentence})


def _mixed(name: str) -> BadRequest:
    forms = "a value, an object, a list with numbers or one without"
    return BadRequest(f"Query parameter '{name}' is given in several forms: use one form ({forms})")
