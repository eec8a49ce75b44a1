"""JSON values as literals of a programming language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

WIDTH: int = 100

_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*")


class Variable(str):
    """The name of a variable, which is written without quotes."""


class Style(NamedTuple):
    """The syntax of a language."""

    text: Callable[[str], str]
    key: Callable[[str], str]
    words: Mapping[Any, str]
    space: str
    indent: str

    def write(self, value: Any, indent: str = "") -> str:
        """Write a value on one line if it fits, else with a line for each item."""
        line = self.on_a_line(value)
        return line if len(indent) + len(line) <= WIDTH else self.on_lines(value, indent)

    def on_a_line(self, value: Any) -> str:
        """Write a value on one line."""
        if isinstance(value, dict | list):
            space = self.space if isinstance(value, dict) and value else ""
            start, end = _brackets(value)
            return start + space + ", ".join(self._items(value, self.on_a_line)) + space + end
        if isinstance(value, Variable):
            return str(value)
        if value is None or isinstance(value, bool):
            return self.words.get(value) or json.dumps(value)
        return self.text(value) if isinstance(value, str) else json.dumps(value)

    def on_lines(self, value: Any, indent: str = "") -> str:
        """Write an object or a list with a line for each item."""
        if not isinstance(value, dict | list) or not value:
            return self.on_a_line(value)
        inner = indent + self.indent
        start, end = _brackets(value)
        lines = f",\n{inner}".join(self._items(value, lambda child: self.write(child, inner)))
        return f"{start}\n{inner}{lines}\n{indent}{end}"

    def _items(self, value: Any, write: Callable[[Any], str]) -> Iterator[str]:
        if isinstance(value, dict):
            return (f"{self.key(name)}: {write(child)}" for name, child in value.items())
        return map(write, value)


def _brackets(value: Any) -> tuple[str, str]:
    return ("{", "}") if isinstance(value, dict) else ("[", "]")


def _double(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _single(text: str) -> str:
    return "'" + _double(text)[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"


def _key(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else _single(name)


JSON: Style = Style(_double, _double, {}, "", "  ")
PYTHON: Style = Style(_double, _double, {None: "None", True: "True", False: "False"}, "", "    ")
JAVASCRIPT: Style = Style(_single, _key, {}, " ", "  ")
