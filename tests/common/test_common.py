"""The common hooks, each on the smallest service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex import Apex, Context, MemoryService, Params, validate_query
from apex.common import (
    disallow,
    discard,
    iff,
    is_provider,
    keep,
    prevent_changes,
    required,
    set_field,
    set_now,
    soft_delete,
    stash_before,
)
from apex.errors import BadRequest, FeathersError, Forbidden, MethodNotAllowed, NotFound
from apex.hooks import Hook, run_before
from apex.query.coercion import integer, text
from apex.service import BoundService
from apex.testing import raises

REST = {"provider": "rest"}
NESTED = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": [1]}


def notes(*before: Hook, after: list[Hook] | None = None, **options: Any) -> BoundService:
    hooks = {"before": {"all": list(before)}, "after": {"all": after or []}}
    return Apex().use("notes", MemoryService(start_id=1, **options), hooks=hooks).service("notes")


def run(hook: Hook, kind: str, record: Any, method: str = "create") -> Any:
    """What a hook makes of the data before, or of the result after a method."""
    context = Context(Apex(), None, method, data=record)
    context.type = kind
    if kind == "after":
        context.result = record
    hook(context)
    return context.data if kind == "before" else context.result


@pytest.mark.parametrize(
    ("refused", "rest", "socketio", "inside"),
    [((), True, True, True), (("external",), True, True, False), (("rest",), True, False, False),
     (("server",), False, False, True), (("rest", "server"), True, False, True)],
)  # fmt: skip
async def test_disallow(refused: tuple[str, ...], rest: bool, socketio: bool, inside: bool) -> None:
    service = notes(disallow(*refused))
    for provider, expected in (("rest", rest), ("socketio", socketio), (None, inside)):
        message = f"Provider '{provider or 'server'}' can not call 'find'"
        with pytest.raises(MethodNotAllowed, match=message) if expected else nullcontext():
            await service.find({"provider": provider})


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_iff_runs_one_branch_or_the_other(asynchronous: bool) -> None:
    async def is_rest(context: Context) -> bool:
        return bool(context.params.provider == "rest")

    async def stamp(context: Context) -> None:
        context.data = {**context.data, "by": "server"}

    chosen = iff(is_rest if asynchronous else is_provider("rest"), discard("secret")).else_(stamp, set_now("at"))
    service = notes(chosen)
    assert await service.create({"secret": 1}, REST) == {"id": 1}
    assert set(await service.create({"secret": 1})) == {"id", "secret", "by", "at"}


async def test_iff_takes_a_plain_answer_and_lets_errors_through() -> None:
    assert await notes(iff(False, disallow())).find() == []
    with raises(MethodNotAllowed):
        await notes(iff(True, iff(True, disallow()))).find()


@pytest.mark.parametrize("kind", ["before", "after"])
def test_keep_and_discard_reach_into_objects(kind: str) -> None:
    assert run(keep("a", "b.d"), kind, NESTED) == {"a": 1, "b": {"d": {"e": 3}}}
    assert run(discard("a", "b.d"), kind, NESTED) == {"b": {"c": 2}, "f": [1]}
    assert run(keep("b.c", "b"), kind, NESTED) == {"b": NESTED["b"]}
    assert run(keep("a.b"), kind, NESTED) == {}
    assert run(keep("a"), kind, [NESTED, {"x": 1}]) == [{"a": 1}, {}]
    assert run(keep("a"), kind, None) is None


def test_keep_and_discard_reach_into_lists() -> None:
    people = {"people": [{"name": "a", "password": "x"}, 5]}
    assert run(discard("people.password"), "before", people) == {"people": [{"name": "a"}, 5]}
    assert run(keep("people.name"), "before", people) == {"people": [{"name": "a"}]}


PAGE = {"total": 1, "limit": 1, "skip": 0, "data": [{"a": 1, "b": 2}]}
UNCOUNTED = {"limit": 1, "skip": 0, "data": PAGE["data"]}
WALKED = {"limit": 1, "next": None, "previous": None, "data": PAGE["data"]}


@pytest.mark.parametrize("page", [PAGE, UNCOUNTED, WALKED])
@pytest.mark.parametrize("method", ["find", "search"])
def test_find_and_custom_methods_give_pages(method: str, page: dict[str, Any]) -> None:
    assert run(keep("a"), "after", page, method) == {**page, "data": [{"a": 1}]}


def test_a_record_with_the_fields_of_a_page_is_a_record() -> None:
    assert run(discard("total"), "after", PAGE, "get") == {"limit": 1, "skip": 0, "data": [{"a": 1, "b": 2}]}
    assert run(keep("data"), "before", PAGE) == {"data": PAGE["data"]}


async def test_what_goes_out_apart_from_the_result_is_changed_as_well() -> None:
    def apart(context: Context) -> None:
        context.dispatch = dict(context.result)

    made = await notes(after=[apart, discard("secret")])._run("create", data={"a": 1, "secret": 2})
    assert made.dispatch == made.result == {"a": 1, "id": 1}


names = st.sampled_from("abc")
records = st.recursive(st.integers(), lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=8)
paths = st.lists(st.lists(names, min_size=1, max_size=3).map(".".join), max_size=3)


def leaves(record: Any, path: str = "") -> set[str]:
    if not isinstance(record, dict):
        return {path}
    return set().union(*(leaves(value, f"{path}.{name}") for name, value in record.items()))


@given(st.dictionaries(names, records, max_size=3), paths)
def test_what_keep_keeps_and_what_discard_leaves_make_the_whole(record: dict[str, Any], fields: list[str]) -> None:
    kept, left = run(keep(*fields), "before", record), run(discard(*fields), "before", record)
    assert leaves(kept) & leaves(left) == set() or not leaves(record)
    assert leaves(record) <= leaves(kept) | leaves(left) | {""}


async def test_prevent_changes_names_what_may_not_change() -> None:
    service = notes(prevent_changes("owner", "a.b"))
    await service.create({"owner": 1, "a": {"b": 1, "c": 1}})
    with pytest.raises(BadRequest) as caught:
        await service.patch(1, {"owner": None, "a": {"b": 2}, "x": 1})
    assert caught.value.errors == {"owner": "May not be changed", "a.b": "May not be changed"}
    assert (await service.patch(1, {"a": {"c": 2}}))["a"] == {"c": 2}


async def test_prevent_changes_can_leave_them_out() -> None:
    service = notes(prevent_changes("owner", raise_error=False))
    await service.create({"owner": 1})
    assert await service.patch(1, {"owner": 2, "x": 1}) == {"id": 1, "owner": 1, "x": 1}


@pytest.mark.parametrize(
    "data", [None, {}, {"name": ""}, {"name": {"first": ""}}, [{"name": "a"}, {"x": 1}], {"name": {"first": None}}]
)
async def test_required_names_all_that_is_missing(data: Any) -> None:
    service = notes(required("name", "name.first"), multi=True)
    with pytest.raises(BadRequest) as caught:
        await service.create(data)
    assert caught.value.errors["name.first"] == "Is required"
    assert await service.create({"name": {"first": 0}}) == {"id": 1, "name": {"first": 0}}
    assert len(await service.find()) == 1


async def test_set_field_copies_and_outside_it_must_be_there() -> None:
    service = notes(set_field(from_="params.user.id", as_="params.scope.owner"))
    assert await service.create({}, {**REST, "user": {"id": 7}}) == {"id": 1, "owner": 7}
    assert await service.find({**REST, "user": {"id": 8}}) == []
    with pytest.raises(Forbidden, match=r"Expected field params\.user\.id not available"):
        await service.find(REST)
    assert len(await service.find()) == 1


async def test_set_field_leaves_what_callers_handed_over_as_it_was() -> None:
    to_query = set_field(from_="params.user.id", as_="params.query.owner.$in.0")
    to_data = set_field(from_="params.user.id", as_="data.by.id")
    query, data = {"x": 1}, [{"by": {"name": "Ann"}}]
    service = notes(to_data, multi=True)
    assert await service.create(data, {"user": {"id": 7}, "query": {}}) == [{"id": 1, "by": {"name": "Ann", "id": 7}}]
    context = Context(Apex(), None, "find", params=Params({"user": {"id": 7}, "query": query}))
    to_query(context)
    assert (data, query) == ([{"by": {"name": "Ann"}}], {"x": 1})
    assert context.params.query == {"x": 1, "owner": {"$in": {"0": 7}}}


async def test_set_field_says_that_it_came_too_late() -> None:
    typed = {"id": integer, "owner": integer}
    service = notes(validate_query, set_field(from_="params.user.id", as_="params.query.owner"), fields=typed)
    with pytest.raises(TypeError, match="before validate_query"):
        await service.find({"user": {"id": 7}})


async def test_set_now_stamps_every_record() -> None:
    service = notes(iff(lambda context: context.method == "create", set_now("at")), multi=True)
    rows = await service.create([{"at": "forged"}, {}])
    assert all(isinstance(row["at"], datetime) and row["at"].tzinfo for row in rows)


async def test_soft_delete_is_not_for_clients_to_undo() -> None:
    typed = {"id": integer, "text": text, "gone_at": lambda value: value}
    service = notes(soft_delete("gone_at"), fields=typed)
    await service.create({"text": "a"})
    assert isinstance((await service.remove(1, REST))["gone_at"], datetime)
    for query in ({}, {"gone_at": {"$ne": None}}, {"$or": [{"id": 1}, {"gone_at": {"$gt": 0}}]}, {"gone_at": None}):
        assert await service.find({**REST, "query": query}) == []
    with raises(NotFound):
        await service.get(1, REST)
    with raises(BadRequest):
        await service.find({**REST, "query": {"$disableSoftDelete": True}})


async def test_hooks_go_ahead_of_the_around_hooks_that_follow() -> None:
    seen: list[Any] = []

    async def around(context: Context, next: Callable[[], Awaitable[None]]) -> None:
        seen.append("around")
        await next()

    def refuse(context: Context) -> None:
        seen.append(context.type)
        if context.data["refused"]:
            raise BadRequest("no")

    service = (
        Apex()
        .use("notes", MemoryService(), hooks={"around": {"create": [run_before(refuse), around]}})
        .service("notes")
    )
    await service.create({"refused": False})
    with raises(BadRequest):
        await service.create({"refused": True})
    assert seen == ["before", "around", "before"]


async def test_stash_before_keeps_what_was() -> None:
    seen: list[Any] = []

    def look(context: Context) -> None:
        seen.append(context.params.before)

    changes = iff(lambda context: context.method in ("update", "patch", "remove"), stash_before())
    service = notes(changes, after=[look], multi=True)
    await service.create([{"text": "a"}, {"text": "b"}])
    await service.patch(1, {"text": "x"}, {"query": {"$select": ["id"]}})
    await service.patch(None, {"text": "y"}, {"query": {"text": "b", "$select": ["id"]}})
    await service.remove(2)
    assert seen[1:] == [{"id": 1, "text": "a"}, [{"id": 2, "text": "b"}], {"id": 2, "text": "y"}]


async def test_stash_before_stays_in_the_scope() -> None:
    service = notes(iff(lambda context: context.method == "patch", stash_before()))
    await service.create({"owner": 1})
    with pytest.raises(FeathersError) as caught:
        await service.patch(1, {"x": 1}, {"scope": {"owner": 2}})
    assert isinstance(caught.value, NotFound)
