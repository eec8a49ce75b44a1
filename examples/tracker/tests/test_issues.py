"""Issues: workflow, labels, comments, search, removal, and events."""

from typing import Any

import pytest
from httpx2 import AsyncClient

Project = dict[str, Any]


@pytest.fixture
async def issue(ann: AsyncClient, project: Project) -> dict[str, Any]:
    data = {"project_id": project["id"], "title": "The door is broken", "labels": [project["labels"][0]["id"]]}
    created = await ann.post("/issues", json=data)
    assert created.status_code == 201, created.text
    issue: dict[str, Any] = created.json()
    return issue


async def test_a_status_follows_the_workflow(ann: AsyncClient, issue: dict[str, Any]) -> None:
    answer = await ann.patch(f"/issues/{issue['id']}", json={"status": "review"})
    assert (answer.status_code, answer.json()["errors"]) == (
        400,
        {"status": "Cannot follow open: there is started, closed"},
    )
    for status in ("started", "review", "closed", "open"):
        assert (await ann.patch(f"/issues/{issue['id']}", json={"status": status})).json()["status"] == status


async def test_an_assignee_is_a_member(ann: AsyncClient, bob: AsyncClient, issue: dict[str, Any]) -> None:
    answer = await ann.patch(f"/issues/{issue['id']}", json={"assignee_id": 2})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["assignee_id"])
    await ann.post("/members", json={"project_id": issue["project_id"], "user_id": 2})
    assert (await ann.patch(f"/issues/{issue['id']}", json={"assignee_id": 2})).status_code == 200
    shown = await bob.get(f"/issues/{issue['id']}?$populate=assignee,author")
    assert (shown.json()["assignee"], shown.json()["author"]["name"]) == ({"id": 2, "name": "Bob"}, "Ann")


async def test_issues_are_found_by_their_project_and_labels(ann: AsyncClient, issue: dict[str, Any]) -> None:
    for query, total in (("labels.name=bug", 1), ("labels.name=idea", 0), ("project.key=APX", 1), ("project.key=X", 0)):
        assert (await ann.get(f"/issues?{query}")).json()["total"] == total
    shown = (await ann.get(f"/issues/{issue['id']}?$populate=labels,project")).json()
    assert ([label["name"] for label in shown["labels"]], shown["project"]["key"]) == (["bug"], "APX")


async def test_comments_belong_to_an_issue(ann: AsyncClient, issue: dict[str, Any]) -> None:
    comment = (await ann.post("/comments", json={"issue_id": issue["id"], "text": "Me too"})).json()
    assert (comment["project_id"], comment["author"]) == (issue["project_id"], {"id": 1, "name": "Ann"})
    shown = (await ann.get(f"/issues/{issue['id']}?$populate=comments")).json()
    assert [one["text"] for one in shown["comments"]] == ["Me too"]


async def test_an_issue_is_stored_with_its_comments_or_not_at_all(ann: AsyncClient, project: Project) -> None:
    data = {"project_id": project["id"], "title": "Broken", "comments": [{"text": "See this"}, {"text": ""}]}
    answer = await ann.post("/issues", json=data)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["comments.1.text"])
    assert (await ann.get("/issues")).json()["total"] == 0
    data["comments"].pop()
    stored = (await ann.post("/issues?$populate=comments", json=data)).json()
    assert [comment["text"] for comment in stored["comments"]] == ["See this"]


async def test_a_search_finds_words(ann: AsyncClient, issue: dict[str, Any]) -> None:
    assert (await ann.get("/issues?$search=door")).json()["total"] == 1
    assert (await ann.get("/issues?$search=window")).json()["total"] == 0


async def test_a_removed_issue_comes_back(ann: AsyncClient, issue: dict[str, Any]) -> None:
    assert (await ann.delete(f"/issues/{issue['id']}")).status_code == 200
    assert (await ann.get("/issues")).json()["total"] == 0
    assert (await ann.get("/issues?$deleted=true")).json()["total"] == 1
    assert (await ann.post("/issues/restore", json={"id": issue["id"]})).status_code in (200, 201)
    assert (await ann.get("/issues")).json()["total"] == 1


async def test_a_script_has_a_token(ann: AsyncClient, bob: AsyncClient, project: Project) -> None:
    token = (await ann.post("/users/token", json={})).json()["token"]
    bob.headers.pop("Authorization")
    assert (await bob.get("/projects", headers={"X-Token": token})).json()["total"] == 1
    assert (await bob.get("/projects", headers={"X-Token": f"2{token[1:]}"})).status_code == 401
