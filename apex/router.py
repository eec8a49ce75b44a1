"""A router for paths of segments: literal segments are tried before placeholders, and placeholders before an id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote

T = TypeVar("T")


class Match(NamedTuple, Generic[T]):
    """The target of a path, the values of its placeholders, and the id of a record, if there is one."""

    target: T
    route: dict[str, str]
    id: str | None


class _Node(Generic[T]):
    __slots__ = ("literals", "placeholders", "target")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.placeholders: dict[str, _Node[T]] = {}
        self.target: T | None = None

    def children(self, segment: str) -> tuple[dict[str, _Node[T]], str]:
        """Return the nodes that a segment of a registered path belongs to, and its name there."""
        return (self.placeholders, segment[1:]) if segment.startswith(":") else (self.literals, segment)


class Router(Generic[T]):
    """The targets of paths such as ``groups/:groupId/members``. One further segment is the id of a record."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def insert(self, path: str, target: T) -> None:
        """Register the target of a path. Raises ValueError if the path is taken."""
        node = self._root
        for segment in split(path):
            children, name = node.children(segment)
            node = children.setdefault(name, _Node())
        if node.target is not None:
            raise ValueError(f"Path {path} already exists")
        node.target = target

    def remove(self, path: str) -> None:
        """Remove the target of a path, and the nodes that lead to no other target."""
        _remove(self._root, split(path))

    def lookup(self, segments: Sequence[str], spelled: Sequence[str] | None = None) -> Match[T] | None:
        """Return the target for decoded segments, with the values of its placeholders and the id, or None.

        ``spelled`` are the segments as they are in the URL. So that a service has one path, its letters and digits have
        to be spelled as they are: ``/%6eotes`` does not lead to ``notes``. A value or an id may be spelled in any way.
        """
        literals = segments if spelled is None or spelled == segments else _literals(segments, spelled)
        # The last entry is tried first.
        open_nodes: list[tuple[_Node[T], int, dict[str, str], str | None]] = [(self._root, 0, {}, None)]
        while open_nodes:
            node, place, route, id = open_nodes.pop()
            if place == len(segments):
                if node.target is not None:
                    return Match(node.target, route, id)
                continue
            segment = segments[place]
            if place == len(segments) - 1:
                open_nodes.append((node, place + 1, route, segment))
            for name, child in reversed(node.placeholders.items()):
                open_nodes.append((child, place + 1, {name: segment, **route}, None))
            if (literal := node.literals.get(literals[place])) is not None:
                open_nodes.append((literal, place + 1, route, None))
        return None


def split(path: str) -> list[str]:
    """Return the segments of a path."""
    stripped = path.strip("/")
    return stripped.split("/") if stripped else []


def _literals(segments: Sequence[str], spelled: Sequence[str]) -> list[str]:
    """Return the segments with an empty text, which no service has, for those that are spelled in another way."""
    pairs = zip(segments, spelled, strict=True)
    return [segment if raw in (segment, quote(segment, safe="")) else "" for segment, raw in pairs]


def _remove(node: _Node[T], segments: list[str]) -> None:
    if not segments:
        node.target = None
        return
    children, name = node.children(segments[0])
    if (child := children.get(name)) is None:
        return
    _remove(child, segments[1:])
    if child.target is None and not child.literals and not child.placeholders:
        del children[name]
