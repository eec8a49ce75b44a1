"""Hooks that change the fields of records: keep, discard, require, copy, stamp."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from inspect import isawaitable
from typing import Any

from apex.context import Context, Params
from apex.errors import BadRequest, Forbidden
from apex.hooks import Hook, belongs
from apex.query.coercion import timestamp
from apex.query.language import Query
from apex.signatures import takes
from apex.types import Row, items, map_items, with_items

Tree = dict[str, "Tree"]


def keep(*fields: str) -> Hook:
    """Keep only these fields: of the data in a before hook, of the result in an after hook.

    Dots lead into objects and lists of them: ``address.city``.
    """
    tree = _tree(fields)
    return _changing(lambda record: _only(record, tree) if _is_nested(record) else record)


def discard(*fields: str) -> Hook:
    """Remove these fields: from the data in a before hook, from the result in an after hook.

    Dots lead into objects and lists of them: ``address.city``.
    """
    tree = _tree(fields)
    return _changing(lambda record: _without(record, tree))


def prevent_changes(*fields: str, raise_error: bool = True) -> Hook:
    """Refuse changes of these fields: before update and patch.

    Raises BadRequest naming the given fields. With ``raise_error=False`` they are removed from the data instead.
    """
    tree = _tree(fields)

    @belongs("before", "around")
    def prevent_changes(context: Context) -> None:
        if context.method not in ("update", "patch"):
            return
        given = [field for field in fields if _has(context.data, field)]
        if given and raise_error:
            raise BadRequest("Invalid data", errors=dict.fromkeys(given, "May not be changed"))
        context.data = _without(context.data, tree)

    return prevent_changes


def required(*fields: str) -> Hook:
    """Require these fields, neither null nor empty text: before methods that take data.

    Raises BadRequest naming the missing fields.
    """

    @belongs("before", "around")
    def required(context: Context) -> None:
        if not context.takes_data:
            return
        records = [{}] if context.data is None else items(None, context.data)
        missing = [field for field in fields if any(_at(record, field) in (None, "") for record in records)]
        if missing:
            raise BadRequest("Invalid data", errors=dict.fromkeys(missing, "Is required"))

    return required


def lower_case(*fields: str) -> Hook:
    """Write texts in lower case: those of the data in a before hook, those of the result in an after hook.

    Dots lead into objects and lists of them. Null and missing fields stay. Raises BadRequest for data with another
    value.
    """
    tree = _tree(fields)

    @belongs("before", "after")
    def lower_case(context: Context) -> None:
        if context.type == "before":
            wrong: dict[str, str] = {}
            context.data = map_items(None, context.data, lambda record: _lower(record, tree, "", wrong))
            if wrong:
                raise BadRequest("Invalid data", errors=wrong)
        else:
            _change_result(context, lambda record: _lower(record, tree, "", {}))

    return lower_case


def alter_items(change: Callable[[Any, Context], Any]) -> Hook:
    """Change each record: those of the data in a before hook, those of the result in an after hook.

    The function of ``(record, context)``, ``def`` or ``async def``, changes the record in place or returns another one.
    Records of the data are copies. Raises TypeError for another function.
    """
    if not callable(change) or not takes(change, 2):
        raise TypeError(f"alter_items takes a function of (record, context), not {change!r}")

    async def altered(record: Any, context: Context) -> Any:
        other = change(record, context)
        other = await other if isawaitable(other) else other
        return record if other is None else other

    @belongs("before", "after")
    async def alter_items(context: Context) -> None:
        if context.type == "before":
            copies = [dict(one) if isinstance(one, Mapping) else one for one in context.items]
            context.items = [await altered(record, context) for record in copies]
            return
        method = context.method
        results = [await altered(record, context) for record in context.items]
        context.result = with_items(method, context.result, results)
        if context.has_dispatch:
            shown = [await altered(record, context) for record in items(method, context.dispatch)]
            context.dispatch = with_items(method, context.dispatch, shown)

    return alter_items


def set_field(*, as_: str, from_: str) -> Hook:
    """Copy a value of the context: ``set_field(from_="params.user.id", as_="params.scope.user_id")``.

    If it is missing, callers from outside get Forbidden, and calls inside the process go on without it. A field that
    separates callers belongs in ``params.scope``, which no query overrides.
    """

    places = ("after", "around") if as_.partition(".")[0] in ("result", "dispatch") else ("before", "after", "around")

    @belongs(*places)
    def set_field(context: Context) -> None:
        value = _at(context, from_)
        if value is not None:
            _put(context, as_.split("."), value)
        elif context.params.provider:
            raise Forbidden(f"Expected field {from_} not available")

    return set_field


def set_now(*fields: str) -> Hook:
    """Set these fields to the present moment, to the millisecond: before methods that take data."""

    @belongs("before", "around")
    def set_now(context: Context) -> None:
        if context.takes_data:
            stamps = dict.fromkeys(fields, now())
            context.data = map_items(None, context.data, lambda record: {**record, **stamps})

    return set_now


def timestamps(created: str = "created_at", updated: str = "updated_at") -> Hook:
    """Set when a record was created and last updated: before create, update and patch.

    Values that the data has already stay. Check callers' data with a schema that does not take these fields.
    """

    @belongs("before", "around")
    def timestamps(context: Context) -> None:
        names = (created, updated) if context.method == "create" else (updated,)
        stamps = dict.fromkeys(names, now())
        context.items = [{**stamps, **row} for row in context.items]

    return timestamps


def set_owner(owner: str = "owner_id", creator: str | None = None, *, id: str = "id") -> Hook:
    """Let the caller own what it creates, unless the data names another owner: before create.

    ``creator`` names a field that is the caller in any case. Calls without ``params.user`` change nothing. ``id`` is
    the id field of users.
    """

    @belongs("before", "around")
    def set_owner(context: Context) -> None:
        if context.params.user:
            user_id = context.params.user[id]
            made: Row = {} if creator is None else {creator: user_id}
            context.items = [
                {**row, **made, owner: user_id if row.get(owner) is None else row[owner]} for row in context.items
            ]

    return set_owner


def now() -> datetime:
    """Return the present moment in UTC, to the millisecond."""
    return timestamp(datetime.now(UTC))


def _changing(change: Callable[[Any], Any]) -> Hook:
    """Return a hook that changes the records of the data before a method, and those of the result after it.

    If a hook has set ``context.dispatch``, its records change too.
    """

    @belongs("before", "after")
    def changing(context: Context) -> None:
        if context.type == "before":
            context.data = map_items(None, context.data, change)
        else:
            _change_result(context, change)

    return changing


def _change_result(context: Context, change: Callable[[Any], Any]) -> None:
    context.result = map_items(context.method, context.result, change)
    if context.has_dispatch:
        context.dispatch = map_items(context.method, context.dispatch, change)


def _lower(value: Any, tree: Tree, path: str, wrong: dict[str, str]) -> Any:
    """Return a value with the texts of a tree in lower case. Fields with another value are added to ``wrong``."""
    if isinstance(value, list) and tree:
        return [_lower(item, tree, path, wrong) for item in value]
    if tree:
        if not isinstance(value, Mapping):
            return value
        inner = {name: f"{path}.{name}".lstrip(".") for name in tree if name in value}
        return {**value, **{name: _lower(value[name], tree[name], full, wrong) for name, full in inner.items()}}
    if isinstance(value, str):
        return value.lower()
    if value is not None:
        wrong[path] = "Must be a string"
    return value


def _tree(fields: Sequence[str]) -> Tree:
    """Return ``("a", "b.c")`` as ``{"a": {}, "b": {"c": {}}}``. An empty dict stands for the whole value."""
    tree: Tree = {}
    for field in sorted(fields, key=len, reverse=True):
        *path, last = field.split(".")
        branch = tree
        for name in path:
            branch = branch.setdefault(name, {})
        branch[last] = {}
    return tree


def _without(value: Any, tree: Tree) -> Any:
    if isinstance(value, list):
        return [_without(item, tree) for item in value]
    if not tree or not isinstance(value, Mapping):
        return value
    return {name: _without(inner, tree.get(name, {})) for name, inner in value.items() if tree.get(name) != {}}


def _only(value: Any, tree: Tree) -> Any:
    if isinstance(value, list):
        return [_only(item, tree) for item in value if _is_nested(item)]
    kept = (name for name, inner in value.items() if name in tree and (not tree[name] or _is_nested(inner)))
    return {name: _only(value[name], tree[name]) if tree[name] else value[name] for name in kept}


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping | list)


def _at(value: Any, path: str) -> Any:
    """Return the value at a dotted path, or None."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    return value


def _has(record: Any, path: str) -> bool:
    *outer, last = path.split(".")
    inner = _at(record, ".".join(outer)) if outer else record
    return isinstance(inner, Mapping) and last in inner


def _put(target: Any, path: list[str], value: Any) -> Any:
    """Return the target with another value at a path. Objects of callers are copied, not changed."""
    if not path:
        return value
    if isinstance(target, Query):
        raise TypeError("set_field has to come before validate_query, or set params.scope")
    name, *rest = path
    if isinstance(target, list):
        return [_put(one, path, value) for one in target]
    if isinstance(target, Params):
        target[name] = _put(target.get(name), rest, value)
        return target
    if isinstance(target, Context):
        setattr(target, name, _put(getattr(target, name), rest, value))
        return target
    return {**(target or {}), name: _put((target or {}).get(name), rest, value)}
