"""What the services of a tenant share: the hooks that seal them, and the schema of what the server sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apex import Schema, authenticate, validate_data, validate_query
from apex.hooks import Hook
from apex.schema import Id, fields
from hooks.ownership import refers_within, stamp_owner
from hooks.selection import keep_whole, select_for_caller
from hooks.soft_delete import soft_delete
from hooks.tenancy import forbid_foreign, membership, name_organization, one_or_many, tenancy
from hooks.timestamps import timestamps


class TenantSchema(Schema):
    """The fields that every tenant's row has. The organization is chosen on create and stays."""

    create_only = ("organization_id",)

    id = fields.Integer(dump_only=True)
    organization_id = Id(required=True)
    created_at = fields.DateTime(dump_only=True)
    updated_at = fields.DateTime(dump_only=True)
    deleted_at = fields.DateTime(dump_only=True)
    created_by_user_id = fields.Integer(dump_only=True)
    owned_by_user_id = Id(allow_none=True)


def tenant_hooks(
    schema: type[Schema],
    message: str,
    *,
    custom: Mapping[str, type[Schema]] | None = None,
    references: Mapping[str, tuple[str, str]] | None = None,
    checks: Sequence[Hook] = (),
    on_write: Sequence[Hook] = (),
    after: Mapping[str, Sequence[Hook]] | None = None,
) -> dict[str, Any]:
    """The hooks of a tenant's service. All that the request alone can tell is checked before the database is asked.

    ``message`` heads validation errors, ``custom`` names the schemas of custom methods, ``references`` the fields
    that point to records of the same organization, ``checks`` further hooks that look at the request alone,
    ``on_write`` hooks of its own before create and patch.
    """
    schemas = {"create": schema, "patch": schema, **(custom or {})}
    owner = {"owned_by_user_id": ("memberships", "user_id")}
    refers = refers_within(message, **owner, **(references or {}))
    sealed = [
        authenticate("jwt", entity=False), one_or_many, validate_query, validate_data(schemas, message), *checks,
        name_organization, membership, tenancy, soft_delete,
    ]  # fmt: skip
    return {
        "before": {
            "all": sealed,
            "create": [keep_whole, refers, stamp_owner, timestamps, *on_write],
            "patch": [keep_whole, refers, timestamps, *on_write],
            "remove": [keep_whole],
        },
        "after": {method: [select_for_caller] for method in ("create", "patch", "remove")} | dict(after or {}),
        "error": {"all": [forbid_foreign]},
    }
