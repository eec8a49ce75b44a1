"""Rules: what the callers of a service may do, on which records, and with which fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from apex.context import Context
from apex.query.scope import Scope, scope_of

EVERY = "*"
"""The name that stands for all methods of a service."""

Where = Mapping[str, Any] | Callable[[Context], Any]
"""A scope, or a function of the context that returns one, or True for all records, or False for none."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A part of the permissions of a service, which ``can`` makes.

    ``methods`` are those that it allows. ``where`` limits the records, and ``fields`` the fields that these methods may
    show or change.
    """

    methods: tuple[str, ...]
    where: Where | None = None
    fields: tuple[str, ...] | None = None

    def allows(self, method: str) -> bool:
        """Return True if the rule is about a method. ``update`` replaces all fields, so ``*`` with fields omits it."""
        return method in self.methods or (EVERY in self.methods and not (method == "update" and self.fields))


@dataclass(frozen=True, slots=True)
class Mine:
    """The scope of records that belong to the caller, which ``mine`` makes."""

    fields: tuple[str, ...]
    of: str | None = None

    def __call__(self, context: Context) -> Mapping[str, Any] | bool:
        """Return the scope for the caller of a context. It is False for a caller that has not logged in."""
        value = entity_id(context) if self.of is None else (entity_of(context) or {}).get(self.of)
        if value is None:
            return False
        if len(self.fields) == 1:
            return {self.fields[0]: value}
        return {"$or": [{field: value} for field in self.fields]}


def can(*methods: str, where: Where | None = None, fields: Iterable[str] | None = None) -> Rule:
    """Return the rule that allows methods of a service, standard or custom, or all of them with ``"*"``.

    ::

        class Notes(SQLService):
            permissions = {
                "user": can("find", "get", fields=("title", "text")),
                "author": [can("find", "get"), can("patch", "remove", where=mine("user_id"))],
                "admin": can("*"),
            }

    ``where`` is a scope such as ``{"public": True}``, or a function of the context that returns one. Without it the
    rule is about all records. ``fields`` are those that ``find`` and ``get`` may show, and that ``create`` and
    ``patch`` may write. The id is always shown. Raises TypeError for arguments of another form.
    """
    if not methods or not all(isinstance(method, str) and method for method in methods):
        raise TypeError("can takes the names of methods, such as can('find', 'get'), or can('*') for all of them")
    if where is not None and not callable(where):
        if not isinstance(where, Mapping) or not where:
            raise TypeError(f"where takes a scope such as {{'public': True}} or a function, not {where!r}")
        where = scope_of(where)
    if isinstance(fields, str):
        raise TypeError(f"fields takes a list of names such as ['{fields}'], not '{fields}'")
    listed = None if fields is None else tuple(dict.fromkeys(fields))
    if listed is not None and not (listed and all(isinstance(name, str) for name in listed)):
        raise TypeError(f"fields takes a list of names of fields, not {fields!r}")
    if listed is not None and "update" in methods:
        raise TypeError("update replaces all fields of a record, so its rule takes no fields: allow patch instead")
    return Rule(methods, where, listed)


def mine(*fields: str, of: str | None = None) -> Mine:
    """Return the ``where`` of records that belong to the caller: one of the ``fields`` has the caller's id.

    ``of`` names another field of the user that is compared instead of its id. It may hold a list, of which any value
    counts: ``mine("team_id", of="team_ids")``. Raises TypeError without a field.
    """
    if not fields or not all(isinstance(field, str) and field for field in fields):
        raise TypeError("mine takes the names of fields with the id of the caller, such as mine('user_id')")
    return Mine(fields, of)


def entity_of(context: Context) -> Any:
    """Return the entity that has logged in, by default ``params.user``, or None."""
    authentication = context.app.settings.get("defaultAuthentication")
    entity = "user" if authentication is None else authentication.entity
    return None if entity is None else context.params.get(entity)


def is_known(context: Context) -> bool:
    """Return True for a caller that has logged in."""
    return entity_of(context) is not None or context.params.get("authenticated") is True


def entity_id(context: Context) -> Any:
    """Return the id of the entity that has logged in. Without an entity it is the subject of its token, or None."""
    entity, authentication = entity_of(context), context.app.get("defaultAuthentication")
    if isinstance(entity, Mapping):
        return entity.get("id" if authentication is None else authentication.entity_id)
    if entity is not None:
        return entity
    proof = context.params.get("authentication") if context.params.get("authenticated") is True else None
    return ((proof or {}).get("payload") or {}).get("sub")


def shown_where(rule: Rule) -> str:
    """Return the condition of a rule as a text for people, or an empty text."""
    where = rule.where
    if where is None:
        return ""
    if isinstance(where, Mine):
        of = "" if where.of is None else f", of={where.of!r}"
        return f"mine({', '.join(map(repr, where.fields))}{of})"
    if isinstance(where, Scope):
        return repr(dict(where))
    return f"{getattr(where, '__qualname__', type(where).__qualname__)}()".replace(".<locals>", "")
