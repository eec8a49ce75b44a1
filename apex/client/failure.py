"""The errors of a server, rebuilt as what they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from apex.errors import BY_CODE, FeathersError


def rebuild(body: Any, status: int = 500) -> FeathersError:
    """The error of an error body, of the class with its name, else its code; ``status`` where it has no code."""
    told: Mapping[str, Any] = body if isinstance(body, Mapping) else {"message": body}
    code = told["code"] if isinstance(told.get("code"), int) else status
    error = _class(told.get("name"), code)(str(told.get("message") or f"Error {code}"))
    error.data, error.errors = told.get("data"), told.get("errors")
    # A server may have codes, and names, of its own.
    own = {"name": told.get("name"), "class_name": told.get("className")}
    vars(error).update({key: value for key, value in own.items() if isinstance(value, str)}, code=code)
    return error


def _class(name: Any, code: int) -> type[FeathersError]:
    named = [cls for cls in _family(FeathersError) if cls.name == name]
    exact = [cls for cls in named if cls.code == code]
    return (exact or named or [BY_CODE.get(code, FeathersError)])[0]


def _family(parent: type[FeathersError]) -> Iterator[type[FeathersError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _family(child)
