"""The base of the CRM's services: a class declares table, schema and relations, and ``serve`` adds the hooks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from apex import Apex, Context, Hook, Schema, SQLService, TableSchema, authenticate, validate_data, validate_query
from apex.adapters import MOST_RESTORED, RESTORED
from apex.common import (
    References,
    apply_select,
    check_multi,
    check_references,
    defer_select,
    idempotent,
    iff,
    is_provider,
    populate,
    require_condition,
    stash_before,
    transaction,
)
from apex.hooks import AnyHook, run_before
from apex.permissions import Rule, authorize, can
from apex.query.coercion import boolean
from apex.relations import Relation, belongs_to
from apex.schema import IdField, ValidationError, check_rules, fields
from hooks.audit import audit
from hooks.rate_limit import limit_rate
from hooks.records import set_owner, soft_delete, timestamps
from hooks.tenancy import (
    MISSING,
    ON_RECORDS,
    ORGANIZATION_ID,
    READS,
    caller_of,
    fill_organization,
    forbid_foreign,
    membership,
    require_organization,
    within_organization,
)
from services.shared.audience import to_organization
from services.shared.examples import Examples
from services.tables import answers

PERSON_FIELDS = ("id", "first_name", "last_name")
"""The fields of a user that are shown in a record that refers to it."""

MEMBER_REFERENCE = ("memberships", "user_id")
"""The reference of a field that holds the id of a member."""

MEMBERS = {"owned_by_user_id": MEMBER_REFERENCE}

OWNER = {"owner": belongs_to("users", "owned_by_user_id", fields=PERSON_FIELDS, trusted=True)}
"""The relation to the user who owns a record."""

CALLER_HOOKS = (run_before(authenticate("jwt", "api-key", entity=False)), limit_rate)
"""Around hooks that authenticate the caller and limit its rate."""

IDEMPOTENCY = idempotent(answers, caller_of)
"""The around hook that makes a write with an ``Idempotency-Key`` once."""

CALLER_AND_IDEMPOTENCY = (*CALLER_HOOKS, IDEMPOTENCY)

ADMINS_WRITE = {"viewer": can("find", "get"), "admin": can("create", "patch", "remove", "restore")}
"""The permissions of a service whose records all members read and admins change."""

STANDARD = ("find", "get", "create", "update", "patch", "remove")
WRITES = ("create", "patch", "remove", "restore")
JOINED = ("find", "get", "create", "patch", "restore")

MOST_CHANGED = 1_000
"""The records that one patch or remove changes at most."""


class TenantSchema(TableSchema):
    """The fields that every record of an organization has. The organization is set on create and stays."""

    create_only: ClassVar[tuple[str, ...]] = ("organization_id",)
    empty_is_null: ClassVar[bool] = True

    id = fields.Integer(dump_only=True)
    organization_id = IdField(required=True)
    created_at = fields.DateTime(dump_only=True)
    updated_at = fields.DateTime(dump_only=True)
    deleted_at = fields.DateTime(dump_only=True)
    created_by_user_id = fields.Integer(dump_only=True)
    owned_by_user_id = IdField(allow_none=True)


def _check_ids(given: Any) -> None:
    ids = given if isinstance(given, list) else [given]
    wrong = ValidationError(f"Must be the id of a record, or a list of 1 to {MOST_RESTORED:,} ids")
    if not 1 <= len(ids) <= MOST_RESTORED:
        raise wrong
    try:
        for id in ids:
            IdField().deserialize(id)
    except ValidationError:
        raise wrong from None


class RestoreSchema(Schema):
    """The data of ``restore``: the id of a removed record, or a list of ids."""

    organization_id = IdField(required=True)
    id = fields.Raw(required=True, validate=_check_ids, metadata=RESTORED)


MethodLists = Mapping[str, Sequence[AnyHook]]
"""Hooks by method."""

MethodHooks = Mapping[str, MethodLists]
"""Hooks by type and method."""


class TenantService(SQLService):
    """A service whose records belong to organizations. Class attributes declare it, and ``serve`` registers it.

    - ``schema`` checks the data of callers, ``record`` that of calls inside the process, if those may write more.
    - ``custom`` has the schemas of custom methods, ``reads`` the methods that only read.
    - ``transactions`` are the methods that run in a transaction. A create outside of one is a single statement. It has
      no hooks that store anything.
    - ``noun`` stands in errors. ``joins`` are the relations that are shown in lists which ask for them with
      ``join_filter``, or always without a ``join_filter``.
    - ``permissions`` are what the roles may do. Who may restore may also list removed records.
    - An API key writes to a ``guarded`` service only if the key names it.
    - ``repeatable`` is False if no answer may be stored for an ``Idempotency-Key``.
    - ``examples`` are the examples of the documentation, by method.
    """

    schema: ClassVar[type[Schema]]
    record: ClassVar[type[Schema]]
    noun: ClassVar[str]
    joins: ClassVar[Sequence[str]] = ()
    join_filter: ClassVar[str | None] = None
    custom: ClassVar[Mapping[str, type[Schema]]] = {}
    reads: ClassVar[Sequence[str]] = READS
    transactions: ClassVar[Sequence[str]] = ("patch", "remove", "restore")
    permissions: ClassVar[Mapping[str, Rule]] = {
        "viewer": can("find", "get"),
        "member": can("create", "patch", "remove"),
        "admin": can("restore"),
    }
    repeatable: ClassVar[bool] = True
    guarded: ClassVar[bool] = False
    examples: ClassVar[Examples] = {}

    methods: Sequence[str] = ("find", "get", "create", "patch", "remove")
    private: Sequence[str] = ("uuid",)
    trash: str | None = "deleted_at"
    relations: Mapping[str, Relation] = OWNER

    def __init_subclass__(cls) -> None:
        if "schema" in cls.__dict__ and "record" not in cls.__dict__:
            cls.record = cls.schema
        if cls.trash is not None:
            cls.custom = {"restore": RestoreSchema, **cls.custom}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.join_filter is not None:
            self.filters = {**self.filters, self.join_filter: boolean}


def serve(
    app: Apex,
    path: str,
    service: type[TenantService],
    *,
    checks: MethodLists | None = None,
    locks: MethodLists | None = None,
    on_write: Sequence[Hook] = (),
    hooks: MethodHooks | None = None,
) -> None:
    """Register a service of organizations with the hooks of ``tenant_hooks``, its relations and its publisher.

    ``hooks`` are more hooks of its own, by type and method. They run inside of the others, before the relations. Raises
    TypeError for hooks of create that may store something, unless ``transactions`` of the service names create.
    """
    own = [*(hooks or {}).values(), locks or {}]
    if "create" not in service.transactions and any("create" in by_method for by_method in own):
        raise TypeError(f"'{path}' has hooks of create, which may store something: add create to its transactions")
    # Relations that are always shown look at every record, so JSON of the database would be decoded again.
    json = not service.joins or service.join_filter is not None
    served = service(paginate=app.get("paginate"), json=json)
    message, references = f"Invalid {service.noun} data", references_of(served)
    common = tenant_hooks(
        served, service.schema, message, references=references, checks=checks, locks=locks, on_write=on_write
    )
    app.use(path, served, hooks=common)
    bound = app.service(path)
    bound.hooks(hooks or {})
    joined = ("find",) if service.join_filter else JOINED if service.trash else JOINED[:-1]
    joins = [_join(name, served.relations[name], service.join_filter) for name in service.joins]
    bound.hooks({"after": dict.fromkeys(joined, joins)})
    bound.publish(to_organization)


def tenant_hooks(
    service: Any,
    schema: type[Schema],
    message: str,
    *,
    references: References = MEMBERS,
    checks: MethodLists | None = None,
    locks: MethodLists | None = None,
    on_write: Sequence[Hook] = (),
) -> dict[str, dict[str, list[AnyHook]]]:
    """Return the hooks of a service of organizations, by type and method. This is their order in a call:

    1. ``authenticate`` and ``limit_rate`` find out who calls, and refuse callers that call too often.
    2. Hooks that look only at the request refuse a wrong query, data, organization or role. No transaction has
       begun, and no connection is taken.
    3. ``idempotency`` answers a repeated write. With an ``Idempotency-Key`` it begins a transaction.
    4. ``transaction`` begins one for the methods in ``transactions``.
    5. The ``locks`` lock other records, then ``stash_before`` locks and reads the records of the call. References are
       checked, and the fields of the server are set. ``on_write`` and the hooks of the service follow.
    6. The method.
    7. ``audit`` stores its entries, ``apply_select`` cuts the answer, and the hooks of the service follow. A create
       outside of a transaction stores its entries in its own statement instead (``audit_create``).
    8. The transaction commits. Then events go out.

    So a write, its audit and everything that its hooks store are stored together, or nothing is.

    ``message`` heads validation errors. ``references`` are the fields that refer to records of the same organization.
    ``checks`` belong to step 2, ``locks`` to step 5, both by method. ``on_write`` hooks run before create and patch,
    and store nothing. The service may have the attributes ``record``, ``custom``, ``reads`` and ``transactions`` of a
    ``TenantService``. Without ``transactions`` all writes run in one.
    """
    record: type[Schema] = getattr(service, "record", schema)
    custom: Mapping[str, type[Schema]] = getattr(service, "custom", {})
    reads: Collection[str] = getattr(service, "reads", READS)
    transactions: Collection[str] = getattr(service, "transactions", WRITES)
    methods = dict.fromkeys((*STANDARD, *(service.methods or ())))
    refers = check_references(references, within=within_organization, message=message, missing=MISSING)
    validate = _validate(schema, record, message, custom)
    stash = stash_before(most=MOST_CHANGED)
    hooks: dict[str, dict[str, list[AnyHook]]] = {"around": {}, "before": {}, "after": {}}
    for method in methods:
        is_custom, is_read = method not in STANDARD, method in reads
        request: list[Any] = [
            *([fill_organization] if method != "get" else []),
            *([check_multi] if method in ("create", "patch", "remove") else []),
            validate_query,
            *([validate] if is_custom or method in ("create", "patch") else []),
            *(checks or {}).get(method, ()),
            *([require_organization] if method not in ("get", "update") else []),
            membership,
            soft_delete,
            authorize,
            *([require_condition(ORGANIZATION_ID)] if method in ("patch", "remove") else []),
        ]
        hooks["around"][method] = [
            *CALLER_HOOKS,
            *([forbid_foreign] if method in ON_RECORDS else []),
            run_before(*request),
            *([] if is_read else [IDEMPOTENCY]),
            *([transaction] if method in transactions else []),
        ]
    for method in (method for method in WRITES if method in methods):
        is_alone = method == "create" and method not in transactions
        hooks["before"][method] = [
            defer_select(on_demand=not is_alone),
            *(locks or {}).get(method, ()),
            *([] if method == "create" else [stash]),
            *([refers] if method in ("create", "patch") else []),
            *([set_owner] if method == "create" else []),
            *([timestamps, *on_write] if method in ("create", "patch") else []),
        ]
        hooks["after"][method] = [audit, apply_select]
    return hooks


def _validate(schema: type[Schema], record: type[Schema], message: str, custom: Mapping[str, type[Schema]]) -> Hook:
    """Return the hook that validates the data of a call from outside, or of one inside the process.

    A call inside the process sets ``params.loaded`` if a schema has loaded its data. Then only the rules across fields
    are checked. Parts that are restored with their record are not checked.
    """

    def validated(schema: type[Schema]) -> Hook:
        return validate_data({"create": schema, "patch": schema, **custom}, message)

    inside = iff(lambda context: not (context.params.loaded or _is_part(context)), validated(record))
    inside = inside.else_(check_rules({"patch": record}, message))
    return iff(is_provider("external"), validated(schema)).else_(inside)


def _is_part(context: Context) -> bool:
    """Return True if a record is restored together with the one that it is part of."""
    return context.method == "restore" and context.params.parent is not None


def _join(name: str, relation: Relation, asked: str | None) -> Hook:
    """Return the hook that shows a declared relation in records, as ``asked`` or always."""
    return populate(
        name,
        service=relation.service,
        key=relation.key or "",
        fields=relation.fields or (),
        many=relation.many,
        removed=relation.removed,
        everyone=relation.trusted,
        when=partial(_asks, asked) if asked else _selects_nothing,
    )


def _selects_nothing(context: Context) -> bool:
    """Return True for a call without ``$select``. One that selects fields gets those, without the usual joins."""
    return context.params["query"].get("$select") is None


def _asks(name: str, context: Context) -> bool:
    return bool(context.params["query"].get(name))


def references_of(service: TenantService) -> dict[str, tuple[str, str]]:
    """Return the fields in which callers may refer to records of the same organization, by the relations."""
    belonging = (one for one in service.relations.values() if one.kind == "belongs_to")
    named = {str(one.key): MEMBER_REFERENCE if one.service == "users" else (one.service, "id") for one in belonging}
    return {key: refers for key, refers in named.items() if key != "created_by_user_id"}
