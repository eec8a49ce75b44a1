"""An audit in a project of its own: an entry for each change, stored with it."""

from __future__ import annotations

from typing import Any

from apex import Apex, MemoryService
from apex.common import audit, audit_create, stash_before

CALLER = {"provider": "rest", "user": {"id": 5}}


def app_of(*after: Any, before: Any = ()) -> Apex:
    app = Apex().use("log", MemoryService(multi=True))
    hooks = {"before": {"create": list(before), "patch": [stash_before()]}, "after": {"all": list(after)}}
    return app.use("notes", MemoryService(start_id=1), hooks=hooks)


async def entries(app: Apex) -> list[Any]:
    """Return the entries without their ids and moments."""
    found = await app.service("log").find()
    return [{name: value for name, value in entry.items() if name not in ("id", "created_at")} for entry in found]


async def test_an_entry_tells_who_has_changed_what() -> None:
    app = app_of(audit("log"))
    await app.service("notes").create({"text": "a", "token": "t"}, CALLER)
    await app.service("notes").patch(1, {"text": "b"})
    assert await entries(app) == [
        {
            "user_id": 5, "provider": "rest", "service": "notes", "method": "create", "record_id": 1, "before": None,
            "after": {"text": "a", "token": "***", "id": 1},
        },
        {
            "user_id": None, "provider": None, "service": "notes", "method": "patch", "record_id": 1,
            "before": {"text": "a"}, "after": {"text": "b"},
        },
    ]  # fmt: skip


async def test_fields_of_caller_and_record_are_the_projects() -> None:
    hook = audit("log", caller=lambda context: {"by": context.method}, record=lambda context, row: {"size": len(row)})
    app = app_of(hook)
    await app.service("notes").create({"text": "a"})
    (entry,) = await entries(app)
    assert (entry["by"], entry["size"], "user_id" in entry) == ("create", 2, False)


async def test_a_create_stores_its_entry_in_its_statement() -> None:
    app = app_of(before=[audit_create("log", record=lambda context, row: {"team": row["team"]})])
    await app.service("notes").create({"team": 7}, CALLER)
    assert await entries(app) == [
        {
            "user_id": 5, "provider": "rest", "service": "notes", "method": "create", "team": 7, "before": None,
            "after": {"team": 7, "id": 1}, "record_id": 1,
        }
    ]  # fmt: skip
