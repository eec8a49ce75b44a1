"""Calls that store several records as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from apex import Apex, Context, MemoryService, SQLService, database
from apex.common import (
    iff,
    stash_before,
    transaction,
)
from apex.errors import ConfigError, Conflict, FeathersError, NotFound
from services.tables import revoked_tokens
from tests.common.apps import notes

TOKEN = {"jti": "a", "expires_at": "2030-01-01T00:00:00Z"}


class Rows(SQLService):
    table = revoked_tokens
    id = "jti"


def fail(context: Context) -> None:
    raise Conflict("afterwards")


async def test_what_was_stored_is_gone_when_a_later_hook_fails(migrated_url: str) -> None:
    app = Apex().configure(database(migrated_url))
    app.use("rows", Rows(), hooks={"around": {"create": [transaction]}, "after": {"create": [fail]}})
    await app.setup()
    try:
        with pytest.raises(Conflict):
            await app.service("rows").create(TOKEN)
        assert await app.service("rows").find() == []
    finally:
        await app.teardown()


async def test_stash_before_keeps_what_was() -> None:
    seen: list[Any] = []

    def look(context: Context) -> None:
        seen.append(context.params.before)

    changes = iff(lambda context: context.method in ("update", "patch", "remove"), stash_before())
    service = notes(changes, after=[look], multi=True)
    await service.create([{"text": "a"}, {"text": "b"}])
    await service.patch(1, {"text": "x"}, {"query": {"$select": ["id"]}})
    await service.patch(None, {"text": "y"}, {"query": {"text": "b", "$select": ["id"]}})
    await service.remove(2)
    assert seen[1:] == [{"id": 1, "text": "a"}, [{"id": 2, "text": "b"}], {"id": 2, "text": "y"}]


async def test_stash_before_stays_in_the_scope() -> None:
    service = notes(iff(lambda context: context.method == "patch", stash_before()))
    await service.create({"owner": 1})
    with pytest.raises(FeathersError) as caught:
        await service.patch(1, {"x": 1}, {"scope": {"owner": 2}})
    assert isinstance(caught.value, NotFound)


async def test_the_error_of_an_app_without_a_database_says_what_to_configure() -> None:
    app = Apex().use("notes", MemoryService(), hooks={"around": {"create": [transaction]}})
    with pytest.raises(ConfigError, match=r"call app\.configure\(database\(url\)\)"):
        await app.service("notes").create({"text": "hello"})
