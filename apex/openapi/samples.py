"""Samples of a call, one example written for curl, for the client of Feathers and for ``apex.client``."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from apex.describe import Example
from apex.openapi.literals import JAVASCRIPT, JSON, PYTHON, WIDTH, Style, Variable
from apex.query.querystring import write
from apex.types import STANDARD, VERBS, taken_by

READABLE = "$[]:,@"
"""What stays as it is, so that a query can be read: the shell leaves it alone between single quotes."""


class Sample(NamedTuple):
    """An example with the way to its service. ``bearer`` tells that it takes a token, which clients that have logged in
    send by themselves; ``proof`` are the headers that they do not.
    """

    path: str
    method: str
    example: Example
    bearer: bool
    proof: Mapping[str, str]

    @property
    def arguments(self) -> list[Any]:
        """What the method is given, in a client."""
        headers = {**self.proof, **self.example.headers}
        params = {name: said for name, said in (("query", dict(self.example.query)), ("headers", headers)) if said}
        given = [getattr(self.example, name) for name in taken_by(self.method)]
        return [*given, *([params] if params else [])]


def samples(url: str, path: str, method: str, example: Example, scheme: Mapping[str, Any]) -> list[Any]:
    """Those of a method, as the extension ``x-codeSamples`` of Redoc has them. ``scheme`` is how callers prove
    who they are; a token is called ``TOKEN``, a key ``KEY``.
    """
    proof = {scheme["name"]: Variable("KEY")} if scheme.get("in") == "header" else {}
    filled = re.sub(r":([^/]+)", lambda match: str(example.route[match[1]]), path)
    call = Sample(filled, method, example, scheme.get("scheme") == "bearer", proof)
    sources = {"Shell": curl(call, url), "JavaScript": feathers(call), "Python": python(call)}
    return [{"lang": lang, "label": f"{method}: {lang}", "source": source} for lang, source in sources.items()]


def curl(call: Sample, url: str) -> str:
    """A command for a shell that has ``TOKEN`` or ``KEY``."""
    verb = VERBS.get(call.method, "POST")
    # A request with data is a POST by itself.
    named = "" if verb in ("GET", "POST") else f"-X {verb} "
    target = url + _target(call)
    # Without -g brackets would be patterns of curl's own.
    literally = "-g " if "[" in target else ""
    parts = [f"curl {named}{literally}{_quoted(target)}", *(f"-H {header}" for header in _headers(call))]
    if call.example.data is not None:
        parts.append(f"-d {_quoted(JSON.write(call.example.data))}")
    return " \\\n  ".join(parts)


def _target(call: Sample) -> str:
    path = f"/{call.path}" + ("" if call.example.id is None else f"/{quote(str(call.example.id), safe='')}")
    return path + (f"?{write(call.example.query, READABLE)}" if call.example.query else "")


def _headers(call: Sample) -> Iterator[str]:
    if call.bearer:
        yield '"Authorization: Bearer $TOKEN"'
    yield from (f'"{name}: ${variable}"' for name, variable in call.proof.items())
    yield from (_quoted(f"{name}: {value}") for name, value in call.example.headers.items())
    if call.method not in STANDARD:
        yield _quoted(f"X-Service-Method: {call.method}")
    if call.example.data is not None:
        yield "'Content-Type: application/json'"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def feathers(call: Sample) -> str:
    """JavaScript, where ``app`` is a client of Feathers that has logged in, and ``connection`` its transport."""
    path = JAVASCRIPT.write(call.path)
    called = _called(f"await {_client(call, 'app')}.service({path}).{call.method}", call, JAVASCRIPT)
    if call.method in STANDARD:
        return called
    return f"app.use({path}, connection.service({path}), {{ methods: ['{call.method}'] }})\n{called}"


def python(call: Sample) -> str:
    """Python, where ``client`` is an ``apex.client.Client`` that has logged in."""
    service = f"{_client(call, 'client')}.service({PYTHON.write(call.path)})"
    method = f"{service}.{call.method}"
    if keyword.iskeyword(call.method):
        method = f'getattr({service}, "{call.method}")'
    return _called(f"await {method}", call, PYTHON)


def _client(call: Sample, name: str) -> str:
    """Whoever sends a key must not send a token as well."""
    return "keyed" if call.proof else name


def _called(start: str, call: Sample, style: Style) -> str:
    """A call, with its objects on several lines where one is too short."""
    line = f"{start}({', '.join(map(style.on_a_line, call.arguments))})"
    return line if len(line) <= WIDTH else f"{start}({', '.join(map(style.on_lines, call.arguments))})"
