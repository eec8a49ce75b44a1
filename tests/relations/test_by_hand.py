"""For any records, ``$populate`` and filters across relations give what the same caller finds by calls of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apex import Apex, Context
from tests.relations.tracker import tracker

SMALL = st.integers(1, 4)
ISSUES = st.lists(st.tuples(st.none() | SMALL, st.none() | SMALL), min_size=1, max_size=5)
PROJECTS = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans()), min_size=4, max_size=4)
PAIRS = st.lists(st.tuples(SMALL, SMALL), max_size=8)
CONDITIONS = st.sampled_from(["a", {"$ne": "a"}, {"$in": ["a", "b"]}, {"$nin": ["b"]}, {"$gt": "a"}, {"$ne": None}])
CALLER = {"provider": "rest"}


async def store(app: Apex, projects: Any, issues: Any, pairs: Any) -> None:
    """Store records of which a caller from outside does not see the hidden projects, and labels with the name c."""
    await app.service("projects").create(
        [{"id": id, "key": key, "hidden": hidden} for id, (key, hidden) in enumerate(projects, 1)]
    )
    rows = [{"id": id, "title": "t", "project_id": one, "parent_id": None} for id, (one, _) in enumerate(issues, 1)]
    await app.service("issues").create(rows)
    for id, (_, parent) in enumerate(issues, 1):
        if parent is not None and parent <= len(issues):
            await app.service("issues").patch(id, {"parent_id": parent})
    await app.service("labels").create([{"id": id, "name": name} for id, name in enumerate("abcc", 1)])
    links = [{"issue_id": one, "label_id": other} for one, other in pairs if one <= len(issues)]
    if links:
        await app.service("issue_labels").create(links)

    def visible(context: Context) -> None:
        if context.params.provider:
            context.params.scope.update({"hidden": False} if context.path == "projects" else {"name": {"$ne": "c"}})

    for name in ("projects", "labels"):
        app.service(name).hooks({"before": {"find": [visible]}})


async def find(app: Apex, path: str, query: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await app.service(path).find({**CALLER, "query": query})
    return found


async def compare(url: str | None, projects: Any, issues: Any, pairs: Any, condition: Any) -> None:
    async with tracker(url) as app:
        if url is not None:
            for name in ("issue_labels", "labels", "comments", "issues", "projects"):
                if name == "issues":
                    await app.service(name).patch(None, {"parent_id": None})
                await app.service(name).remove(None)
        await store(app, projects, issues, pairs)
        by_project: dict[Any, list[int]] = {}
        with_label: dict[bool, set[int]] = {True: set(), False: set()}
        negated = isinstance(condition, dict) and bool({"$ne", "$nin"} & condition.keys())
        opposite = condition if not negated else {"$in": condition.get("$nin", [condition.get("$ne")])}
        if opposite == {"$in": [None]}:
            opposite = None
        keyed = {project["id"] for project in await find(app, "projects", {"key": condition})}
        named = {label["id"] for label in await find(app, "labels", {"name": opposite})}
        for issue in await find(app, "issues", {"$populate": "project,labels,children", "$sort": {"id": 1}}):
            ids = [issue["project_id"]] if issue["project_id"] is not None else []
            found = await find(app, "projects", {"id": {"$in": ids}})
            assert issue["project"] == (found[0] if found else None)
            ids = [link["label_id"] for link in await find(app, "issue_labels", {"issue_id": issue["id"]})]
            assert issue["labels"] == (await find(app, "labels", {"id": {"$in": ids}}) if ids else [])
            assert issue["children"] == await find(app, "issues", {"parent_id": issue["id"]})
            by_project.setdefault(issue["project_id"] in keyed, []).append(issue["id"])
            with_label[bool(named.intersection(ids))].add(issue["id"])
        ids = [row["id"] for row in await find(app, "issues", {"project.key": condition, "$sort": {"id": 1}})]
        assert ids == by_project.get(True, [])
        assert {row["id"] for row in await find(app, "issues", {"labels.name": condition})} == with_label[not negated]


@given(projects=PROJECTS, issues=ISSUES, pairs=PAIRS, condition=CONDITIONS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_relations_show_what_calls_by_hand_find(
    url: str | None, projects: Any, issues: Any, pairs: Any, condition: Any
) -> None:
    asyncio.run(compare(url, projects, issues, pairs, condition))
