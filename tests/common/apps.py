"""The smallest service that the common hooks are tried on."""

from __future__ import annotations

from typing import Any

from apex import Apex, Context, MemoryService
from apex.hooks import Hook
from apex.service import BoundService

REST = {"provider": "rest"}
NESTED = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": [1]}


def notes(*before: Hook, after: list[Hook] | None = None, **options: Any) -> BoundService:
    hooks = {"before": {"all": list(before)}, "after": {"all": after or []}}
    return Apex().use("notes", MemoryService(start_id=1, **options), hooks=hooks).service("notes")


def run(hook: Hook, kind: str, record: Any, method: str = "create") -> Any:
    """Return the data after a before hook, or the result after an after hook."""
    context = Context(Apex(), None, method, data=record)
    context.type = kind
    if kind == "after":
        context.result = record
    hook(context)
    return context.data if kind == "before" else context.result
