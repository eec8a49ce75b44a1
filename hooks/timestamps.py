"""When a row was made and last changed."""

from __future__ import annotations

from datetime import UTC, datetime

from apex import Context
from hooks.rows import change_rows


def now() -> datetime:
    """The moment, to the millisecond, as rows keep it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def timestamps(context: Context) -> None:
    """Before create, update and patch: stamps ``created_at`` and ``updated_at``. What the server gives itself stays."""
    names = ("created_at", "updated_at") if context.method == "create" else ("updated_at",)
    stamps = dict.fromkeys(names, now())
    change_rows(context, lambda row: {**stamps, **row})
