"""Examples of calls for the documentation, with the ids of the demo data or of the first records that are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apex.describe import Example
from hooks.tenancy import ORGANIZATION_ID

DEMO_ORGANIZATION = 456
DEMO_EMAIL = "admin@example.com"
DEMO_PASSWORD = "apex-demo"
"""The organization of the examples, and who calls."""

Examples = Mapping[str, Example]


def uuid_of(id: int) -> str:
    """The UUID of a record of the demo data."""
    return f"00000000-0000-4000-8000-{id:012}"


def examples_of(
    id: int,
    create: Mapping[str, Any],
    patch: Mapping[str, Any],
    custom: Mapping[str, Mapping[str, Any]] = {},
    *,
    restores: bool = True,
) -> Examples:
    """Of the methods of a tenant's service: the ``id`` of a record, and the data of methods. They can be called in this
    order. ``restores`` is False for a service without ``restore``.
    """
    return {
        "create": Example(data={ORGANIZATION_ID: DEMO_ORGANIZATION, **create}),
        "find": Example(query={ORGANIZATION_ID: DEMO_ORGANIZATION, "$limit": 2}),
        "get": Example(id),
        "patch": Example(id, dict(patch)),
        **{name: Example(data={ORGANIZATION_ID: DEMO_ORGANIZATION, **data}) for name, data in custom.items()},
        "remove": Example(id),
        **({"restore": Example(data={ORGANIZATION_ID: DEMO_ORGANIZATION, "id": id})} if restores else {}),
    }
