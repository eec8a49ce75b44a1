"""Rows that are removed stay in the store, out of everyone's reach."""

from __future__ import annotations

from typing import Any

from apex import Context
from apex.errors import Forbidden, MethodNotAllowed, NotFound
from apex.service import BoundService
from apex.testing import raises
from hooks.records import soft_delete
from tests.hooks.apps import notes


async def two_notes(**options: Any) -> BoundService:
    """Note 1, removed, and note 2."""
    service = notes({"before": {"all": [soft_delete]}}, **options)
    for text in ("gone", "here"):
        await service.create({"text": text})
    await service.remove(1)
    return service


async def test_remove_gives_the_row_with_the_moment_and_keeps_it() -> None:
    service = await two_notes()
    removed = await service.remove(2)
    assert (removed["text"], removed["deleted_at"]) == ("here", removed["updated_at"])
    assert {row["text"] for row in service.service.store.values()} == {"gone", "here"}


async def test_a_removed_row_is_gone_for_every_method() -> None:
    service = await two_notes()
    assert [row["text"] for row in await service.find()] == ["here"]
    for call in (service.get(1), service.patch(1, {"text": "x"}), service.update(1, {"text": "x"}), service.remove(1)):
        with raises(NotFound):
            await call


async def test_no_query_brings_a_removed_row_back() -> None:
    service = await two_notes()
    for query in ({"deleted_at": {"$ne": None}}, {"$or": [{"id": 1}, {"deleted_at": {"$ne": None}}]}, {"id": 1}):
        assert await service.find({"query": query}) == []


async def test_no_write_sets_the_mark_past_remove() -> None:
    service = await two_notes()
    for call in (service.create({"deleted_at": "x"}), service.patch(2, {"deleted_at": "x"})):
        with raises(Forbidden):
            await call


async def test_a_call_inside_deletes_for_good() -> None:
    service = await two_notes()
    removed = await service.remove(2, {"permanent": True})
    assert (removed["text"], removed.get("deleted_at")) == ("here", None)
    assert list(service.service.store) == [1]
    with raises(NotFound):
        await service.remove(1, {"permanent": True})


async def test_remove_obeys_the_query() -> None:
    service = await two_notes()
    with raises(NotFound):
        await service.remove(2, {"query": {"text": "other"}})
    assert await service.remove(2, {"query": {"text": "here", "$select": ["text"]}}) == {"id": 2, "text": "here"}


async def test_remove_obeys_the_scope() -> None:
    service = await two_notes()
    with raises(NotFound):
        await service.remove(2, {"scope": {"text": "other"}})


async def test_many_are_removed_where_the_service_allows_it() -> None:
    service = await two_notes(multi=("remove",))
    await service.create({"text": "here"})
    removed = await service.remove(None, {"query": {"text": {"$in": ["here", "gone"]}}})
    assert [row["id"] for row in removed] == [2, 3]
    with raises(MethodNotAllowed):
        await (await two_notes()).remove(None)


async def test_the_event_is_removed() -> None:
    service = await two_notes()
    seen: list[tuple[str, Any]] = []
    for event in ("removed", "patched"):
        service.on(event, lambda row, context, event=event: seen.append((event, row["id"])))
    await service.remove(2)
    assert seen == [("removed", 2)]


async def test_nothing_is_removed_when_a_later_hook_refuses() -> None:
    def forbid(context: Context) -> None:
        raise Forbidden("not today")

    service = notes({"before": {"all": [soft_delete], "remove": [forbid]}})
    row = await service.create({"text": "a"})
    with raises(Forbidden):
        await service.remove(row["id"])
    assert (await service.get(row["id"])).get("deleted_at") is None
