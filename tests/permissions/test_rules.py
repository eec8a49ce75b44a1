"""Rules: their forms, what they are refused for, and which methods, records and fields they allow over REST."""

from __future__ import annotations

from typing import Any

import pytest

from apex import Apex, Context, MemoryService, Service
from apex.adapters import Aggregate
from apex.errors import Forbidden
from apex.permissions import authorize, can, mine, roles
from tests.permissions.apps import app_of, ask
from tests.support.serving import calling

NOTE = {"title": "a", "text": "t", "user_id": 5}


async def status(app: Apex, *calls: tuple[Any, ...]) -> list[int]:
    """Return the statuses of calls."""
    async with calling(app) as client:
        return [(await ask(client, *call)).status_code for call in calls]


@pytest.mark.parametrize(
    ("permissions", "problem"),
    [
        ({}, "takes a dict"),
        (["find"], "takes a dict"),
        ({"user": "find"}, r"takes can\(\.\.\.\) for 'user'"),
        ({"user": can("fnd")}, "no method 'fnd'. Did you mean 'find'"),
        ({"admn": can("find")}, "no such role is declared. Did you mean 'admin'"),
        ({"author": can("find", where={"user_id": 1})}, r"mine\('user_id'\)"),
        ({"user": can("find", where=mine("user"))}, "'user' is no field. Did you mean 'user_id'"),
        ({"user": can("find", where={"owner": 1})}, "'owner' is no field"),
        ({"user": can("find", fields=["titel"])}, "'titel' is no field. Did you mean 'title'"),
    ],
)
def test_permissions_that_cannot_work_are_refused_at_registration(permissions: Any, problem: str) -> None:
    with pytest.raises((TypeError, ValueError), match=problem):
        app_of(permissions, "admin")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: can(), "names of methods"),
        (lambda: can("find", where={}), "where takes a scope"),
        (lambda: can("find", where={"$xor": []}), r"\$or and \$and"),
        (lambda: can("find", fields="title"), r"\['title'\]"),
        (lambda: can("find", fields=[]), "list of names"),
        (lambda: can("update", fields=["title"]), "allow patch instead"),
        (lambda: mine(), "names of fields"),
        (lambda: roles("admin"), "list of names"),
        (lambda: roles(("user",)), "role of every app"),
        (lambda: roles(("admin",), tenant="team_id"), "needs of"),
    ],
)
def test_rules_of_another_form_are_refused_where_they_are_made(make: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        make()


async def test_methods_without_authorize_or_without_permissions_are_refused_at_setup() -> None:
    class Notes(MemoryService):
        permissions = {"user": can("*")}

    hooks: Any = {"before": {"find": [authorize]}}
    with pytest.raises(TypeError, match="nothing enforces them for get, create, update, patch, remove"):
        await Apex().use("notes", Notes(), hooks=hooks).setup()
    with pytest.raises(TypeError, match="has the hook authorize and no permissions"):
        await Apex().use("notes", MemoryService(), hooks=hooks).setup()


def test_where_needs_an_adapter() -> None:
    class Clock(Service):
        permissions = {"user": can("find", where={"public": True})}

        async def find(self, params: Any) -> Any: ...

    with pytest.raises(TypeError, match="where needs an adapter"):
        Apex().use("clock", Clock())


async def test_each_method_takes_a_rule_and_the_default_is_to_deny() -> None:
    app = app_of({"anyone": can("find"), "user": can("get", "create"), "admin": can("*")}, "admin")
    await app.service("notes").create(dict(NOTE))
    calls = [("GET", "/notes"), ("GET", "/notes/1"), ("PATCH", "/notes/1"), ("DELETE", "/notes/1")]
    assert await status(app, *calls) == [200, 401, 401, 401]
    assert await status(app, *((*call, 5) for call in calls)) == [200, 200, 403, 403]
    admin = [(*call, 5, "admin", {"title": "b"} if call[0] == "PATCH" else None) for call in calls]
    assert await status(app, *admin) == [200, 200, 200, 200]


async def test_roles_that_inherit_may_do_what_the_ones_before_may() -> None:
    permissions = {"viewer": can("find"), "member": can("create"), "owner": can("remove")}
    calls = [("GET", "/notes", 5), ("POST", "/notes", 5), ("DELETE", "/notes/1", 5)]
    expected = {
        True: [[200, 403, 403], [200, 201, 403], [200, 201, 200]],
        False: [[200, 403, 403], [403, 201, 403], [403, 403, 200]],
    }
    for inherit, statuses in expected.items():
        app = app_of(permissions, "viewer", "member", "owner", inherit=inherit)
        await app.service("notes").create(dict(NOTE))
        by_role = [("viewer", *statuses[0]), ("member", *statuses[1]), ("owner", *statuses[2])]
        for role, *answers in by_role:
            given = [(*call, role, NOTE if call[0] == "POST" else None) for call in calls]
            assert await status(app, *given) == answers


async def test_rules_that_hold_together_allow_the_records_of_each() -> None:
    app = app_of(
        {"user": can("find", where={"title": "public"}), "author": can("find", "patch", where=mine("user_id"))}
    )
    notes = app.service("notes")
    for title, user in (("public", 5), ("private", 5), ("public", 6), ("private", 6)):
        await notes.create({"title": title, "user_id": user})
    async with calling(app) as client:
        found = (await ask(client, "GET", "/notes", 5)).json()
        assert [row["id"] for row in found] == [1, 2, 3]
        assert (await ask(client, "PATCH", "/notes/3", 5, data={"text": "x"})).status_code == 404
        assert (await ask(client, "PATCH", "/notes/2", 5, data={"text": "x"})).status_code == 200
        moved = await ask(client, "PATCH", "/notes/2", 5, data={"user_id": 6})
    assert (moved.status_code, moved.json()["errors"]) == (403, {"user_id": "Is outside of what you may touch"})


async def test_fields_that_a_caller_may_not_write_are_named() -> None:
    rule = can("create", "patch", where=mine("user_id"), fields=["title"])
    app = app_of({"user": can("get"), "author": rule})
    async with calling(app) as client:
        made = await ask(client, "POST", "/notes", 5, data={"title": "a"})
        refused = await ask(client, "PATCH", "/notes/1", 5, data={"title": "b", "text": "t", "nothing": 1})
        assert (await ask(client, "PATCH", "/notes/1", 5, data={"id": 1, "title": "b"})).status_code == 200
    assert made.json() == {"id": 1, "title": "a", "text": None, "secret": None, "user_id": 5}
    assert refused.status_code == 403
    assert list(refused.json()["errors"]) == ["text", "nothing"]


async def test_fields_that_a_caller_may_not_read_are_as_if_they_did_not_exist() -> None:
    app = app_of(
        {"user": can("find", "get", "create", fields=["title", "secret"]), "anyone": can("find", fields=["title"])}
    )
    await app.service("notes").create({**NOTE, "secret": "s"})
    async with calling(app) as client:
        assert (await ask(client, "GET", "/notes")).json() == [{"id": 1, "title": "a"}]
        for query in ("secret=s", "$sort[secret]=1", "$select[]=secret", "$or[0][secret]=s", "secret[$gt]=a"):
            hidden = await ask(client, "GET", f"/notes?{query}")
            missing = await ask(client, "GET", f"/notes?{query.replace('secret', 'nowhere')}")
            assert hidden.status_code == 400
            assert hidden.text == missing.text.replace("nowhere", "secret")
        assert (await ask(client, "GET", "/notes?secret=s", 5)).json() == [{"id": 1, "title": "a", "secret": "s"}]


async def test_a_field_that_some_records_show_is_found_and_shown_in_those_alone() -> None:
    app = app_of({"user": can("find", fields=["title"]), "author": can("find", where=mine("user_id"))})
    for user in (5, 6):
        await app.service("notes").create({"title": "a", "secret": "s", "user_id": user})
    async with calling(app) as client:
        found = (await ask(client, "GET", "/notes?$select[]=secret&$select[]=title", 5)).json()
        asked = (await ask(client, "GET", "/notes?secret=s", 5)).json()
        others = (await ask(client, "GET", "/notes?$or[0][secret]=s&$or[1][title]=a", 6)).json()
    assert found == [{"id": 1, "title": "a", "secret": "s"}, {"id": 2, "title": "a"}]
    assert ([row["id"] for row in asked], [row["id"] for row in others]) == ([1], [2])


async def test_the_answer_to_a_write_shows_what_the_caller_may_read() -> None:
    app = app_of({"user": [can("get", fields=["title"]), can("patch", "remove")], "anyone": can("create")})
    async with calling(app) as client:
        sent = await ask(client, "POST", "/notes", data={"title": "a", "secret": "s"})
        changed = await ask(client, "PATCH", "/notes/1?$select[]=title", 5, data={"text": "x"})
        removed = await ask(client, "DELETE", "/notes/1", 5)
    assert sent.json() == {"id": 1, "title": "a", "secret": "s"}
    assert changed.json() == removed.json() == {"id": 1, "title": "a"}


async def test_where_may_be_a_function_that_awaits() -> None:
    async def where(context: Context) -> Any:
        return {"5": True, "6": False}.get(str(context.params.user["id"]), {"title": "b"})

    app = app_of({"user": can("find", where=where)})
    await app.service("notes").create(dict(NOTE))
    async with calling(app) as client:
        answers = [await ask(client, "GET", "/notes", user) for user in (5, 6, 7)]
    assert [(one.status_code, len(one.json())) for one in answers if one.status_code == 200] == [(200, 1), (200, 0)]
    assert answers[1].status_code == 403


async def test_tenants_give_roles_in_each_of_them() -> None:
    app = Apex({"env": "test"})

    def of(context: Context) -> Any:
        return {1: "admin", 2: "viewer"} if context.params.user["id"] == 5 else {3: ["viewer", "admin"]}

    app.configure(roles(("viewer", "admin"), of=of, tenant="user_id", inherit=True))
    service = type("Notes", (MemoryService,), {"permissions": {"viewer": can("find", "get"), "admin": can("patch")}})
    app.use("notes", service(start_id=1), hooks={"before": {"all": [authorize]}})
    notes = app.service("notes")
    for tenant in (1, 2, 3):
        await notes.create({"title": "a", "user_id": tenant})
    ann, bob = ({"provider": "rest", "user": {"id": id}} for id in (5, 6))
    assert [row["id"] for row in await notes.find(ann)] == [1, 2]
    assert [row["id"] for row in await notes.find(bob)] == [3]
    assert (await notes.patch(1, {"title": "b"}, ann))["title"] == "b"
    assert (await notes.patch(3, {"title": "b"}, bob))["title"] == "b"
    with pytest.raises(Forbidden, match="outside"):
        await notes.patch(1, {"user_id": 2}, ann)


async def test_an_aggregate_names_its_groups_whose_records_a_rule_limits() -> None:
    rules = {"owner": [can("find", where=mine("user_id")), can("summary", where=mine("user_id"))]}
    app = app_of(rules, aggregates={"summary": Aggregate(count=True, group=["title"])})
    for user in (5, 5, 6):
        await app.service("notes").create({**NOTE, "user_id": user})
    async with calling(app) as client:
        response = await client.post("/notes/summary", json={}, headers={"x-user": "5"})
    assert response.json() == [{"title": "a", "count": 2}]


async def test_a_caller_without_a_tenant_finds_nothing() -> None:
    app = Apex().configure(roles(("member",), of=lambda context: {}, tenant="team_id"))
    service = type("Notes", (MemoryService,), {"permissions": {"user": can("find"), "member": can("get")}})
    notes = app.use("notes", service(), hooks={"before": {"all": [authorize]}}).service("notes")
    await notes.create({"team_id": 1})
    ann = {"provider": "rest", "user": {"id": 5}}
    assert await notes.find(ann) == []
    with pytest.raises(Forbidden):
        await notes.get(0, ann)
