"""Relations and logins: the calls of related services have the caller of the call that makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from apex import Apex, AuthenticationService, Context, MemoryService, Params, authenticate
from apex.errors import NotAuthenticated
from apex.query.coercion import integer, text
from apex.relations import belongs_to

CALLER = {"provider": "rest", "authentication": {"strategy": "pin", "pin": "1"}}


class Pins:
    """A strategy whose result does not have the secret, and that counts what it reads."""

    read = verified = 0

    async def verify(self, authentication: Mapping[str, Any]) -> dict[str, Any]:
        self.verified += 1
        if authentication.get("pin") != "1":
            raise NotAuthenticated("Wrong PIN")
        return {"authentication": {"strategy": "pin"}}

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> dict[str, Any]:
        result = await self.verify(authentication)
        self.read += 1
        return {**result, "user": {"id": 1, "name": "ann"}}

    def parse(self, headers: Mapping[str, str]) -> None:
        return None


def rename_user(context: Context) -> None:
    context.params.user["name"] += "!"


async def app_of(strategy: Pins, outer: Any, inner: Any, names: list[Any]) -> Apex:
    def note_user(context: Context) -> None:
        names.append((context.params.user or {}).get("name"))

    app = Apex()
    app.set("authentication", {"secret": "s" * 32, "authStrategies": ["pin"], "entity": "user", "service": "teams"})
    authentication = AuthenticationService(app)
    authentication.register("pin", strategy)
    app.use("authentication", authentication)
    relations = {"team": belongs_to("teams"), "other": belongs_to("teams")}
    fields = {"id": integer, "team_id": integer, "other_id": integer}
    app.use("teams", MemoryService[Any](fields={"id": integer, "name": text}), hooks={"before": {"find": inner}})
    app.use("notes", MemoryService[Any](fields=fields, relations=relations), hooks={"before": {"find": outer}})
    app.service("teams").hooks({"before": {"find": [note_user]}})
    await app.setup()
    await app.service("teams").create({"id": 1, "name": "a"})
    await app.service("notes").create({"team_id": 1, "other_id": 1})
    names.clear()
    return app


@pytest.mark.parametrize("entity", [True, False])
async def test_calls_of_related_services_have_the_caller_that_was_verified(entity: bool) -> None:
    strategy, names = Pins(), list[Any]()
    outer = [authenticate("pin", entity=entity), *([rename_user] if entity else [])]
    app = await app_of(strategy, outer, [authenticate("pin"), rename_user], names)
    query = {"$populate": "team,other", "team.name": "a"}
    [note] = await app.service("notes").find({**CALLER, "query": query})
    assert note["team"] == note["other"] == {"id": 1, "name": "a"}
    assert names == ["ann!"] * 3
    assert strategy.read == (1 if entity else 3)


async def test_a_proof_that_a_hook_has_put_in_place_of_the_verified_one_is_verified() -> None:
    def log_out(context: Context) -> None:
        context.params.authentication = {"strategy": "pin", "pin": "2"}

    app = await app_of(Pins(), [authenticate("pin"), log_out], [authenticate("pin")], [])
    [note] = await app.service("notes").find({**CALLER, "query": {"$populate": "team"}})
    assert note["team"] is None
