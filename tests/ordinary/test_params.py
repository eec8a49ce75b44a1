"""Params: they stay params after every operation of a dict, and no limit of the caller is lost."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table

from apex import Apex, Context, MemoryService, Params, SQLService, database, rest, validate_query
from apex.common import soft_delete
from apex.errors import BadRequest, NotFound
from apex.query.coercion import integer, text
from tests.support.serving import calling

Operation = Callable[[Params], Any]

GIVEN = {
    "query": {"text": "a"},
    "provider": "rest",
    "scope": {"owner": 1},
    "user": {"id": 1},
    "adapter": {"multi": True},
    "headers": {"x-request-id": "1"},
    "route": {"group": "2"},
}

PARAMS: dict[str, Operation] = {
    "params | dict": lambda params: params | {"extra": 1},
    "dict | params": lambda params: {"extra": 1} | params,
    "params | params": lambda params: params | Params({**params, "extra": 1}),
    "copy": lambda params: Params.copy(params | {"extra": 1}),
    "copy.copy": lambda params: copy.copy(params | {"extra": 1}),
    "copy.deepcopy": lambda params: copy.deepcopy(params | {"extra": 1}),
    "pickle": lambda params: pickle.loads(pickle.dumps(params | {"extra": 1})),
    "Params(params)": lambda params: Params({**params, "extra": 1}),
}
"""Operations that give params."""

DICTS: dict[str, Operation] = {
    "{**params}": lambda params: {**params, "extra": 1},
    "dict(params)": lambda params: dict(params, extra=1),
    "a dict without the rest": lambda params: {"user": params.user, "extra": 1},
}
"""Operations that give dicts, which become params where they are taken."""

IN_PLACE: dict[str, Operation] = {
    "|=": lambda params: params.__ior__({"extra": 1}),
    "update": lambda params: params.update({"extra": 1}),
    "item": lambda params: params.__setitem__("extra", 1),
    "attribute": lambda params: setattr(params, "extra", 1),
}


def survived(params: Any) -> None:
    """Assert that every part exists, as item and as attribute."""
    assert isinstance(params, Params)
    assert {**params} == {**GIVEN, "extra": 1}
    assert (params.extra, params.scope, params.provider, params.nothing) == (1, {"owner": 1}, "rest", None)


@pytest.mark.parametrize("name", PARAMS)
def test_an_operation_gives_params_with_all_that_was_there(name: str) -> None:
    params = Params(GIVEN)
    survived(PARAMS[name](params))
    assert params == GIVEN


@pytest.mark.parametrize("name", IN_PLACE)
def test_params_are_changed_in_place(name: str) -> None:
    params = Params(GIVEN)
    IN_PLACE[name](params)
    survived(params)


@pytest.mark.parametrize("name", [*PARAMS, *DICTS])
@pytest.mark.parametrize("place", ["assigned", "returned"])
async def test_a_hook_replaces_params_by_what_an_operation_gives(name: str, place: str) -> None:
    seen: list[Any] = []

    def replace(context: Context) -> Any:
        params = {**PARAMS, **DICTS}[name](context.params)
        if place == "returned":
            return {"params": params}
        context.params = params
        survived(context.params)
        return None

    class Notes:
        async def find(self, params: Params) -> None:
            seen.append(params)

    app = Apex().use("notes", Notes(), hooks={"before": [replace, lambda context: seen.append(context.params)]})
    await app.service("notes").find(GIVEN)
    for params in seen:
        survived(params)
    assert len(seen) == 2


@pytest.mark.parametrize("name", [*PARAMS, *DICTS])
async def test_a_call_inside_takes_what_an_operation_gives(name: str) -> None:
    class Notes:
        async def find(self, params: Params) -> Any:
            return params

    given = {**PARAMS, **DICTS}[name](Params(GIVEN))
    taken = await Apex().use("notes", Notes()).service("notes").find(given)
    assert isinstance(taken, Params)
    assert taken == {"query": {}, "scope": {}, **given}


@pytest.mark.parametrize(
    "hostile", [{"scope": {"owner": 2}}, {"scope": {"owner": [1, 2]}}, {"provider": ""}, {"provider": None}]
)
@pytest.mark.parametrize("place", ["assigned", "returned", "params"])
async def test_a_merge_with_what_a_caller_has_sent_changes_neither_scope_nor_provider(hostile: Any, place: str) -> None:
    def merge(context: Context) -> Any:
        merged = {**context.params, **context.data}
        if place == "returned":
            return {"params": merged}
        context.params = Params(merged) if place == "params" else merged
        return None

    service = Apex().use("notes", MemoryService(), hooks={"before": [merge]}).service("notes")
    with pytest.raises(TypeError, match=r"context.params was given another (scope for 'owner'|provider)"):
        await service.create(hostile, GIVEN)


async def test_a_scope_of_replaced_params_is_added_to_the_one_of_before() -> None:
    def narrow(context: Context) -> Any:
        return {"params": {"scope": {"public": True}}}

    seen: list[Any] = []
    hooks = {"before": [narrow, lambda context: seen.append(dict(context.params.scope))]}
    await Apex().use("notes", MemoryService(), hooks=hooks).service("notes").find(GIVEN)
    assert seen == [{"owner": 1, "public": True}]


async def test_scope_and_provider_can_be_set_by_name() -> None:
    def change(context: Context) -> None:
        context.params.scope["owner"] = 2
        context.params.provider = None

    seen: list[Any] = []
    hooks = {"before": [change, lambda context: seen.append((context.params.scope, context.params.provider))]}
    await Apex().use("notes", MemoryService(), hooks=hooks).service("notes").find(GIVEN)
    assert seen == [({"owner": 2}, None)]


async def test_a_hook_that_replaces_params_does_not_make_a_soft_delete_a_hard_one() -> None:
    def replace(context: Context) -> None:
        context.params = {"user": {"id": 1}}

    notes = MemoryService(store={0: {"id": 0}, 1: {"id": 1}}, multi=True)
    service = Apex().use("notes", notes, hooks={"before": {"remove": [soft_delete(), replace]}}).service("notes")
    await service.remove(None, {"query": {"id": 0}})
    assert (notes.store[0]["deleted_at"] is not None, notes.store[1]) == (True, {"id": 1})


@pytest.mark.parametrize("wrong", [None, 1, ["a"]])
def test_params_are_a_dict(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"context.params must be a dict"):
        Context(Apex(), None, "find").params = wrong


def test_a_name_of_a_method_of_dicts_is_a_key_alone() -> None:
    params = Params()
    with pytest.raises(AttributeError, match=r"set params\['items'\]"):
        params.items = 1  # type: ignore[method-assign,assignment]
    params["items"] = 1
    assert params["items"] == 1


def test_a_key_is_deleted_as_an_attribute() -> None:
    params = Params({"user": 1})
    del params.user, params.nothing
    assert "user" not in params


@given(
    st.dictionaries(
        st.sampled_from([*GIVEN, "other"]), st.integers() | st.none() | st.dictionaries(st.text(), st.integers())
    )
)
def test_no_params_that_are_assigned_widen_a_scope(assigned: Mapping[str, Any]) -> None:
    context = Context(Apex(), None, "find", params=Params(GIVEN))
    with suppress(TypeError):
        context.params = assigned
    assert (context.params.scope["owner"], context.params.provider) == (1, "rest")


QUERIES: dict[str, Callable[[Any], Any]] = {
    "{**query}": lambda query: {**query, "text": "b"},
    "query | dict": lambda query: query | {"text": "b"},
    "dict | query": lambda query: {**({"text": "b"} | query), "text": "b"},
    "dict(query)": lambda query: dict(query, text="b"),
    "copy": lambda query: {**query.copy(), "text": "b"},
}

ASKED = {"text": "a", "$limit": "5", "$skip": "0", "$sort": {"id": "-1"}, "$select": ["id", "text"], "$total": "true"}


@pytest.mark.parametrize("name", QUERIES)
async def test_a_parsed_query_is_replaced_and_parsed_anew(name: str, empty_url: str) -> None:
    table = Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("text", String(9)),
                  Column("at", DateTime(timezone=True)))  # fmt: skip

    def replace(context: Context) -> None:
        context.params.query = QUERIES[name](context.params.query)

    hooks = {"before": {"find": [validate_query, replace, validate_query]}}
    app = Apex().configure(database(empty_url)).configure(rest)
    app.use("notes", SQLService(table, paginate={"default": 10, "max": 10}, multi=True), hooks=hooks)
    async with calling(app):
        await app.get("database").create_all(table.metadata)
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        await app.service("notes").create([{"text": one, "at": moment} for one in "abb"])
        query = {**ASKED, "$or": [{"id": {"$in": ["1", "2", "3"]}}], "at": {"$lte": "2026-01-01T00:00:00Z"}}
        page = await app.service("notes").find({"query": query})
    assert page == {"total": 2, "limit": 5, "skip": 0, "data": [{"id": 3, "text": "b"}, {"id": 2, "text": "b"}]}


@pytest.mark.parametrize(
    "change",
    [lambda query: query.__setitem__("text", "b"), lambda query: query.update(text="b"),
     lambda query: query.pop("text"), lambda query: query.__delitem__("text"),
     lambda query: query.setdefault("x", 1), lambda query: query.clear()],
)  # fmt: skip
async def test_a_parsed_query_says_how_to_change_it(change: Callable[[Any], Any]) -> None:
    hooks = {"before": {"find": [validate_query, lambda context: change(context.params.query)]}}
    service = Apex().use("notes", MemoryService(), hooks=hooks).service("notes")
    with pytest.raises(TypeError, match=r"assign another one, as in context.params.query = \{\*\*context.params.query"):
        await service.find({"query": {"text": "a"}})


async def test_a_parsed_query_takes_an_or_in_place() -> None:
    def narrow(context: Context) -> None:
        context.params.query |= {"text": "b"}  # type: ignore[operator]

    hooks = {"before": {"find": [validate_query, narrow]}}
    notes = MemoryService(store={0: {"id": 0, "text": "a"}, 1: {"id": 1, "text": "b"}})
    service = Apex().use("notes", notes, hooks=hooks).service("notes")
    assert await service.find({"query": {"id": {"$gte": 0}}}) == [{"id": 1, "text": "b"}]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def adapter(request: pytest.FixtureRequest) -> tuple[str | None, type[Any]]:
    """Return an adapter of notes with a text and a secret, and the URL of its database."""
    if request.param == "memory":

        class Memory(MemoryService):
            def __init__(self) -> None:
                super().__init__(fields={"id": integer, "text": text}, multi=True, start_id=1)

        return None, Memory

    class SQL(SQLService):
        table = Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("text", String(9)))
        multi = True

    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(name)), SQL


@pytest.mark.parametrize("params", [{}, None, {"query": {}}, {"query": None, "scope": None}], ids=repr)
async def test_every_method_of_an_adapter_takes_a_dict_or_none(adapter: Any, params: Any) -> None:
    url, base = adapter

    class Notes(base):  # type: ignore[misc,valid-type]
        async def shout(self, data: Any, given: Params) -> Any:
            made = await super().create({"text": data["text"]}, params)
            many = await super().create([{"text": "b"}, {"text": "c"}], params)
            found = [await super().get(made["id"], params), *await super().find(params)]
            changed = await super().patch(made["id"], {"text": "A"}, params)
            replaced = await super().update(made["id"], {"text": "B"}, params)
            removed = await super().remove(made["id"], params)
            every = await super().patch(None, {"text": "z"}, params)
            gone = await super().remove(None, params)
            return [row["text"] for row in (made, *many, *found, changed, replaced, removed, *every, *gone)]

    app = Apex().configure(rest)
    if url is not None:
        app.configure(database(url))
    app.use("notes", Notes(), methods=["shout"])
    async with calling(app) as client:
        if url is not None:
            await app.get("database").create_all(Notes.table.metadata)
        response = await client.post("/notes", json={"text": "a"}, headers={"X-Service-Method": "shout"})
    assert response.json() == list("abc") + list("aabc") + list("ABB") + list("zz") + list("zz")


async def test_a_dict_of_params_holds_what_params_would(adapter: Any) -> None:
    url, base = adapter
    if url is not None:
        return
    notes = base()
    await notes.create([{"text": "a"}, {"text": "b"}], None)
    assert await notes.find({"query": {"text": "a"}}) == [{"id": 1, "text": "a"}]
    with pytest.raises(NotFound):
        await notes.get(1, {"scope": {"text": "b"}})
    with pytest.raises(BadRequest):
        await notes.find({"query": {"nothing": 1}})
