"""JSON Schema as types of TypeScript."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from textwrap import indent
from typing import Any

from apex.openapi.literals import JAVASCRIPT

Shape = Mapping[str, Any]

key, literal = JAVASCRIPT.key, JAVASCRIPT.on_a_line
_SIMPLE = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}


def declared(name: str, shape: Shape) -> str:
    """The declaration of a type: an interface where it has properties."""
    if shape.get("type") == "object" and shape.get("properties"):
        return f"export interface {name} {type_of(shape)}"
    return f"export type {name} = {type_of(shape)}"


def type_of(shape: Shape) -> str:
    """The type of the values that a schema describes; what only a validator can hold is left out."""
    if "$ref" in shape:
        return identifier(shape["$ref"].rpartition("/")[2])
    if "enum" in shape:
        return union(map(literal, shape["enum"]))
    if "type" not in shape:
        return union(map(type_of, shape.get("anyOf") or shape.get("oneOf") or ())) or "unknown"
    types = shape["type"] if isinstance(shape["type"], list) else [shape["type"]]
    return union(_of_kind(kind, shape) for kind in types)


def _of_kind(kind: str, shape: Shape) -> str:
    if kind == "array":
        return array(type_of(shape.get("items", {})))
    return _object(shape) if kind == "object" else _SIMPLE[kind]


def _object(shape: Shape) -> str:
    required = shape.get("required", ())
    members = [_property(name, said, name in required) for name, said in shape.get("properties", {}).items()]
    others = shape.get("additionalProperties", not members)
    if isinstance(others, Mapping):
        others = type_of(others)
        members += [f"[name: string]: {'unknown' if members else others}"]
    elif others:
        members += ["[name: string]: any"]
    return block(members or ["[name: string]: never"])


def _property(name: str, shape: Shape, required: bool) -> str:
    written = member(name, type_of(shape), optional=not required)
    return commented(shape.get("description", ""), f"{'readonly ' if shape.get('readOnly') else ''}{written}")


def member(name: str, type: str, *, optional: bool = False) -> str:
    return f"{key(name)}{'?' if optional else ''}: {type}"


def commented(comment: str, text: str) -> str:
    """A declaration or a member, below what is said of it."""
    lines = comment.replace("*/", "*\\/").splitlines()
    if not lines:
        return text
    body = f" {lines[0]}" if len(lines) == 1 else "".join(f"\n * {line}".rstrip() for line in lines) + "\n"
    return f"/**{body} */\n{text}"


def block(members: Sequence[str]) -> str:
    """Members between braces, each on lines of its own."""
    if len(members) == 1 and members[0].startswith("["):
        return f"{{ {members[0]} }}"
    inside = indent("\n".join(members), "  ")
    return f"{{\n{inside}\n}}" if inside else "{}"


def union(types: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(types))


def array(item: str) -> str:
    return f"({item})[]" if " | " in item else f"{item}[]"


def identifier(name: str) -> str:
    """A name as that of a type."""
    return re.sub(r"\W", "_", name)
