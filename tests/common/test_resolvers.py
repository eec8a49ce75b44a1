"""Resolvers: properties computed, hidden and refused one by one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apex import Apex, Context, MemoryService, rest, validate_query
from apex.common.resolvers import (
    OMIT,
    resolve,
    resolve_all,
    resolve_data,
    resolve_external,
    resolve_query,
    resolve_result,
    virtual,
)
from apex.errors import BadRequest, Forbidden
from apex.query.coercion import integer, text
from apex.service import BoundService
from tests.core.test_events import following, to_all
from tests.support.serving import calling


def people(**hooks: Any) -> BoundService:
    options = MemoryService(start_id=1, multi=True, paginate={"default": 5, "max": 5})
    return Apex().use("people", options, hooks=hooks).service("people")


async def full_name(person: Any, context: Context) -> str:
    return f"{person['first']} {person['last']}"


def omit(value: Any, person: Any, context: Context) -> Any:
    return OMIT


NAMED = resolve({"name": virtual(full_name)})
SAFE = resolve({"password": omit})
ANN = {"first": "Ann", "last": "Lee", "password": "secret"}


async def test_a_property_sees_the_record_as_it_was() -> None:
    async def twice(value: Any, record: Any, context: Context) -> Any:
        return record["a"] * 2

    swapped = resolve({"a": lambda value, record, context: record["b"], "b": twice})
    service = people(before={"create": [resolve_data(swapped, resolve({"c": lambda *_: "c"}))]})
    assert await service.create({"a": 1, "b": 2}) == {"a": 2, "b": 2, "c": "c", "id": 1}
    assert await service.create([{"a": 1, "b": 2}, {"a": 3, "b": 4}]) == [
        {"a": 2, "b": 2, "c": "c", "id": 2},
        {"a": 4, "b": 6, "c": "c", "id": 3},
    ]


async def test_all_that_fails_is_told_by_property() -> None:
    def forbid(value: Any, record: Any, context: Context) -> Any:
        raise Forbidden("nope")

    async def plain(value: Any, record: Any, context: Context) -> Any:
        raise ValueError("plain")

    service = people(before=[resolve_data(resolve({"x": forbid, "y": plain, "z": lambda *_: 1}))])
    with pytest.raises(BadRequest) as caught:
        await service.create({"x": 1})
    assert caught.value.to_dict() == {
        "name": "BadRequest", "message": "Error resolving data", "code": 400, "className": "bad-request",
        "data": {"x": {"name": "Forbidden", "message": "nope", "code": 403, "className": "forbidden"},
                 "y": {"message": "plain"}},
    }  # fmt: skip


@pytest.mark.parametrize(
    "hooks",
    [{"before": [resolve_data(resolve({"x": lambda value, record, context: record["secret"]}))]},
     {"around": [resolve_result(resolve({"x": lambda value, record, context: int(value)}))]},
     {"around": [resolve_external(resolve({"x": lambda value, record, context: int(value)}))]}],
)  # fmt: skip
async def test_an_error_of_the_server_is_not_told(hooks: Any) -> None:
    service = people(**hooks)
    service._app.configure(rest)
    async with calling(service._app) as client:
        answer = await client.post("/people", json={"x": "4111-x"})
    assert (answer.status_code, answer.json()["message"]) == (500, "An unexpected error occurred")
    assert "4111" not in answer.text


async def test_a_failing_property_may_be_called_anything() -> None:
    def fail(value: Any, record: Any, context: Context) -> Any:
        raise ValueError("is wrong")

    service = people(before=[resolve_data(resolve({"message": fail, "errors": fail}))])
    with pytest.raises(BadRequest, match="Error resolving data") as caught:
        await service.create({"message": "hello"})
    assert caught.value.data == {"message": {"message": "is wrong"}, "errors": {"message": "is wrong"}}


async def test_a_patch_of_others_leaves_a_property_alone() -> None:
    lower = resolve({"email": lambda email, *_: email and email.lower(), "seen": lambda seen, *_: seen or 0})
    service = people(before=[resolve_data(lower)])
    await service.create({"email": "ANN@x.org"})
    assert await service.patch(1, {"first": "Ann"}) == {"id": 1, "email": "ann@x.org", "seen": 0, "first": "Ann"}
    assert (await service.patch(1, {"email": None}))["email"] is None


async def test_a_failure_goes_up_once_all_functions_have_ended() -> None:
    ended = []

    async def slow(record: Any, context: Context) -> None:
        await asyncio.sleep(0)
        ended.append(record["id"])

    async def fail(record: Any, context: Context) -> None:
        raise KeyError("x")

    service = people(around={"find": [resolve_result(resolve({"a": virtual(fail), "b": virtual(slow)}))]})
    await service.create([{}, {}])
    with pytest.raises(KeyError):
        await service.find()
    assert sorted(ended) == [1, 2]


async def test_a_function_may_return_what_is_to_be_awaited() -> None:
    service = people(around=[resolve_result(resolve({"name": virtual(lambda *_: full_name(ANN, _[1]))}))])
    assert (await service.create(ANN))["name"] == "Ann Lee"


async def test_a_query_is_resolved_before_it_is_validated() -> None:
    mine = resolve_query(resolve({"owner": lambda value, query, context: 7}))
    service = people(before={"find": [mine]})
    await service.create([{"owner": 7}, {"owner": 8}])
    assert [row["owner"] for row in (await service.find({"query": {"owner": 8}}))["data"]] == [7]
    late = people(before={"find": [validate_query, mine]})
    with pytest.raises(TypeError, match="before validate_query"):
        await late.find()


@pytest.mark.parametrize(
    ("select", "expected"),
    [(None, {"first", "last", "password", "id", "name"}), (["name"], {"id", "name"}), ("name", {"id", "name"}),
     (["first"], {"first", "id"})],
)  # fmt: skip
@pytest.mark.parametrize("hook", [resolve_result(NAMED), resolve_result(resolve({"first": lambda v, *_: v}), NAMED)])
async def test_a_virtual_property_can_be_selected(hook: Any, select: Any, expected: set[str]) -> None:
    service = people(around={"find": [hook], "get": [hook]})
    await service.create(ANN)
    query = {} if select is None else {"$select": select}
    page, one = await service.find({"query": query}), await service.get(1, {"query": query})
    assert (page["total"], page["data"]) == (1, [one])
    assert (set(one), one.get("name", "Ann Lee")) == (expected, "Ann Lee")


async def test_safe_data_is_for_outside_and_events_the_whole_for_inside() -> None:
    service = people(around=[resolve_external(SAFE)])
    service._app.configure(rest).publish(to_all)
    _, sent = following(service._app)
    assert await service.create([ANN, ANN | {"first": "Ben"}]) == [ANN | {"id": 1}, ANN | {"first": "Ben", "id": 2}]
    assert [payload for _, payload, _ in sent] == [
        {"first": "Ann", "last": "Lee", "id": 1},
        {"first": "Ben", "last": "Lee", "id": 2},
    ]
    async with calling(service._app) as client:
        for path in ("/people", "/people/1", "/people?$select[]=password"):
            assert "secret" not in (await client.get(path)).text
        created = await client.post("/people", json=ANN)
    assert created.json() == {"first": "Ann", "last": "Lee", "id": 3}


async def test_outside_too_a_virtual_property_can_be_selected() -> None:
    service = people(around=[resolve_external(SAFE, NAMED)])
    service._app.configure(rest)
    await service.create(ANN)
    async with calling(service._app) as client:
        assert (await client.get("/people/1?$select=name")).json() == {"name": "Ann Lee", "id": 1}
        wrong = await client.get("/people/1?$select[0][a]=name")
    assert (wrong.status_code, wrong.json()["errors"]) == (400, {"$select": "must be a list of field names"})


async def test_beside_a_virtual_property_unknown_names_are_refused() -> None:
    class People(MemoryService):
        def fields(self) -> Any:
            return {"id": integer, "first": text, "last": text}

    hooks = {"around": {"all": [resolve_result(NAMED)]}}
    service = Apex().use("people", People(start_id=1), hooks=hooks).service("people")
    await service.create({"first": "Ann", "last": "Lee"})
    query = {"$select": ["name"], "first": "Ann"}
    assert await service.find({"query": query}) == [{"name": "Ann Lee", "id": 1}]
    with pytest.raises(BadRequest, match=r"Unknown field 'frist'\. Did you mean 'first'\?"):
        await service.find({"query": {"$select": ["name", "frist"]}})


async def test_what_a_hook_adds_to_selected_records_stays() -> None:
    def add(context: Context) -> None:
        context.result["added"] = True

    service = people(around=[resolve_result(SAFE)], after={"get": [add]})
    await service.create(ANN)
    assert await service.get(1, {"query": {"$select": ["first"]}}) == {"first": "Ann", "id": 1, "added": True}


async def test_records_inside_others_go_out_as_their_own_service_shows_them() -> None:
    async def embed(context: Context) -> None:
        context.result = {"user": await context.app.service("people").get(1), "all": [await service.find()]}

    service = people(around=[resolve_external(SAFE)])
    await service.create(ANN)
    app = service._app.configure(rest)
    app.use("outer", MemoryService(), hooks={"before": {"get": [embed]}, "around": {"all": [resolve_external()]}})
    assert (await app.service("outer").get(1))["user"] == ANN | {"id": 1}
    async with calling(app) as client:
        shown = (await client.get("/outer/1")).json()
    assert shown["user"] == shown["all"][0]["data"][0] == {"first": "Ann", "last": "Lee", "id": 1}


async def test_a_record_with_the_fields_of_a_page_is_safe() -> None:
    service = people(around=[resolve_external(SAFE)])
    made = await service._run("create", data=ANN | {"total": 1, "limit": 1, "skip": 0, "data": []})
    assert "password" not in made.dispatch


async def test_results_that_are_no_records_stay_as_they_are() -> None:
    class Counter:
        async def get(self, id: Any, params: Any) -> Any:
            return {"none": None, "number": 0, "numbers": [1, 2]}[id]

    counter = Apex().use("counter", Counter(), hooks=[resolve_external(SAFE), resolve_result(NAMED)]).service("counter")
    assert [await counter.get(id) for id in ("none", "number", "numbers")] == [None, 0, [1, 2]]


def test_a_resolver_takes_functions() -> None:
    with pytest.raises(TypeError, match="The resolver of 'x' must be a function"):
        resolve({"x": 5})  # type: ignore[dict-item]


async def test_all_kinds_of_resolvers_are_one_hook() -> None:
    upper = resolve({"first": lambda value, record, context: value and value.upper()})
    only_ann = resolve({"last": lambda value, record, context: "Lee"})
    every = resolve_all(data={"create": upper}, query=only_ann, result=NAMED, external=SAFE)
    service = people(around=[every])
    context = await service._run("create", data=ANN, params={"provider": "rest"})
    assert context.result == {"first": "ANN", "last": "Lee", "password": "secret", "id": 1, "name": "ANN Lee"}
    assert context.external == {"first": "ANN", "last": "Lee", "id": 1, "name": "ANN Lee"}
    assert (await service.patch(1, {"first": "Bo"}))["name"] == "Bo Lee"
    await service.create({"first": "Cy", "last": "Orr"})
    assert (await service.find())["total"] == 1
    whole = people(around=[resolve_all(data=upper)])
    assert (await whole.create({"first": "a"}))["first"] == "A"


def test_what_resolves_nothing_is_refused() -> None:
    with pytest.raises(TypeError, match="takes data for create, update and patch, not for 'remove'"):
        resolve_all(data={"remove": NAMED})
    with pytest.raises(TypeError, match="takes for result what resolve"):
        resolve_all(result={"name": full_name})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="in before of service 'people'"):
        people(before=[resolve_all(result=NAMED)])
