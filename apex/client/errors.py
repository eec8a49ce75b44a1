"""The errors of a server, rebuilt from their JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from apex.errors import BY_CODE, FeathersError


def rebuild(body: Any, status: int = 500) -> FeathersError:
    """Return the error of a body, of the class with its name or else its code. ``status`` replaces a missing code."""
    fields: Mapping[str, Any] = body if isinstance(body, Mapping) else {"message": body}
    code = fields["code"] if isinstance(fields.get("code"), int) else status
    error = _class(fields.get("name"), code)(str(fields.get("message") or f"Error {code}"))
    error.data, error.errors = fields.get("data"), fields.get("errors")
    # A server may have codes and names of its own.
    own = {"name": fields.get("name"), "class_name": fields.get("className")}
    vars(error).update({key: value for key, value in own.items() if isinstance(value, str)}, code=code)
    return error


def _class(name: Any, code: int) -> type[FeathersError]:
    named = [cls for cls in _subclasses(FeathersError) if cls.name == name]
    exact = [cls for cls in named if cls.code == code]
    return (exact or named or [BY_CODE.get(code, FeathersError)])[0]


def _subclasses(parent: type[FeathersError]) -> Iterator[type[FeathersError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _subclasses(child)
