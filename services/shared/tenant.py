"""What the services of a tenant share: table, schema and joins are declared, all that seals them is added here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from sqlalchemy import Table

from apex import Apex, Context, Hook, Schema, SQLService, authenticate, validate_data, validate_query
from apex.adapters import MOST_RESTORED, RESTORED
from apex.common import idempotent, iff, is_provider, populate, require_condition, stash_before
from apex.hooks import AnyHook, ahead
from apex.query.coercion import boolean
from apex.schema import Id, ValidationError, check_rules, fields
from hooks.audit import audit, audit_beside
from hooks.children import remove_children, require_parent, restore_children
from hooks.ownership import References, refers_within, stamp_owner
from hooks.rate_limit import limit_rate
from hooks.selection import keep_whole, select_for_caller
from hooks.soft_delete import soft_delete
from hooks.tenancy import (
    caller_of,
    fill_organization,
    forbid_foreign,
    membership,
    name_organization,
    one_or_many,
    tenancy,
)
from hooks.timestamps import timestamps
from hooks.transaction import transaction
from services.shared.audience import to_nobody, to_organization
from services.shared.examples import Examples
from services.tables import answers

PERSON_FIELDS = ("id", "first_name", "last_name")
MEMBER_REFERENCE = ("memberships", "user_id")
IDEMPOTENCY = idempotent(answers, caller_of)
CALLER_HOOKS = (ahead(authenticate("jwt", "api-key", entity=False)), limit_rate)
"""Around hooks that authenticate the caller and limit its rate."""
CALLER_AND_IDEMPOTENCY = (*CALLER_HOOKS, IDEMPOTENCY)
"""The same, and each ``Idempotency-Key`` writes once."""
OWNER = {"owned_by_user_id": MEMBER_REFERENCE}
JOINED = ("find", "get", "create", "patch", "restore")
WRITES = ("create", "patch", "remove", "restore")
MOST_CHANGED = 1_000
"""Records that one patch or remove changes."""


class TenantSchema(Schema):
    """The fields that every tenant's row has. The organization is chosen on create and stays."""

    create_only: ClassVar[tuple[str, ...]] = ("organization_id",)
    empty_is_null: ClassVar[bool] = True

    id = fields.Integer(dump_only=True)
    organization_id = Id(required=True)
    created_at = fields.DateTime(dump_only=True)
    updated_at = fields.DateTime(dump_only=True)
    deleted_at = fields.DateTime(dump_only=True)
    created_by_user_id = fields.Integer(dump_only=True)
    owned_by_user_id = Id(allow_none=True)


def _check_ids(given: Any) -> None:
    ids = given if isinstance(given, list) else [given]
    wrong = ValidationError(f"Must be the id of a record, or a list of 1 to {MOST_RESTORED:,} ids")
    if not 1 <= len(ids) <= MOST_RESTORED:
        raise wrong
    try:
        for id in ids:
            Id().deserialize(id)
    except ValidationError:
        raise wrong from None


class RestoreSchema(Schema):
    """The data of ``restore``: the id of a removed record, or a list of ids."""

    organization_id = Id(required=True)
    id = fields.Raw(required=True, validate=_check_ids, metadata=RESTORED)


MethodHooks = Mapping[str, Mapping[str, Sequence[AnyHook]]]


@dataclass(frozen=True, slots=True)
class Join:
    """A record of another service beside the ``key`` that refers to it, or with ``many`` the records whose ``key`` is
    this one's id. ``fields`` are those that are shown, or a function that makes what is shown. ``removed`` records are
    shown as well where it is True.
    """

    name: str
    service: str
    key: str
    fields: Sequence[str] | Callable[[Any], Any]
    many: bool = False
    removed: bool = False


