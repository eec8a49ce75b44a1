"""When a row was made and last changed."""

from __future__ import annotations

from datetime import UTC, datetime

from apex import Context


def now() -> datetime:
    """The moment, to the millisecond, as rows keep it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def timestamps(context: Context) -> None:
    """Before create, update and patch: stamps ``created_at`` and ``updated_at``. What the server gives itself stays."""
    rows = context.data if isinstance(context.data, list) else [context.data]
    moment = now()
    names = ("created_at", "updated_at") if context.method == "create" else ("updated_at",)
    stamped = [{**dict.fromkeys(names, moment), **row} for row in rows]
    context.data = stamped if isinstance(context.data, list) else stamped[0]
