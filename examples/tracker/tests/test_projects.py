"""Projects and their members."""

from typing import Any

from httpx2 import AsyncClient

Project = dict[str, Any]


async def test_a_project_has_labels_and_an_owner(ann: AsyncClient, project: Project) -> None:
    assert [label["name"] for label in project["labels"]] == ["bug", "idea"]
    [member] = (await ann.get("/members")).json()["data"]
    assert (member["role"], member["user"]) == ("owner", {"id": member["user_id"], "name": "Ann"})


async def test_members_do_what_their_roles_allow(ann: AsyncClient, bob: AsyncClient, project: Project) -> None:
    issue = {"project_id": project["id"], "title": "Broken"}
    assert (await bob.post("/issues", json=issue)).status_code == 403
    viewer = {"project_id": project["id"], "user_id": 2, "role": "viewer"}
    member = (await ann.post("/members", json=viewer)).json()
    assert (await bob.get("/issues")).status_code == 200
    assert (await bob.post("/issues", json=issue)).status_code == 403
    assert (await ann.patch(f"/members/{member['id']}", json={"role": "member"})).status_code == 200
    assert (await bob.post("/issues", json=issue)).status_code == 201
    assert (await bob.patch(f"/members/{member['id']}", json={"role": "owner"})).status_code == 403
    assert (await bob.delete(f"/members/{member['id']}")).status_code == 200
    assert (await bob.get("/issues")).json()["total"] == 0


async def test_a_project_keeps_an_owner(ann: AsyncClient, project: Project) -> None:
    answer = await ann.delete(f"/members/{project['members'][0]['id']}")
    assert (answer.status_code, list(answer.json()["errors"])) == (409, ["role"])