class TenantService(SQLService):
    """A service whose rows belong to organizations. Class attributes declare it; ``serve`` registers it.

    ``schema`` says what callers may write, ``record`` what calls inside the process may, where that is more.
    ``noun`` stands in its errors, ``joins`` are made where a list asks for them by ``join_filter``, or always where
    there is none. ``custom`` has the schemas of custom methods, ``reads`` names the methods that only read.
    ``readers`` is the least role that may see records, ``writers`` the least that may change them, ``restorers`` the
    least that may see and restore removed ones, ``least_roles`` has others by method. ``part_of`` names the service and
    the key of the records that these are part of: they are removed and restored with them, and ``parts`` of that
    service lists them. If a service is ``guarded``, an API key writes to it only if the key names it. ``repeatable``
    is False if no answer may be stored for a repeated ``Idempotency-Key``. ``examples`` are those of its
    documentation, by method.
    """

    schema: ClassVar[type[Schema]]
    record: ClassVar[type[Schema]]
    noun: ClassVar[str]
    joins: ClassVar[Sequence[Join]] = ()
    join_filter: ClassVar[str | None] = None
    custom: ClassVar[Mapping[str, type[Schema]]] = {}
    reads: ClassVar[Sequence[str]] = ("find", "get")
    readers: ClassVar[str] = "viewer"
    writers: ClassVar[str] = "member"
    restorers: ClassVar[str] = "admin"
    part_of: ClassVar[tuple[str, str] | None] = None
    repeatable: ClassVar[bool] = True
    guarded: ClassVar[bool] = False
    least_roles: ClassVar[Mapping[str, str]] = {}
    examples: ClassVar[Examples] = {}

    methods: Sequence[str] = ("find", "get", "create", "patch", "remove")
    private: Sequence[str] = ("uuid",)
    trash: str | None = "deleted_at"

    def __init_subclass__(cls) -> None:
        if "schema" in cls.__dict__ and "record" not in cls.__dict__:
            cls.record = cls.schema
        if cls.trash is not None:
            cls.custom = {"restore": RestoreSchema, **cls.custom}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.parts: list[tuple[str, str]] = []
        if self.join_filter is not None:
            self.filters = {**self.filters, self.join_filter: boolean}


def serve(
    app: Apex,
    path: str,
    service: type[TenantService],
    *,
    checks: Sequence[Hook] = (),
    on_write: Sequence[Hook] = (),
    hooks: MethodHooks | None = None,
    locks: Mapping[str, Sequence[AnyHook]] | None = None,
) -> None:
    """Registers a tenant's service, sealed. ``hooks`` are more of its own, by type and method, inside of the others.

    Without a hook of its own a create is one statement; with one it is a unit of work, in which the hook may store.
    """
    alone = not any("create" in by_method for by_method in [*(hooks or {}).values(), locks or {}])
    sealed = tenant_hooks(
        service.schema,
        f"Invalid {service.noun} data",
        record=service.record,
        custom=service.custom,
        references=references_of(service.table),
        checks=checks,
        on_write=on_write,
        locks=locks,
        alone=alone,
    )
    joins = [_populate(join, service.join_filter) for join in service.joins]
    # Joins that are always made look at every record.
    json = not service.joins or service.join_filter is not None
    app.use(path, service(paginate=app.get("paginate"), json=json), hooks=sealed)
    bound = app.service(path)
    if service.part_of is not None:
        parents, key = service.part_of
        app.service(parents).service.parts.append((path, key))
        bound.hooks({"before": {"restore": [require_parent(parents, key)]}})
    bound.hooks(hooks or {})
    joined = ("find",) if service.join_filter else JOINED if service.trash else JOINED[:-1]
    bound.hooks({"after": dict.fromkeys(joined, joins)})
    bound.publish(to_organization if service.readers == "viewer" else to_nobody)


