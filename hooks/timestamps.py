"""When a row was made and last changed."""

from __future__ import annotations

from datetime import UTC, datetime

from apex import Context
from apex.coerce import timestamp
from hooks.rows import change_rows


def now() -> datetime:
    """The moment, to the millisecond, as rows keep it."""
    return timestamp(datetime.now(UTC))


def timestamps(context: Context) -> None:
    """Before create, update and patch: stamps ``created_at`` and ``updated_at``. What the server gives itself stays."""
    names = ("created_at", "updated_at") if context.method == "create" else ("updated_at",)
    stamps = dict.fromkeys(names, now())
    change_rows(context, lambda row: {**stamps, **row})
