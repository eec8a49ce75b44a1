"""The declarations of relations: ``belongs_to``, ``has_many`` and ``many_to_many``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, Unpack

from apex.types import Row

Kind = Literal["belongs_to", "has_many", "many_to_many"]
OnRemove = Literal["cascade", "restrict", "set_null"]
ON_REMOVE: tuple[OnRemove, ...] = ("cascade", "restrict", "set_null")

_RESERVED = frozenset("$.[]")
"""The characters that have a meaning in query strings and paths."""

Fields = Sequence[str] | Callable[[Row], Any]
"""The fields to show of a related record, or a function that returns what to show of it."""


class ReadOptions(TypedDict, total=False):
    """The options of all relations. ``Relation`` describes them."""

    fields: Fields | None
    always: bool
    removed: bool
    trusted: bool
    on_remove: OnRemove | None
    write: bool


class ManyOptions(ReadOptions, total=False):
    """The options of relations to many records. ``Relation`` describes them."""

    limit: int | None
    sort: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A relation between the records of two services. ``belongs_to``, ``has_many`` and ``many_to_many`` make it.

    ::

        class Issues(SQLService):
            table = issues
            relations = {
                "project": belongs_to("projects"),
                "comments": has_many("comments", "issue_id", sort={"created_at": -1}),
                "labels": many_to_many("labels", through=issue_labels),
            }
    """

    kind: Kind
    """The name of the function that made the relation."""
    service: str
    """The path of the related service."""
    key: str | None = None
    """The field with the id of the other record. ``belongs_to`` has it in its own records, ``has_many`` in the related
    ones, and ``many_to_many`` in the link table, for the own record. None stands for the usual one."""
    through: Any = None
    """The link table of ``many_to_many``, or the path of the service with the links."""
    other_key: str | None = None
    """The field of the link table with the id of the related record. None stands for the only foreign key to it."""
    fields: Fields | None = None
    """The fields that are shown, or a function that returns what to show. None shows what a call of the related service
    would show."""
    always: bool = False
    """True if callers get the related records without asking, unless their query has ``$select``.

    This is about answers of the service itself. A ``$populate`` of another service names the nested relations that it
    wants, as two services may always show each other.
    """
    removed: bool = False
    """True if records that ``soft_delete`` has removed are shown too."""
    trusted: bool = False
    """True if the related records are read by the process itself, and not with the rights of the caller.

    All callers see the ``fields`` of them then, whatever the related service would allow, and whichever tenant has
    them. The name of an author who has left the team is an example.
    """
    limit: int | None = None
    """The number of related records for each record, if a query has no ``$limit``."""
    sort: Mapping[str, int] | None = None
    """The order of the related records, if a query has no ``$sort``: ``{"created_at": -1}``."""
    on_remove: OnRemove | None = None
    """The fate of the related records when a record is removed: they are removed too ("cascade"), prevent the removal
    ("restrict"), or lose their key ("set_null")."""
    write: bool = False
    """True if the data of ``create`` and ``patch`` may hold related records."""

    def __post_init__(self) -> None:
        """Raise TypeError for options that do not go together."""
        maker = f"{self.kind}('{self.service}')"
        if not isinstance(self.service, str) or not self.service.strip("/"):
            raise TypeError(f"{self.kind} takes the path of a service such as 'projects', not {self.service!r}")
        if isinstance(self.fields, str):
            raise TypeError(f"fields of {maker} takes a list of names such as ['{self.fields}'], not '{self.fields}'")
        if self.trusted and self.fields is None:
            raise TypeError(f"{maker} is trusted: name the fields that everybody may see with fields=(...)")
        if self.limit is not None and (type(self.limit) is not int or self.limit < 0):
            raise TypeError(f"limit of {maker} takes a number of records, not {self.limit!r}")
        if self.sort is not None and not _is_order(self.sort):
            raise TypeError(f"sort of {maker} takes a dict such as {{'created_at': -1}}, not {self.sort!r}")
        if self.on_remove is not None and self.on_remove not in ON_REMOVE:
            raise TypeError(f"on_remove of {maker} takes {', '.join(ON_REMOVE)}, not {self.on_remove!r}")

    @property
    def many(self) -> bool:
        """True if a record has a list of related records, False if it has one or None."""
        return self.kind != "belongs_to"


def belongs_to(service: str, key: str | None = None, **options: Unpack[ReadOptions]) -> Relation:
    """Return the relation to the one record of a service whose id is in the ``key`` of the own record.

    The key is the name of the relation with ``_id``, unless it is given: ``{"project": belongs_to("projects")}`` reads
    ``project_id``. ``Relation`` describes the options.
    """
    return Relation(kind="belongs_to", service=service, key=key, **options)


def has_many(service: str, key: str, **options: Unpack[ManyOptions]) -> Relation:
    """Return the relation to the records of a service whose ``key`` is the id of the own record.

    ``Relation`` describes the options.
    """
    return Relation(kind="has_many", service=service, key=key, **options)


def many_to_many(
    service: str,
    *,
    through: Any,
    key: str | None = None,
    other_key: str | None = None,
    **options: Unpack[ManyOptions],
) -> Relation:
    """Return the relation to the records of a service that a link table connects with the own record.

    ``through`` is the table, or the path of a service with the links. A table needs one foreign key to each side, or
    its columns are named: ``key`` has the id of the own record, ``other_key`` that of the related one. ``Relation``
    describes the other options.
    """
    if through is None or (isinstance(through, str) and not (key and other_key)):
        raise TypeError(
            f"many_to_many('{service}') needs through=<table>, or through='links' with key='own_id' and "
            "other_key='other_id'"
        )
    return Relation(kind="many_to_many", service=service, key=key, through=through, other_key=other_key, **options)


def checked_relations(relations: Any) -> dict[str, Relation]:
    """Return the relations of a service with the keys that they have by default. Raises TypeError for wrong ones."""
    if not isinstance(relations, Mapping):
        raise TypeError(f"relations takes a dict such as {{'project': belongs_to('projects')}}, not {relations!r}")
    checked: dict[str, Relation] = {}
    for name, relation in relations.items():
        if not isinstance(relation, Relation):
            raise TypeError(f"relations['{name}'] takes belongs_to, has_many or many_to_many, not {relation!r}")
        if not isinstance(name, str) or not name or not _RESERVED.isdisjoint(name):
            raise TypeError(f"A relation needs a name without '$', '.' and brackets, not {name!r}")
        default = f"{name}_id" if relation.kind == "belongs_to" and relation.key is None else relation.key
        checked[name] = replace(relation, key=default)
    return checked


def _is_order(sort: Any) -> bool:
    return isinstance(sort, Mapping) and all(direction in (1, -1) for direction in sort.values())
