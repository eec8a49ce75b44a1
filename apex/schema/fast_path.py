"""The short way through a marshmallow schema, for data that nothing is wrong with.

Most of what a load costs is the care for what may be wrong. Here the fields read their values and the validators of the
schema look at the whole, as in a load, but at the first sign of trouble it is left to the load to find out what to say.
A validator that refuses is therefore called twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from marshmallow import Schema, ValidationError, fields, missing
from marshmallow.decorators import POST_LOAD, PRE_LOAD, VALIDATES, VALIDATES_SCHEMA

DOUBT: Any = object()
"""In place of a result: the schema has to say."""

Accept = Callable[[Any, bool], Any]
Check = Callable[[dict[str, Any], dict[str, Any], bool], None]
Step = tuple[str, str, bool, Callable[..., Any]]
"""Of a field: the key it is read from and the one it is written to, whether it may be missing, how it is read."""


def acceptor(schema: Schema) -> Accept:
    """A function of data and ``many`` that gives what ``schema.load`` gives, or DOUBT."""
    if not _is_plain(schema):
        return lambda data, many: DOUBT
    steps, checks = tuple(_steps(schema)), tuple(_checks(schema))

    def accept(data: Any, many: bool) -> Any:
        try:
            if not many:
                return _loaded(data, steps, checks, False)
            return [_loaded(row, steps, checks, True) for row in data] if data.__class__ is list else DOUBT
        except (ValidationError, _Doubt):
            return DOUBT

    return accept


class _Doubt(Exception):
    """Something is unusual."""


def _loaded(data: Any, steps: tuple[Step, ...], checks: tuple[Check, ...], many: bool) -> dict[str, Any]:
    if data.__class__ is not dict:
        raise _Doubt
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
        raise _Doubt
    for check in checks:
        check(loaded, data, many)
    return loaded


def _is_plain(schema: Schema) -> bool:
    """Whether a load does no more than read the fields and check the whole."""
    hooks, named = schema._hooks, schema.load_fields
    keys = {_key(name, field) for name, field in named.items()}
    nests = any("." in (field.attribute or name) for name, field in named.items())
    collects = any(many for _, many, _ in hooks[VALIDATES_SCHEMA])
    return not (hooks[PRE_LOAD] or hooks[VALIDATES] or hooks[POST_LOAD] or nests or collects or len(keys) < len(named))


def _steps(schema: Schema) -> Iterator[Step]:
    for name, field in schema.load_fields.items():
        left_out = schema.partial is True or (isinstance(schema.partial, tuple | list | set) and name in schema.partial)
        optional = left_out or (not field.required and field.load_default is missing)
        yield _key(name, field), field.attribute or name, optional, _reader(schema, name, field)


def _reader(schema: Schema, name: str, field: fields.Field[Any]) -> Callable[..., Any]:
    """What a patch may leave out, it may leave out of objects in it where the schema says so."""
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
