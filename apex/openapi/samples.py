"""Code samples: an example of a call for curl, for the client of Feathers and for ``apex.client``."""

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

READABLE: str = "$[]:,@"
"""Characters that are not escaped in a URL, to keep it readable. The shell ignores them inside single quotes."""


class Sample(NamedTuple):
    """An example of a call, with the path of its service.

    ``bearer`` is True if the call needs a token, which a client sends by itself after a login. ``proof`` are headers
    for authentication that a client does not send by itself.
    """

    path: str
    method: str
    example: Example
    bearer: bool
    proof: Mapping[str, str]

    @property
    def arguments(self) -> list[Any]:
        """The arguments of the method in a client."""
        headers = {**self.proof, **self.example.headers}
        params = {"query": dict(self.example.query), "headers": headers}
        params = {name: value for name, value in params.items() if value}
        given = [getattr(self.example, name) for name in taken_by(self.method)]
        return [*given, *([params] if params else [])]


def samples(url: str, path: str, method: str, example: Example, scheme: Mapping[str, Any]) -> list[Any]:
    """Return the samples of a method, in the form of Redoc's extension ``x-codeSamples``.

    ``scheme`` is the security scheme of the call. The variable ``TOKEN`` holds a token, ``KEY`` an API key.
    """
    proof = {scheme["name"]: Variable("KEY")} if scheme.get("in") == "header" else {}
    filled = re.sub(r":([^/]+)", lambda match: str(example.route[match[1]]), path)
    call = Sample(filled, method, example, scheme.get("scheme") == "bearer", proof)
    sources = {"Shell": curl(call, url), "JavaScript": feathers(call), "Python": python(call)}
    return [{"lang": lang, "label": f"{method}: {lang}", "source": source} for lang, source in sources.items()]


def curl(call: Sample, url: str) -> str:
    """Return a command for a shell with the variable ``TOKEN`` or ``KEY``."""
    verb = VERBS.get(call.method, "POST")
    # curl sends data with POST.
    named = "" if verb in ("GET", "POST") else f"-X {verb} "
    target = url + _target(call)
    # Without -g curl expands brackets.
    literally = "-g " if "[" in target else ""
    parts = [f"curl {named}{literally}{_quoted(target)}", *(f"-H {header}" for header in _headers(call))]
    if call.example.data is not None:
        parts.append(f"-d {_quoted(JSON.write(call.example.data))}")
    return " \\\n  ".join(parts)


def _target(call: Sample) -> str:
    path = f"/{call.path}" + ("" if call.example.id is None else f"/{quote(str(call.example.id), safe='')}")
    if call.method not in STANDARD:
        path += f"/{call.method}"
    return path + (f"?{write(call.example.query, READABLE)}" if call.example.query else "")


def _headers(call: Sample) -> Iterator[str]:
    if call.bearer:
        yield '"Authorization: Bearer $TOKEN"'
    yield from (f'"{name}: ${variable}"' for name, variable in call.proof.items())
    yield from (_quoted(f"{name}: {value}") for name, value in call.example.headers.items())
    if call.example.data is not None:
        yield "'Content-Type: application/json'"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def feathers(call: Sample) -> str:
    """Return JavaScript for a client of Feathers, ``app``, that has logged in over its transport, ``connection``."""
    path = JAVASCRIPT.write(call.path)
    called = _called(f"await {_client(call, 'app')}.service({path}).{call.method}", call, JAVASCRIPT)
    if call.method in STANDARD:
        return called
    return f"app.use({path}, connection.service({path}), {{ methods: ['{call.method}'] }})\n{called}"


def python(call: Sample) -> str:
    """Return Python for an ``apex.client.Client``, ``client``, that has logged in."""
    service = f"{_client(call, 'client')}.service({PYTHON.write(call.path)})"
    method = f"{service}.{call.method}"
    if keyword.iskeyword(call.method):
        method = f'getattr({service}, "{call.method}")'
    return _called(f"await {method}", call, PYTHON)


def _client(call: Sample, name: str) -> str:
    """Return the name of the client. A call with a key needs one that has not logged in."""
    return "keyed" if call.proof else name


def _called(start: str, call: Sample, style: Style) -> str:
    """Return a call, with its objects on several lines if it does not fit on one."""
    line = f"{start}({', '.join(map(style.on_a_line, call.arguments))})"
    return line if len(line) <= WIDTH else f"{start}({', '.join(map(style.on_lines, call.arguments))})"
