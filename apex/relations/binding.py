"""Relations in a running app: each declaration with the services that it connects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apex.query.across import RelatedSyntax
from apex.query.language import suggestion
from apex.relations.declarations import Relation

if TYPE_CHECKING:
    from apex.adapters.base import Adapter
    from apex.app import Apex
    from apex.service import BoundService


@dataclass(frozen=True, slots=True)
class Link:
    """The links of a ``many_to_many``: the adapter that stores them, and its fields with the ids of both sides.

    Links of a ``service`` are read with its hooks. A table has none.
    """

    adapter: Adapter[Any]
    key: str
    other_key: str
    service: BoundService | None = None


@dataclass(frozen=True, slots=True)
class BoundRelation:
    """A relation of a service in an app. ``adapter`` is the related service without its hooks."""

    name: str
    declared: Relation
    owner: Adapter[Any]
    service: BoundService
    adapter: Adapter[Any]
    key: str
    link: Link | None = None

    @property
    def own_key(self) -> str:
        """The field of the own records that says which related records belong to one."""
        return self.owner.id if self.declared.many else self.key

    @property
    def related_key(self) -> str:
        """The field of the related records, or of the links, that has the value of the own key."""
        return self.key if self.declared.many else self.adapter.id

    @property
    def names(self) -> Sequence[str] | None:
        """The fields that are shown of a related record. None, if they are not declared or a function makes them."""
        fields = self.declared.fields
        return None if callable(fields) else fields

    def syntax(self) -> RelatedSyntax:
        """Return the queries that callers may send across the relation.

        Of records that the process reads for them they can only ask for the fields that they see.
        """
        names = None if not self.declared.trusted else self.names or ()
        return RelatedSyntax(self.own_key, self.declared.many, names, lambda: self.adapter.syntax)


async def bind(app: Apex, path: str, owner: Adapter[Any]) -> dict[str, BoundRelation]:
    """Return the relations of a service, by name.

    Raises TypeError for a relation that the services of the app cannot have. It names the fix.
    """
    return {name: await _bound(app, path, owner, name, relation) for name, relation in owner.relations.items()}


async def _bound(app: Apex, path: str, owner: Adapter[Any], name: str, relation: Relation) -> BoundRelation:
    from apex.adapters.base import Adapter

    where = f"Relation '{name}' of service '{path}'"
    service = app.services.get(relation.service.strip("/"))
    if service is None:
        hint = suggestion(relation.service, app.services)
        raise TypeError(
            f"{where} names the service '{relation.service}', which the app does not have.{hint} "
            f"Register it with app.use('{relation.service}', ...) before the app is set up"
        )
    adapter = service.service
    if not isinstance(adapter, Adapter):
        raise TypeError(
            f"{where} names '{relation.service}', which is no adapter: relations are between services such as "
            "SQLService and MemoryService"
        )
    for one in (relation.service, relation.through):
        _require_find(where, relation, app.services.get(one.strip("/")) if isinstance(one, str) else None)
    link = None
    if relation.kind == "belongs_to":
        key = relation.key or f"{name}_id"
        _require_key(where, f"service '{path}'", owner, key)
    elif relation.kind == "has_many":
        key = relation.key or ""
        _require_key(where, f"service '{relation.service}'", adapter, key)
        if relation.on_remove is not None:
            _require_fate(where, path, relation, adapter)
    else:
        link = await owner._link(where, relation, app, adapter)
        key = link.key
    if not callable(relation.fields):
        _require_fields(where, "fields", relation.fields or (), adapter)
    _require_fields(where, "sort", relation.sort or (), adapter)
    return BoundRelation(name, relation, owner, service, adapter, key, link)


def service_link(where: str, relation: Relation, app: Apex) -> Link:
    """Return the links of a relation through a service. Raises TypeError if the service cannot have them."""
    from apex.adapters.base import Adapter

    path = relation.through
    if not isinstance(path, str):
        raise TypeError(
            f"{where} goes through a table, which only a SQLService can do: name the service with the links, as in "
            "through='links', key='own_id', other_key='other_id'"
        )
    service = app.services.get(path.strip("/"))
    if service is None or not isinstance(service.service, Adapter):
        hint = suggestion(path, app.services)
        raise TypeError(f"{where} goes through the service '{path}', which is no adapter of the app.{hint}")
    key, other_key = relation.key or "", relation.other_key or ""
    for name in (key, other_key):
        _require_key(where, f"service '{path}'", service.service, name)
    return Link(service.service, key, other_key, service)


def require_names(path: str, owner: Adapter[Any]) -> None:
    """Raise TypeError for a relation with the name of a field."""
    for name in owner.relations:
        if owner.columns is not None and name in owner.columns:
            raise TypeError(f"Relation '{name}' of service '{path}' has the name of a field: rename the relation")


def _require_find(where: str, relation: Relation, service: BoundService | None) -> None:
    if service is not None and not relation.trusted and "find" not in service._options.methods:
        raise TypeError(
            f"{where} reads '{service._path}', which has no method find for callers: list it in its methods, or let "
            "the process read the records with trusted=True and fields=(...)"
        )


def _require_key(where: str, of: str, adapter: Adapter[Any], key: str) -> None:
    if adapter.columns is not None and key not in adapter.columns:
        hint = suggestion(key, adapter.columns)
        raise TypeError(f"{where} needs the key '{key}', which {of} does not have.{hint} Name its key with key='...'")
    if key in adapter.kept:
        raise TypeError(
            f"{where} needs the key '{key}', which {of} hides (private or on_demand): callers must be able to read it"
        )


def _require_fate(where: str, path: str, relation: Relation, adapter: Adapter[Any]) -> None:
    """Raise TypeError for an ``on_remove`` that the related records cannot follow, or that would miss new ones."""
    kinds = ((one.kind, one.service.strip("/"), one.key) for one in adapter.relations.values())
    if ("belongs_to", path, relation.key) not in kinds:
        raise TypeError(
            f"{where}: on_remove needs the relation of '{relation.service}' too: belongs_to('{path}', "
            f"'{relation.key}'). Without it a new record could refer to one that is just removed"
        )
    column = getattr(getattr(adapter, "table", None), "c", {}).get(relation.key)
    if relation.on_remove == "set_null" and column is not None and not column.nullable:
        raise TypeError(f"{where}: on_remove='set_null' needs a key that may be null, and {column} may not")


def _require_fields(where: str, option: str, names: Iterable[str], adapter: Adapter[Any]) -> None:
    for name in names:
        if adapter.columns is not None and name not in adapter.columns:
            hint = suggestion(name, adapter.columns)
            raise TypeError(f"{where}: {option} names '{name}', which is no field of its service.{hint}")
