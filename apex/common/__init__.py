"""Hooks that many services need, named as in feathers-hooks-common where they are there."""

from typing import TYPE_CHECKING

from apex._lazy import lazy_names

if TYPE_CHECKING:
    from apex.common.auditing import HIDDEN, audit, audit_create
    from apex.common.conditions import disallow, iff, is_provider
    from apex.common.fields import (
        discard,
        keep,
        now,
        prevent_changes,
        required,
        set_field,
        set_now,
        set_owner,
        timestamps,
    )
    from apex.common.idempotency import answers_table, idempotent
    from apex.common.queries import apply_select, check_multi, default_sort, defer_select, require_condition
    from apex.common.rate_limit import RATE_HEADERS, Limit, caller_of, limit_rate, rate_exceeded
    from apex.common.references import References, changed_fields, check_references, missing_references
    from apex.common.related import populate
    from apex.common.resolvers import (
        OMIT,
        resolve,
        resolve_data,
        resolve_external,
        resolve_query,
        resolve_result,
        virtual,
    )
    from apex.common.scopes import limit_to_tenants, soft_delete
    from apex.common.transactions import stash_before, transaction
    from apex.common.trash import Pruned, Trash, foreign_keys_to, list_trash, prune_trash
    from apex.common.webhooks import InvalidSignature, SignedWebhooks, sign, signatures_table

__all__ = [
    "HIDDEN",
    "OMIT",
    "RATE_HEADERS",
    "InvalidSignature",
    "Limit",
    "Pruned",
    "References",
    "SignedWebhooks",
    "Trash",
    "answers_table",
    "apply_select",
    "audit",
    "audit_create",
    "caller_of",
    "changed_fields",
    "check_multi",
    "check_references",
    "default_sort",
    "defer_select",
    "disallow",
    "discard",
    "foreign_keys_to",
    "idempotent",
    "iff",
    "is_provider",
    "keep",
    "limit_rate",
    "limit_to_tenants",
    "list_trash",
    "missing_references",
    "now",
    "populate",
    "prevent_changes",
    "prune_trash",
    "rate_exceeded",
    "require_condition",
    "required",
    "resolve",
    "resolve_data",
    "resolve_external",
    "resolve_query",
    "resolve_result",
    "set_field",
    "set_now",
    "set_owner",
    "sign",
    "signatures_table",
    "soft_delete",
    "stash_before",
    "timestamps",
    "transaction",
    "virtual",
]

__getattr__ = lazy_names(
    __name__,
    {
        "auditing": ["HIDDEN", "audit", "audit_create"],
        "conditions": ["disallow", "iff", "is_provider"],
        "fields": [
            "discard",
            "keep",
            "now",
            "prevent_changes",
            "required",
            "set_field",
            "set_now",
            "set_owner",
            "timestamps",
        ],
        "idempotency": ["answers_table", "idempotent"],
        "related": ["populate"],
        "queries": ["apply_select", "check_multi", "default_sort", "defer_select", "require_condition"],
        "rate_limit": ["RATE_HEADERS", "Limit", "caller_of", "limit_rate", "rate_exceeded"],
        "references": ["References", "changed_fields", "check_references", "missing_references"],
        "resolvers": [
            "OMIT",
            "resolve",
            "resolve_data",
            "resolve_external",
            "resolve_query",
            "resolve_result",
            "virtual",
        ],
        "scopes": ["limit_to_tenants", "soft_delete"],
        "transactions": ["stash_before", "transaction"],
        "trash": ["Pruned", "Trash", "foreign_keys_to", "list_trash", "prune_trash"],
        "webhooks": ["InvalidSignature", "SignedWebhooks", "sign", "signatures_table"],
    },
)
