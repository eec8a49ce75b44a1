"""The hooks that a service with relations runs around its methods, inside of all others. ``apex routes`` lists them.

- ``write_related`` of create, update and patch checks the ids that callers write, and stores related records and links.
- ``remove_related`` does what ``on_remove`` says, and removes links.
- ``restore_related`` brings back what was removed together with a record.

They begin a transaction only if a call stores more than its own record, or must keep another one from being removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from apex.relations.removing import remove_related, removes_related, restore_related, restores_related
from apex.relations.writing import plan_of, write_related
from apex.types import WRITES

if TYPE_CHECKING:
    from apex.hooks import Around, Steps
    from apex.service import BoundService


def hooks_around(bound: BoundService, method: str, steps: Steps) -> Sequence[Around]:
    """Return the hooks around a method. ``steps`` are the other hooks of the method."""
    if method in WRITES and bound.service.relations:
        plan = plan_of(bound, method, steps)
        return [write_related(plan)] if plan.keys or plan.writable else []
    if method == "remove" and removes_related(bound):
        return [remove_related]
    if method == "restore" and restores_related(bound):
        return [restore_related]
    return []
