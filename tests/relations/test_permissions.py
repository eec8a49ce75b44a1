"""Relations and permissions: a caller learns by a relation only what its rules allow."""

from __future__ import annotations

from typing import Any

import pytest

from apex import Apex, MemoryService
from apex.errors import BadRequest
from apex.permissions import authorize, can
from apex.query.coercion import integer, text
from apex.relations import belongs_to, has_many

CALLER = {"provider": "rest"}


class Projects(MemoryService):
    permissions = {"anyone": can("find", fields=("key",))}


class Issues(MemoryService):
    permissions = {"anyone": can("find", fields=("title",))}


class Tasks(MemoryService):
    permissions = {"anyone": can("find")}


async def app_with_rules() -> Apex:
    app, hooks = Apex(), {"before": {"all": [authorize]}}
    kinds = {"id": integer, "title": text, "project_id": integer}
    relations = {"project": belongs_to("projects")}
    projects = Projects(
        fields={"id": integer, "key": text, "budget": integer}, relations={"tasks": has_many("tasks", "project_id")}
    )
    app.use("projects", projects, hooks=hooks)
    app.use("issues", Issues(fields=kinds, relations=relations), hooks=hooks)
    app.use("tasks", Tasks(fields=kinds, relations=relations), hooks=hooks)
    await app.setup()
    await app.service("projects").create({"id": 1, "key": "APX", "budget": 9})
    for name in ("issues", "tasks"):
        await app.service(name).create({"id": 1, "title": "a", "project_id": 1})
    return app


async def shown(app: Apex, path: str, query: dict[str, Any]) -> Any:
    return (await app.service(path)._run("find", params={**CALLER, "query": query})).external


async def test_only_permitted_fields_of_related_records_are_shown_and_asked_for() -> None:
    app = await app_with_rules()
    [task] = await shown(app, "tasks", {"$populate": "project", "project.key": "APX", "$sort": {"project.key": 1}})
    assert task["project"] == {"id": 1, "key": "APX"}
    for query in ({"project.budget": 9}, {"$sort": {"project.budget": 1}}):
        with pytest.raises(BadRequest, match="Unknown field 'budget'"):
            await shown(app, "tasks", query)


async def test_a_caller_who_may_not_read_the_key_cannot_go_across_it() -> None:
    app = await app_with_rules()
    assert await shown(app, "issues", {"$populate": "project"}) == [{"id": 1, "title": "a"}]
    for query in ({"project.key": "APX"}, {"$sort": {"project.key": 1}}, {"$or": [{"project.key": "APX"}]}):
        with pytest.raises(BadRequest, match="Unknown field"):
            await shown(app, "issues", query)


async def test_a_key_of_several_relations_is_checked_with_the_rights_of_the_caller() -> None:
    app, trusted = Apex(), belongs_to("projects", "project_id", fields=("id",), trusted=True)
    hooks = {"before": {"all": [authorize]}}
    projects = type("Own", (MemoryService,), {"permissions": {"anyone": can("find", where={"key": "APX"})}})
    app.use("projects", projects(fields={"id": integer, "key": text}), hooks=hooks)
    for path in ("issues", "tasks"):
        relations = {"project": belongs_to("projects"), "shown": trusted}
        relations = dict(reversed(relations.items())) if path == "tasks" else relations
        app.use(path, MemoryService[Any](fields={"id": integer, "project_id": integer}, relations=relations))
    await app.setup()
    await app.service("projects").create({"id": 1, "key": "OTHER"})
    for path in ("issues", "tasks"):
        with pytest.raises(BadRequest) as raised:
            await app.service(path).create({"project_id": 1}, CALLER)
        assert raised.value.errors == {"project_id": "Does not exist"}
