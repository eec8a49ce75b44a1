"""A reference in Markdown, with a page for each service: its operations, code samples and data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

Shape = Mapping[str, Any]

VERBS: tuple[str, ...] = ("post", "get", "put", "patch", "delete")
LARGE: int = 2**31
"""Maximums from here on are limits of the type and not shown."""

_REFERENCE = "#/components/schemas/"


def pages(document: Shape) -> dict[str, str]:
    """Return the text of each page by its name, such as ``notes`` or ``teams-team_id-notes``."""
    return {re.sub(r"\W+", "-", tag["name"]): "\n".join(_page(document, tag)) for tag in document["tags"]}


def write_pages(document: Shape, folder: Path) -> None:
    """Write the pages as files of a folder, which is made if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages(document).items():
        (folder / f"{name}.md").write_text(f"{text}\n", encoding="utf-8")


def _page(document: Shape, tag: Shape) -> Iterator[str]:
    yield f"# {tag['name']}\n\n{tag['description']}"
    named: dict[str, None] = {}
    for path, operations in document["paths"].items():
        for verb in VERBS:
            if tag["name"] in operations.get(verb, {}).get("tags", ()):
                operation = operations[verb]
                named |= dict.fromkeys(_named(document, _successes(operation), operation.get("requestBody")))
                yield from _operation(f"{verb.upper()} {path}", operation)
    for name in named:
        yield from _data(name, document["components"]["schemas"][name])


def _operation(title: str, operation: Shape) -> Iterator[str]:
    yield f"\n## `{title}`\n"
    if "description" in operation:
        yield f"{operation['description']}\n"
    if asked := _asked([given for given in operation["parameters"] if given["in"] == "query"]):
        yield f"- Query: {asked}"
    if "requestBody" in operation:
        yield f"- Body: {_shapes(operation['requestBody'])}"
    for status, response in _successes(operation).items():
        yield f"- Response {status}: {_shapes(response)}".rstrip(": ")
    yield f"- Errors: {', '.join(status for status in operation['responses'] if status >= '4')}"
    for method, written in groupby(operation.get("x-codeSamples", ()), key=_method_of):
        yield f"\n### {method}"
        yield from (f"\n```{sample['lang'].lower()}\n{sample['source']}\n```" for sample in written)


def _method_of(sample: Shape) -> str:
    return str(sample["label"]).partition(":")[0]


def _asked(parameters: list[Shape]) -> str:
    """Return the parts of a query: conditions on fields, and words."""
    words = [f"`{given['name']}`" for given in parameters if given.get("style") != "deepObject"]
    conditions = ["each field of the record, with operators in brackets"] if len(words) < len(parameters) else []
    return ", ".join(conditions + words)


def _successes(operation: Shape) -> dict[str, Shape]:
    return {status: response for status, response in operation["responses"].items() if status < "4"}


def _data(name: str, shape: Shape) -> Iterator[str]:
    yield f"\n## {name}\n"
    if "properties" not in shape:
        yield f"{_type(shape)}"
        return
    for field, inner in shape["properties"].items():
        needed = ", required" if field in shape.get("required", ()) else ""
        description = re.sub(r"\s+", " ", f". {inner['description']}") if "description" in inner else ""
        yield f"- `{field}`: {_type(inner)}{needed}{description}"


def _shapes(part: Shape) -> str:
    """Return the shapes of a body, one for each content type."""
    shapes = [media["schema"] for media in part.get("content", {}).values()]
    return " or ".join(dict.fromkeys(_type(shape) for shape in shapes if shape))


def _type(shape: Shape) -> str:
    """Return a type in words, such as ``string or null``, with its limits."""
    if "$ref" in shape:
        name = shape["$ref"].removeprefix(_REFERENCE)
        return f"[{name}](#{name.lower()})"
    if options := shape.get("anyOf", shape.get("oneOf")):
        return " or ".join(map(_type, options))
    if "enum" in shape:
        return " or ".join(f"`{choice}`" if choice else "an empty string" for choice in shape["enum"])
    types = shape.get("type", "anything")
    text = " or ".join(types if isinstance(types, list) else [types])
    if "items" in shape and text == "array":
        text = f"array of {_type(shape['items'])}"
    return text + _limits(shape)


def _limits(shape: Shape) -> str:
    words = [shape["format"]] if "format" in shape else []
    limits = (shape.get(name, LARGE) for name in ("maxLength", "maximum", "maxItems"))
    words += [f"at most {limit:,}" for limit in limits if limit < LARGE]
    return f" ({', '.join(words)})" if words else ""


def _named(document: Shape, *parts: Any, seen: set[str] | None = None) -> Iterator[str]:
    """Yield the names of the schemas that these parts refer to, directly or through other schemas, each once."""
    seen = set() if seen is None else seen
    for part in parts:
        if isinstance(part, Mapping):
            reference = str(part.get("$ref", ""))
            name = reference.removeprefix(_REFERENCE)
            if reference.startswith(_REFERENCE) and name not in seen:
                seen.add(name)
                yield name
                yield from _named(document, document["components"]["schemas"][name], seen=seen)
            yield from _named(document, *part.values(), seen=seen)
        elif isinstance(part, list):
            yield from _named(document, *part, seen=seen)
