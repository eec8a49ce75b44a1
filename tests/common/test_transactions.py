"""Calls that store several records as a whole."""

from __future__ import annotations

import pytest

from apex import Apex, Context, SQLService, database
from apex.common import transaction
from apex.errors import Conflict
from services.tables import revoked_tokens

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
