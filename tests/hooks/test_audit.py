"""Who is behind a write, and what of it an entry holds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apex import Apex, Context, MemoryService
from apex.common import stash_before
from apex.errors import Conflict
from apex.testing import raises
from hooks.audit import audit

Entry = dict[str, Any]

OURS = {"organization_id": 10}
CALLER = {
    "provider": "rest",
    "user": {"id": 1},
    "authentication": {"strategy": "api-key", "key_id": 7},
    "headers": {"x-request-id": "r-1"},
}
BY_CALLER = {"user_id": 1, "key_id": 7, "api": "achieveapex", "provider": "rest", "request_id": "r-1"}


class Voices(MemoryService):
    api = "agentvoice"


def app_of(*, voices: Any = None, **after: Any) -> Apex:
    """An app with audited ``notes``, and ``voices`` that are not audited and have hooks of their own."""
    stash = stash_before()
    later = {name: [audit, *after.get(name, ())] for name in ("create", "patch", "remove")}
    app = Apex().use("audit", MemoryService(multi=True))
    hooks = {"before": {"patch": [stash], "remove": [stash]}, "after": later}
    app.use("notes", MemoryService(start_id=1, multi=True), hooks=hooks)
    return app.use("voices", Voices(), hooks={"after": {"find": [voices] if voices else []}})


async def entries(app: Apex) -> list[Entry]:
    """All entries, without when they were made and their ids."""
    found = await app.service("audit").find()
    return [{name: value for name, value in entry.items() if name not in ("id", "created_at")} for entry in found]


async def test_each_write_says_who_and_what() -> None:
    app = app_of()
    notes = app.service("notes")
    await notes.create({**OURS, "text": "a", "size": 1}, CALLER)
    await notes.patch(1, {"text": "b", "size": 1}, CALLER)
    await notes.remove(1, CALLER)
    where = {**BY_CALLER, **OURS, "service": "notes", "record_id": 1}
    first, last = ({**OURS, "text": text, "size": 1, "id": 1} for text in ("a", "b"))
    assert await entries(app) == [
        {**where, "method": "create", "before": None, "after": first},
        {**where, "method": "patch", "before": {"text": "a"}, "after": {"text": "b"}},
        {**where, "method": "remove", "before": last, "after": None},
    ]


async def test_each_of_many_records_has_its_entry() -> None:
    app = app_of()
    notes = app.service("notes")
    await notes.create([{**OURS, "text": text} for text in ("a", "b")], CALLER)
    await notes.patch(None, {"text": "c"}, CALLER)
    await notes.remove(None, {**CALLER, "query": {"text": "none"}})
    made = [(entry["method"], entry["record_id"], entry["before"]) for entry in await entries(app)]
    assert made == [
        ("create", 1, None), ("create", 2, None), ("patch", 1, {"text": "a"}), ("patch", 2, {"text": "b"}),
    ]  # fmt: skip


async def test_work_of_the_process_itself_is_nobodys() -> None:
    app = app_of()
    await app.service("notes").create(OURS)
    (entry,) = await entries(app)
    assert not entry.keys() & BY_CALLER.keys()


async def test_what_a_call_leads_to_is_its_callers() -> None:
    async def write(context: Context) -> None:
        await context.app.service("notes").create(OURS)
        await context.app.service("notes").create(OURS, {"provider": "rest", "user": {"id": 2}})

    app = app_of(voices=write)
    await app.service("voices").find(CALLER)
    await app.service("notes").create(OURS)
    await app.service("notes").create(OURS, {**CALLER, "user": {"id": 2}})
    made = [(entry.get("user_id"), entry.get("api")) for entry in await entries(app)]
    assert made == [(1, "agentvoice"), (1, "agentvoice"), (None, None), (2, "achieveapex")]


async def test_what_a_call_left_running_is_its_callers_and_no_later_one_is() -> None:
    ended = asyncio.Event()
    tasks = []

    async def later(app: Apex) -> None:
        await ended.wait()
        await app.service("notes").create(OURS)
        await app.service("notes").create(OURS, {**CALLER, "user": {"id": 2}})

    async def begin(context: Context) -> None:
        tasks.append(asyncio.create_task(later(context.app)))

    app = app_of(voices=begin)
    await app.service("voices").find(CALLER)
    ended.set()
    await asyncio.gather(*tasks)
    made = [(entry["user_id"], entry["api"]) for entry in await entries(app)]
    assert made == [(1, "agentvoice"), (2, "achieveapex")]


async def test_calls_at_once_have_their_own_callers() -> None:
    async def wait(context: Context) -> None:
        await asyncio.sleep(0)
        await context.app.service("notes").create({**OURS, "of": context.params.user["id"]})

    app = app_of(voices=wait)
    await asyncio.gather(*(app.service("voices").find({**CALLER, "user": {"id": id}}) for id in range(5)))
    assert [entry["user_id"] == entry["after"]["of"] for entry in await entries(app)] == [True] * 5


async def test_a_caller_is_forgotten_after_a_failure() -> None:
    def fail(context: Context) -> None:
        raise Conflict("no")

    app = app_of(voices=fail)
    with raises(Conflict):
        await app.service("voices").find(CALLER)
    await app.service("notes").create(OURS)
    assert "user_id" not in (await entries(app))[0]


async def test_a_command_may_say_whom_it_works_for() -> None:
    app = app_of()
    await app.service("notes").create(OURS, {"user": {"id": 7}})
    (entry,) = await entries(app)
    assert (entry["user_id"], entry.get("provider")) == (7, None)


@pytest.mark.parametrize(
    "name", ["password", "Wifi Password", "accessToken", "client_secret", "api_key", "apiKey", "API key", "hash"]
)
async def test_of_what_has_the_name_of_a_secret_there_is_no_more_than_the_name(name: str) -> None:
    app = app_of()
    notes = app.service("notes")
    await notes.create({**OURS, name: "canary", "fields": {name: "canary", "list": [{name: "canary", "a": 1}]}})
    await notes.patch(1, {name: "canary-2"})
    await notes.remove(1)
    made = await entries(app)
    assert "canary" not in str(made)
    assert made[0]["after"] == {**OURS, "id": 1, name: "***", "fields": {name: "***", "list": [{name: "***", "a": 1}]}}
    assert made[1]["after"] == {name: "***"}


async def test_a_name_that_only_begins_like_a_secret_is_told() -> None:
    app = app_of()
    await app.service("notes").create({**OURS, "Secretary": "Jo", "tokenized": 1})
    assert (await entries(app))[0]["after"].items() >= {"Secretary": "Jo", "tokenized": 1}.items()


async def test_a_write_fails_where_it_cannot_be_audited() -> None:
    app = app_of()

    async def full(data: object, params: object) -> None:
        raise Conflict("full")

    setattr(app.service("audit").service, "create", full)  # noqa: B010
    with raises(Conflict, "full"):
        await app.service("notes").create(OURS, CALLER)
