"""When a row was made and last changed."""

from __future__ import annotations

from apex import Context
from apex.common import now


def timestamps(context: Context) -> None:
    """Before create, update and patch: stamps ``created_at`` and ``updated_at``. What the server gives itself stays."""
    names = ("created_at", "updated_at") if context.method == "create" else ("updated_at",)
    stamps = dict.fromkeys(names, now())
    context.items = [{**stamps, **row} for row in context.items]
