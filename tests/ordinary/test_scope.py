"""``params.scope``: its shapes work the same in memory and in SQL, and any other shape is refused where it is set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Boolean, Column, Integer, MetaData, String, Table

from apex import Apex, Context, MemoryService, Params
from apex.adapters.base import Adapter
from apex.errors import BadRequest, FeathersError, Forbidden, NotFound
from apex.query.scope import AS_GIVEN, scope_predicate
from apex.service import BoundService
from apex.sql import Json, SQLService, Timestamp, database
from apex.sql.types.registry import coercers
from tests.support.databases import new_database

NOTES = Table(
    "notes",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("owner", Integer),
    Column("public", Boolean),
    Column("word", String(20)),
    Column("at", Timestamp),
    Column("extra", Json),
)
ALL = ["mine", "public", "hidden"]


class Word(StrEnum):
    MINE = "mine"


class Level(Enum):
    HIGH = "high"


MINE_OR_PUBLIC = {"$or": [{"owner": 5}, {"public": True}]}
MINE = {"owner": 5, "public": False, "word": "mine"}
PUBLIC = {"owner": 7, "public": True, "word": "public"}
HIDDEN = {"owner": 7, "public": False, "word": "hidden"}


@pytest.fixture(scope="module")
def urls(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str | None]]:
    with new_database(postgres_server) as url:
        path = tmp_path_factory.mktemp("scope") / "test.db"
        yield {"memory": None, "sqlite": f"sqlite:///{path}", "postgresql": url}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stores(urls: dict[str, str | None]) -> AsyncIterator[list[BoundService]]:
    """Run the same service in memory, on SQLite and on PostgreSQL."""
    apps = []
    for url in urls.values():
        app, options = Apex(), {"paginate": {"default": 5}, "multi": True}
        if url is None:
            app.use("notes", MemoryService(fields=coercers(NOTES), start_id=1, **options))  # type: ignore[arg-type]
        else:
            app.configure(database(url)).use("notes", SQLService(NOTES, **options))  # type: ignore[arg-type]
        await app.setup()
        if url is not None:
            await app.get("database").create_all(NOTES.metadata)
        apps.append(app)
    yield [app.service("notes") for app in apps]
    for app in apps:
        await app.teardown()


@pytest_asyncio.fixture(loop_scope="module", params=["memory", "sqlite", "postgresql"])
async def notes(stores: list[BoundService], request: pytest.FixtureRequest) -> BoundService:
    """Return a service with the notes mine, public and hidden, with the ids 1, 2 and 3."""
    service = stores[["memory", "sqlite", "postgresql"].index(request.param)]
    await service.remove(None)
    await service.create([{"id": place + 1, **row} for place, row in enumerate((MINE, PUBLIC, HIDDEN))])
    return service


pytestmark = pytest.mark.asyncio(loop_scope="module")


def words(rows: list[dict[str, Any]]) -> list[str]:
    return [row["word"] for row in rows]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"id": 1}, ["mine"]), ({"id": "1"}, ["mine"]), ({"id": [1, 3]}, ["mine", "hidden"]), ({"id": ()}, []),
        ({"id": {"$in": [2, 3]}}, ["public", "hidden"]), ({"id": {"$nin": [2, 3]}}, ["mine"]), ({"at": None}, ALL),
        ({"id": {"$gt": 1, "$lt": 3}}, ["public"]), ({"id": {"$gte": 2}}, ALL[1:]),
        ({"id": {"$lte": 1}}, ["mine"]), ({"id": {"$ne": 1}}, ALL[1:]), ({"at": {"$ne": None}}, []),
        ({"owner": {"$in": [None, 5]}}, ["mine"]), (MINE_OR_PUBLIC, ["mine", "public"]),
        ({"id": [2, 3], **MINE_OR_PUBLIC}, ["public"]), ({"$or": []}, []), ({"$and": [{"id": [1]}, {"id": [2]}]}, []),
        ({"$and": [MINE_OR_PUBLIC, {"$or": [{"id": 3}, {"id": {"$gt": 1}, "word": "public"}]}]}, ["public"]),
        ({"word": {"$gte": "mine"}, "public": [False, None]}, ["mine"]),
    ],
)  # fmt: skip
async def test_a_scope_takes_values_lists_operators_and_alternatives(
    notes: BoundService, scope: dict[str, Any], expected: list[str]
) -> None:
    everything: dict[str, Any] = {"scope": scope, "query": {"$or": [{"id": {"$gte": 0}}, {"owner": 7}]}}
    assert words(await notes.find({**everything, "paginate": False})) == expected
    assert (await notes.find(everything))["total"] == len(expected)
    walked = await notes.find({"scope": scope, "query": {"$after": "", "$limit": 3, "$sort": {"word": 1}}})
    assert words(walked["data"]) == sorted(expected)
    for id in (1, 2, 3):
        inside = ALL[id - 1] in expected
        assert (await seen(notes.get(id, {"scope": scope}))) == (id if inside else NotFound)
        assert (await seen(notes.patch(id, {"extra": {}}, {"scope": scope}))) == (id if inside else NotFound)
    assert words(await notes.patch(None, {"extra": []}, {"scope": scope})) == expected
    assert words(await notes.remove(None, {"scope": scope})) == expected


async def seen(call: Any) -> Any:
    """Return the id of the record that a call returns, or the type of its error."""
    try:
        return (await call)["id"]
    except FeathersError as error:
        return type(error)


class Thing:
    """An object that is no value of a column."""


REFUSED = [
    {"id": {"$in": 5}}, {"id": {"$like": "a"}}, {"id": {"in": [5]}}, {"id": {}}, {"id": {"$gt": None}}, {"id": Thing()},
    {"id": {"$gt": [1]}}, {"id": [[1]]}, {"id": [{"$gt": 1}]}, {"id": range(3)}, {"id": {"a": 1}.keys()},
    {"$or": {"owner": 5}}, {"$or": [{}]}, {"$or": [5]}, {"$or": [{"owner": {"$x": 5}}]}, {"$nor": []}, {"$limit": 5},
    {5: 5}, {"id": {"$eq": 5}},
]  # fmt: skip


@pytest.mark.parametrize("scope", REFUSED)
async def test_any_other_shape_is_refused_where_it_is_set(scope: dict[Any, Any]) -> None:
    ((name, allowed),) = scope.items()
    ways: list[Callable[[Params], Any]] = [
        lambda params: Params({"scope": scope}), lambda params: setattr(params, "scope", scope),
        lambda params: params.__setitem__("scope", scope), lambda params: params.update({"scope": scope}),
        lambda params: params.update(scope=scope), lambda params: params.__ior__({"scope": scope}),
        lambda params: (params.pop("scope"), params.setdefault("scope", scope)),
        lambda params: params.scope.__setitem__(name, allowed), lambda params: params["scope"].update(scope),
        lambda params: params.scope.update([(name, allowed)]), lambda params: params.scope.setdefault(name, allowed),
        lambda params: params.scope.__ior__(scope), lambda params: params.scope | scope,
        lambda params: scope | params.scope, lambda params: setattr(params, "scope", {"$or": [scope]}),
        lambda params: setattr(params, "scope", {"$and": [{"id": 1}, {"$or": [{"id": 1}, scope]}]}),
    ]  # fmt: skip
    for way in ways:
        params = Params({"scope": {"word": "kept"}})
        with pytest.raises(TypeError, match=r"^params\.scope"):
            way(params)
        assert params.get("scope", {"word": "kept"}) == {"word": "kept"}


async def test_a_copy_and_a_union_hold_what_both_have() -> None:
    scope, more = Params({"scope": {"id": 5}}).scope, {"word": "mine"}
    inner = Params({"scope": scope}).scope
    assert inner == {"id": 5} == scope.copy()
    assert (scope | more, more | scope) == ({"id": 5, "word": "mine"},) * 2
    assert ({"id": 7} | scope, scope | {"id": 7}) == ({"id": 5}, {"id": 7})
    inner["id"] = 7
    assert scope == {"id": 5}


VALUES = [
    "a", 1, 0.5, True, None, date(2026, 1, 1), time(12), timedelta(1), Decimal(1), UUID(int=1), b"a", Word.MINE,
    Level.HIGH,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
async def test_a_scope_takes_every_value_of_a_column(value: Any) -> None:
    scope = Params().scope
    for name, allowed in enumerate((value, [value], [value, Decimal(1)], (value,), {value}, frozenset({value}))):
        scope[str(name)] = allowed
    assert len(scope) == 6


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"word": Word.MINE}, ["mine"]), ({"word": [Word.MINE]}, ["mine"]), ({"word": {"$ne": Word.MINE}}, ALL[1:]),
        ({"word": {Word.MINE, "public"}}, ALL[:2]), ({"id": {1, "3"}}, ["mine", "hidden"]),
        ({"id": frozenset({2})}, ["public"]), ({"id": set()}, []), ({"$or": ({"id": {1}}, {"id": {2}})}, ALL[:2]),
    ],
)  # fmt: skip
async def test_sets_and_values_of_any_type_hold(
    notes: BoundService, scope: dict[str, Any], expected: list[str]
) -> None:
    assert words(await notes.find({"scope": scope, "paginate": False})) == expected


async def test_sets_are_read_in_one_order() -> None:
    """A cursor is bound to its scope, and is valid in another process."""
    one, other = (Params({"scope": {"id": set(order)}}).scope for order in ([0, 8], [8, 0]))
    assert [*one["id"]] != [*other["id"]]
    assert scope_predicate(one, AS_GIVEN) == scope_predicate(other, AS_GIVEN)


async def test_a_scope_that_is_no_dict_is_refused() -> None:
    for wrong in (5, "id", [("id", 5)], {"id"}):
        with pytest.raises(TypeError, match=r"^params\.scope must be a dict"):
            Params().scope = wrong  # type: ignore[assignment]
    params = Params({"scope": {"id": 5}})
    params.scope = None  # type: ignore[assignment]
    assert params.scope == {}


async def test_a_value_that_is_made_wrong_later_is_refused_when_it_is_used(notes: BoundService) -> None:
    params = Params({"scope": {"id": [1]}})
    params.scope["id"].append({"$gt": 0})
    with pytest.raises(TypeError, match=r"^params\.scope takes for id"):
        await notes.service.find(params)


async def test_a_field_that_is_not_there_is_refused_when_it_is_used(notes: BoundService) -> None:
    for name in ("ownr", "extra", "extra.key"):
        with pytest.raises(TypeError, match=rf"params\.scope cannot hold '{name}': \w+ has no such field to compare"):
            await notes.find({"scope": {name: 5}})


async def test_a_value_that_the_field_cannot_have_is_a_bad_request(notes: BoundService) -> None:
    for call in (notes.find, lambda params: notes.get(1, params), lambda params: notes.create({}, params)):
        with pytest.raises(BadRequest, match="owner must be an integer") as raised:
            await call({"scope": {"owner": "five"}})
        assert set(raised.value.errors) == {"owner"}


@pytest.mark.parametrize(
    ("scope", "data", "expected"),
    [
        ({"owner": 5}, {}, {"owner": 5}), ({"owner": [5]}, {}, {"owner": 5}), ({"owner": None}, {}, {"owner": None}),
        ({"owner": {"$in": [5]}}, {}, BadRequest), ({"owner": [5, 6]}, {}, BadRequest),
        ({"owner": [5, 6]}, {"owner": 6}, {"owner": 6}), ({"owner": [5, 6]}, {"owner": 7}, Forbidden),
        ({"$and": [{"owner": 5}, {"word": "a"}]}, {}, {"owner": 5, "word": "a"}),
        ({"owner": {"$gt": 5}}, {"owner": 6}, {"owner": 6}), ({"owner": {"$gt": 5}}, {"owner": 5}, Forbidden),
        ({"owner": {"$gt": 5}}, {"owner": None}, Forbidden), ({"owner": {"$gt": 5}}, {}, BadRequest),
        (MINE_OR_PUBLIC, {"owner": 5}, {"owner": 5}), (MINE_OR_PUBLIC, {"owner": 6, "public": True}, {"owner": 6}),
        (MINE_OR_PUBLIC, {"owner": 6, "public": False}, Forbidden), (MINE_OR_PUBLIC, {"owner": 6}, BadRequest),
        (MINE_OR_PUBLIC, {}, BadRequest), ({"$or": [{"owner": 5}]}, {}, {"owner": 5}), ({"$or": []}, {}, Forbidden),
        ({"at": {"$lt": datetime(2024, 1, 1, tzinfo=UTC)}}, {"at": "2025-01-01T00:00:00Z"}, Forbidden),
    ],
)  # fmt: skip
async def test_what_is_created_and_replaced_is_inside(
    notes: BoundService, scope: dict[str, Any], data: dict[str, Any], expected: Any
) -> None:
    before = await notes.find({"paginate": False})
    one, others = {"id": 10, **data}, [{"id": 11, **data}]
    calls: list[Callable[[], Any]] = [
        lambda: notes.create(one, {"scope": scope}),
        lambda: notes.create(others, {"scope": scope}),
    ]
    if await notes.find({"scope": scope, "paginate": False, "query": {"id": 2}}):
        calls.append(lambda: notes.update(2, data, {"scope": scope}))
    for call in calls:
        if isinstance(expected, dict):
            made = await call()
            made = made[0] if isinstance(made, list) else made
            assert expected.items() <= made.items()
        else:
            with pytest.raises(expected) as raised:
                await call()
            assert set(raised.value.errors) <= {"owner", "public", "at"}
            assert await notes.find({"paginate": False}) == before


@pytest.mark.parametrize("scope", [MINE_OR_PUBLIC, {"$or": [{"owner": [5, 6]}, {"public": {"$ne": False}}]}])
async def test_a_patch_that_would_leave_an_alternative_is_refused(notes: BoundService, scope: dict[str, Any]) -> None:
    params: dict[str, Any] = {"scope": scope}
    before = await notes.find({"paginate": False})
    for id, data in ((2, {"public": False}), (1, {"owner": 7}), (1, {"owner": None}), (None, {"public": False}),
                     (None, {"owner": 8, "public": None})):  # fmt: skip
        with pytest.raises(Forbidden, match="outside of what you may touch") as raised:
            await notes.patch(id, data, params)
        assert set(raised.value.errors) == set(data)
        assert await notes.find({"paginate": False}) == before
    assert (await notes.patch(1, {"public": None, "word": "x"}, params))["word"] == "x"
    assert (await notes.patch(2, {"owner": 5}, params))["owner"] == 5
    assert (await notes.patch(2, {"public": False}, params))["public"] is False
    with pytest.raises(NotFound):
        await notes.patch(3, {"public": False}, params)


async def test_hooks_that_write_into_the_scope_can_say_or(notes: BoundService) -> None:
    def mine_or_public(context: Context) -> None:
        context.params.scope["$or"] = [{"owner": context.params.user}, {"public": True}]

    adapter: Adapter = notes.service
    hooked = Apex().use("notes", adapter, hooks={"before": mine_or_public}).service("notes")
    query = {"$or": [{"public": False}, {"$or": [{"owner": 7}, {"owner": 5}]}]}
    assert words((await hooked.find({"user": 5, "query": query}))["data"]) == ["mine", "public"]
    assert words((await hooked.find({"user": 7, "query": query}))["data"]) == ["public", "hidden"]


OWNERS, SAID = st.sampled_from([None, 1, 2]), st.sampled_from([None, "", "B", "a", "é", "😀"])
ROWS = st.fixed_dictionaries({"owner": OWNERS, "public": st.sampled_from([None, True, False]), "word": SAID})
LISTED = st.lists(OWNERS, max_size=3)
ORDERED = st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$ne"]), SAID.filter(bool), min_size=1)
OPERATIONS = st.one_of(
    st.fixed_dictionaries({"owner": OWNERS | LISTED}),
    st.fixed_dictionaries({"owner": st.dictionaries(st.sampled_from(["$in", "$nin"]), LISTED, min_size=1)}),
    st.fixed_dictionaries({"owner": st.dictionaries(st.sampled_from(["$gt", "$lte"]), st.just(1), min_size=1)}),
    st.fixed_dictionaries({"word": SAID | ORDERED | st.just({"$ne": None})}),
    st.fixed_dictionaries({"public": st.sampled_from([None, True, [True, None], {"$ne": True}, {"$nin": [None]}])}),
)
CHANGED = st.sets(st.sampled_from(["owner", "public"]))
SCOPES = st.recursive(
    OPERATIONS, lambda inner: st.dictionaries(st.sampled_from(["$or", "$and"]), st.lists(inner, max_size=3), min_size=1)
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(ROWS, min_size=1, max_size=5),
    scope=SCOPES,
    data=ROWS,
    changed=st.sets(st.sampled_from(["owner", "public"])),
)
async def test_memory_and_databases_agree(
    stores: list[BoundService], rows: list[Any], scope: Any, data: dict[str, Any], changed: set[str]
) -> None:
    outcomes = []
    for service in stores:
        await service.remove(None)
        await service.create([{"id": place + 1, **row} for place, row in enumerate(rows)])
        found = [row["id"] for row in await service.find({"scope": scope, "paginate": False})]
        made = await seen(service.create({"id": 99, **data}, {"scope": scope}))
        change = {name: data[name] for name in changed}
        patched = [await seen(service.patch(id, change, {"scope": scope})) for id in (1, 2)]
        try:
            many = [row["id"] for row in await service.patch(None, change, {"scope": scope})]
        except Forbidden:
            many = ["Forbidden"]
        stored = await service.find({"paginate": False, "query": {"$sort": {"id": 1}}})
        outcomes.append((found, made, patched, many, stored))
        inside = {row["id"] for row in await service.find({"scope": scope, "paginate": False})}
        assert {id for id in (*found, made, *patched) if isinstance(id, int)} <= inside
    assert outcomes[0] == outcomes[1] == outcomes[2]
