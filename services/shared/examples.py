"""Examples of calls for the documentation. Their ids are those of the demo data, or of the first new records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apex.describe import Example
from hooks.tenancy import ORGANIZATION_ID

DEMO_ORGANIZATION = 456
DEMO_EMAIL = "admin@example.com"
DEMO_PASSWORD = "apex-demo"
"""The organization, the e-mail address and the password of the examples."""

Examples = Mapping[str, Example]


def uuid_of(id: int) -> str:
    """Return the UUID of a record of the demo data."""
    return f"00000000-0000-4000-8000-{id:012}"


def examples_of(
    id: int,
    create: Mapping[str, Any],
    patch: Mapping[str, Any],
    custom: Mapping[str, Mapping[str, Any]] = {},
    *,
    restores: bool = True,
) -> Examples:
    """Return the examples of a service of organizations, by method. They can be called in this order.

    ``id`` is that of a record, the other arguments are the data of methods. ``restores`` is False for a service without
    ``restore``.
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
