"""Hooks that many services need, named as in feathers-hooks-common where they are there."""

from apex.common.hooks import (
    default_sort,
    disallow,
    discard,
    iff,
    is_provider,
    now,
    populate,
    require_condition,
    set_field,
    soft_delete,
    stash_before,
)

__all__ = [
    "default_sort",
    "disallow",
    "discard",
    "iff",
    "is_provider",
    "now",
    "populate",
    "require_condition",
    "set_field",
    "soft_delete",
    "stash_before",
]
