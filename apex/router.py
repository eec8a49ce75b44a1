"""A trie of path segments: a literal is tried before placeholders, and a dead end is walked back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote

T = TypeVar("T")


class Match(NamedTuple, Generic[T]):
    target: T
    route: dict[str, str]
    id: str | None


class _Node(Generic[T]):
    __slots__ = ("literals", "placeholders", "target")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.placeholders: dict[str, _Node[T]] = {}
        self.target: T | None = None


class Router(Generic[T]):
    """Paths such as ``groups/:groupId/members`` to targets; one further segment is the id of a record."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def insert(self, path: str, target: T) -> None:
        """Raises ValueError when the path is taken."""
        node = self._root
        for segment in split(path):
            children, name = _children(node, segment)
            node = children.setdefault(name, _Node())
        if node.target is not None:
            raise ValueError(f"Path {path} already exists")
        node.target = target

    def remove(self, path: str) -> None:
        """Takes the path's target away and prunes the branches that lead nowhere."""
        _remove(self._root, split(path))

    def lookup(self, segments: Sequence[str], spelled: Sequence[str] | None = None) -> Match[T] | None:
        """Return the target for decoded segments, with the placeholders' values and the id, or None.

        ``spelled`` are the segments as the URL has them. So that a service has one path, each of its letters and digits
        is spelled as it is: ``/%6eotes`` does not lead to ``notes``. A value or an id may be spelled in any way.
        """
        route: dict[str, str] = {}
        literals = segments if spelled is None or spelled == segments else _literals(segments, spelled)
        found = _find(self._root, literals, segments, 0, route)
        return None if found is None else Match(found[0], route, found[1])


def split(path: str) -> list[str]:
    stripped = path.strip("/")
    return stripped.split("/") if stripped else []


def _children(node: _Node[T], segment: str) -> tuple[dict[str, _Node[T]], str]:
    return (node.placeholders, segment[1:]) if segment.startswith(":") else (node.literals, segment)


def _literals(segments: Sequence[str], spelled: Sequence[str]) -> list[str]:
    """Return the segments with an empty text, which no service has, for those that are spelled in another way."""
    pairs = zip(segments, spelled, strict=True)
    return [segment if raw in (segment, quote(segment, safe="")) else "" for segment, raw in pairs]


def _find(
    node: _Node[T], literals: Sequence[str], segments: Sequence[str], at: int, route: dict[str, str]
) -> tuple[T, str | None] | None:
    left = len(segments) - at
    if left == 0:
        return None if node.target is None else (node.target, None)
    segment = segments[at]
    child = node.literals.get(literals[at])
    if child is not None and (found := _find(child, literals, segments, at + 1, route)) is not None:
        return found
    for name, child in node.placeholders.items():
        if (found := _find(child, literals, segments, at + 1, route)) is not None:
            route[name] = segment
            return found
    return (node.target, segment) if left == 1 and node.target is not None else None


def _remove(node: _Node[T], segments: list[str]) -> None:
    if not segments:
        node.target = None
        return
    children, name = _children(node, segments[0])
    if (child := children.get(name)) is None:
        return
    _remove(child, segments[1:])
    if child.target is None and not child.literals and not child.placeholders:
        del children[name]
