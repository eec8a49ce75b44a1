"""The fast path of validation, for data without errors.

Most of the time of a load of marshmallow goes into handling errors. The fast path lets the fields read their values and
the validators of the schema check the whole, as a load does. At the first sign of a problem it gives up, and the load
finds the errors. So a validator that refuses data is called twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from marshmallow import Schema, ValidationError, fields, missing
from marshmallow.decorators import POST_LOAD, PRE_LOAD, VALIDATES, VALIDATES_SCHEMA

NOT_LOADED: Any = object()
"""The result of the fast path if the schema itself has to load the data."""

FastLoad = Callable[[Any, bool], Any]
Check = Callable[[dict[str, Any], dict[str, Any], bool], None]
Step = tuple[str, str, bool, Callable[..., Any]]
"""For a field: its keys in the data and in the result, True if it may be missing, and the function that reads it."""


def fast_load(schema: Schema) -> FastLoad:
    """Return a function of data and ``many`` that returns what ``schema.load`` returns, or NOT_LOADED."""
    if not _is_plain(schema):
        return lambda data, many: NOT_LOADED
    steps, checks = tuple(_steps(schema)), tuple(_checks(schema))

    def load(data: Any, many: bool) -> Any:
        try:
            if not many:
                return _load_row(data, steps, checks, False)
            if data.__class__ is not list:
                return NOT_LOADED
            return [_load_row(row, steps, checks, True) for row in data]
        except (ValidationError, _Unusual):
            return NOT_LOADED

    return load


class _Unusual(Exception):
    """The data is not what the fast path expects."""


def _load_row(data: Any, steps: tuple[Step, ...], checks: tuple[Check, ...], many: bool) -> dict[str, Any]:
    if data.__class__ is not dict:
        raise _Unusual
    loaded: dict[str, Any] = {}
    known = 0
    for key, name, optional, read in steps:
        value = data.get(key, missing)
        if value is not missing:
            known += 1
        elif optional:
            continue
        value = read(value, key, data)
        if value is not missing:
            loaded[name] = value
    if known < len(data):
        raise _Unusual
    for check in checks:
        check(loaded, data, many)
    return loaded


def _is_plain(schema: Schema) -> bool:
    """Return True if a load does no more than read the fields and check the whole."""
    hooks, named = schema._hooks, schema.load_fields
    keys = {_key(name, field) for name, field in named.items()}
    nests = any("." in (field.attribute or name) for name, field in named.items())
    checks_lists = any(many for _, many, _ in hooks[VALIDATES_SCHEMA])
    has_hooks = hooks[PRE_LOAD] or hooks[VALIDATES] or hooks[POST_LOAD]
    return not (has_hooks or nests or checks_lists or len(keys) < len(named))


def _steps(schema: Schema) -> Iterator[Step]:
    for name, field in schema.load_fields.items():
        left_out = schema.partial is True or (isinstance(schema.partial, tuple | list | set) and name in schema.partial)
        optional = left_out or (not field.required and field.load_default is missing)
        yield _key(name, field), field.attribute or name, optional, _reader(schema, name, field)


def _reader(schema: Schema, name: str, field: fields.Field[Any]) -> Callable[..., Any]:
    """Return the function that reads a field. A ``partial`` schema may also allow gaps in the objects of the field."""
    given: Any = schema.partial
    if given is None:
        return field.deserialize
    if not isinstance(given, bool):
        given = [inner.removeprefix(f"{name}.") for inner in given if inner.startswith(f"{name}.")]
    return partial(field.deserialize, partial=given)


def _checks(schema: Schema) -> Iterator[Check]:
    for name, _, options in schema._hooks[VALIDATES_SCHEMA]:
        yield _check(getattr(schema, name), options, {"partial": schema.partial, "unknown": schema.unknown})


def _check(validator: Callable[..., None], options: Mapping[str, Any], more: Mapping[str, Any]) -> Check:
    if options.get("pass_original"):
        return lambda loaded, data, many: validator(loaded, data, many=many, **more)
    return lambda loaded, data, many: validator(loaded, many=many, **more)


def _key(name: str, field: fields.Field[Any]) -> str:
    return name if field.data_key is None else field.data_key
