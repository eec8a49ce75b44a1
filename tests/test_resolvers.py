"""Resolvers: properties computed, hidden and refused one by one."""

from __future__ import annotations

from typing import Any

import pytest

from apex import Apex, Context, MemoryService, rest, validate_query
from apex.errors import BadRequest, Forbidden
from apex.resolvers import OMIT, resolve, resolve_data, resolve_external, resolve_query, resolve_result, virtual
from apex.service import BoundService
from tests.serving import calling
from tests.test_events import following, to_all


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


async def test_an_error_of_the_server_is_not_told() -> None:
    def fail(value: Any, record: Any, context: Context) -> Any:
        raise KeyError("secret")

    service = people(before=[resolve_data(resolve({"x": fail}))])
    service.app.configure(rest)
    async with calling(service.app) as client:
        answer = await client.post("/people", json={"x": 1})
    assert (answer.status_code, answer.json()["message"]) == (500, "An unexpected error occurred")


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
    [(None, {"first", "last", "password", "id", "name"}), (["name"], {"id", "name"}), (["first"], {"first", "id"})],
)
async def test_a_virtual_property_can_be_selected(select: Any, expected: set[str]) -> None:
    service = people(around={"find": [resolve_result(NAMED)], "get": [resolve_result(NAMED)]})
    await service.create(ANN)
    query = {} if select is None else {"$select": select}
    page, one = await service.find({"query": query}), await service.get(1, {"query": query})
    assert (page["total"], page["data"]) == (1, [one])
    assert (set(one), one.get("name", "Ann Lee")) == (expected, "Ann Lee")


async def test_safe_data_is_for_outside_and_events_the_whole_for_inside() -> None:
    service = people(around=[resolve_external(SAFE)])
    service.app.configure(rest).publish(to_all)
    _, sent = following(service.app)
    assert await service.create([ANN, ANN | {"first": "Ben"}]) == [ANN | {"id": 1}, ANN | {"first": "Ben", "id": 2}]
    assert [payload for _, payload, _ in sent] == [
        {"first": "Ann", "last": "Lee", "id": 1},
        {"first": "Ben", "last": "Lee", "id": 2},
    ]
    async with calling(service.app) as client:
        for path in ("/people", "/people/1", "/people?$select[]=password"):
            assert "secret" not in (await client.get(path)).text
        created = await client.post("/people", json=ANN)
    assert created.json() == {"first": "Ann", "last": "Lee", "id": 3}


async def test_results_that_are_no_records_stay_as_they_are() -> None:
    class Counter:
        async def get(self, id: Any, params: Any) -> Any:
            return {"none": None, "number": 0, "numbers": [1, 2]}[id]

    counter = Apex().use("counter", Counter(), hooks=[resolve_external(SAFE), resolve_result(NAMED)]).service("counter")
    assert [await counter.get(id) for id in ("none", "number", "numbers")] == [None, 0, [1, 2]]


def test_a_resolver_takes_functions() -> None:
    with pytest.raises(TypeError, match="The resolver of 'x' must be a function"):
        resolve({"x": 5})  # type: ignore[dict-item]
