"""Hooks that many services need, named as in feathers-hooks-common where they are there."""

from typing import TYPE_CHECKING

from apex.lazy import lazy_names

if TYPE_CHECKING:
    from apex.common.hooks import (
        default_sort,
        disallow,
        discard,
        iff,
        is_provider,
        keep,
        now,
        populate,
        prevent_changes,
        require_condition,
        required,
        set_field,
        set_now,
        soft_delete,
        stash_before,
    )
    from apex.common.idempotency import answers_table, idempotent
    from apex.common.resolvers import (
        OMIT,
        resolve,
        resolve_data,
        resolve_external,
        resolve_query,
        resolve_result,
        virtual,
    )
    from apex.common.webhooks import InvalidSignature, SignedWebhooks, sign, signatures_table

__all__ = [
    "OMIT",
    "InvalidSignature",
    "SignedWebhooks",
    "answers_table",
    "default_sort",
    "disallow",
    "discard",
    "idempotent",
    "iff",
    "is_provider",
    "keep",
    "now",
    "populate",
    "prevent_changes",
    "require_condition",
    "required",
    "resolve",
    "resolve_data",
    "resolve_external",
    "resolve_query",
    "resolve_result",
    "set_field",
    "set_now",
    "sign",
    "signatures_table",
    "soft_delete",
    "stash_before",
    "virtual",
]

__getattr__ = lazy_names(
    __name__,
    {
        "hooks": [
            "default_sort",
            "disallow",
            "discard",
            "iff",
            "is_provider",
            "keep",
            "now",
            "populate",
            "prevent_changes",
            "require_condition",
            "required",
            "set_field",
            "set_now",
            "soft_delete",
            "stash_before",
        ],
        "idempotency": ["answers_table", "idempotent"],
        "resolvers": [
            "OMIT",
            "resolve",
            "resolve_data",
            "resolve_external",
            "resolve_query",
            "resolve_result",
            "virtual",
        ],
        "webhooks": ["InvalidSignature", "SignedWebhooks", "sign", "signatures_table"],
    },
)