def tenant_hooks(
    schema: type[Schema],
    message: str,
    *,
    record: type[Schema] | None = None,
    custom: Mapping[str, type[Schema]] | None = None,
    references: References = OWNER,
    checks: Sequence[Hook] = (),
    on_write: Sequence[Hook] = (),
    locks: Mapping[str, Sequence[AnyHook]] | None = None,
    alone: bool = False,
) -> dict[str, Any]:
    """The hooks of a tenant's service. All that the request alone can tell is checked before the database is asked.
    What a call stores, what follows from it and its audit are stored as a whole.

    ``message`` heads validation errors, ``record`` is the schema of calls inside the process, ``custom`` names the
    schemas of custom methods, ``references`` the fields that point to records of the same organization, ``checks``
    further hooks that look at the request alone, ``on_write`` hooks of its own before create and patch, which do not
    store anything. ``locks`` has hooks by method that lock other records before the call locks its own. Where nothing
    else is stored by a create, it is ``alone`` and needs no unit of work. Removed records are restored where
    ``custom`` has a schema of ``restore``.
    """
    refers = refers_within(message, **references)
    sealed = [
        fill_organization, one_or_many, validate_query, _validate(schema, record, message, custom), *checks,
        name_organization, membership, tenancy, soft_delete, require_condition("organization_id"),
    ]  # fmt: skip
    stash = stash_before(most=MOST_CHANGED)
    writes = WRITES if "restore" in (custom or {}) else WRITES[:-1]
    units = writes[1:] if alone else writes
    # A call that the request alone refuses begins no transaction, also where it has an Idempotency-Key.
    around = {"all": [*CALLER_HOOKS, ahead(*sealed), IDEMPOTENCY], **{method: [transaction] for method in units}}
    own = {
        "create": [refers, stamp_owner, timestamps, *on_write, *([audit_beside] if alone else [])],
        "patch": [stash, refers, timestamps, *on_write],
        "remove": [stash, remove_children],
        "restore": [stash],
    }
    before = {
        method: [keep_whole(on_demand=method in units), *(locks or {}).get(method, ()), *own[method]]
        for method in writes
    }
    after: dict[str, list[AnyHook]] = {
        method: [audit, select_for_caller] if method in units else [select_for_caller] for method in writes
    }
    if "restore" in after:
        after["restore"].insert(0, restore_children)
    return {"around": around, "before": before, "after": after, "error": {"all": [forbid_foreign]}}


def _validate(
    schema: type[Schema], record: type[Schema] | None, message: str, custom: Mapping[str, type[Schema]] | None
) -> Hook:
    """What a caller outside may write, or what a call inside the process may: one whose data the schema has made
    already says so with ``params.loaded``, and is held to the rules across fields alone.
    """

    def validated(schema: type[Schema]) -> Hook:
        return validate_data({"create": schema, "patch": schema, **(custom or {})}, message)

    inside = iff(lambda context: not context.params.loaded, validated(record or schema))
    inside = inside.else_(check_rules({"patch": record or schema}, message))
    return iff(is_provider("external"), validated(schema)).else_(inside)


def _populate(join: Join, asked: str | None) -> Hook:
    when = partial(_asks, asked) if asked else _selects_nothing
    # A record may be owned by a user who has left the organization.
    more: Any = {"many": join.many, "removed": join.removed, "everyone": join.service == "users", "when": when}
    return populate(join.name, service=join.service, key=join.key, fields=join.fields, **more)


def _selects_nothing(context: Context) -> bool:
    """Return True for a call without ``$select``. One that selects fields gets those, without the usual joins."""
    return context.params.query.get("$select") is None


def _asks(name: str, context: Context) -> bool:
    return bool(context.params.query.get(name))


def references_of(table: Table) -> dict[str, tuple[str, str]]:
    """The fields that point to records of the same organization, with service and key, as the table declares them."""
    found = {}
    for constraint in table.foreign_key_constraints:
        *_, element = constraint.elements
        column, target = str(element.parent.name), str(element.column.table.name)
        if column not in ("organization_id", "created_by_user_id"):
            found[column] = MEMBER_REFERENCE if target == "users" else (target.replace("_", "-"), "id")
    return found
