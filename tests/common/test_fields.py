"""Fields that hooks keep, discard, require, copy and set."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex import Apex, Context, MemoryService, Params, validate_query
from apex.common import (
    alter_items,
    discard,
    iff,
    keep,
    lower_case,
    now,
    prevent_changes,
    required,
    set_field,
    set_now,
    set_owner,
    timestamps,
)
from apex.errors import BadRequest, Forbidden
from apex.query.coercion import integer
from apex.service import BoundService
from tests.common.apps import NESTED, REST, notes, run
from tests.hooks.apps import caller, known_user
from tests.hooks.apps import notes as notes_of

OWNED = {"before": {"all": [known_user], "create": [set_owner("owned_by_user_id", creator="created_by_user_id")]}}


async def test_the_caller_makes_and_owns_a_row() -> None:
    service = notes_of(OWNED, multi=True)
    made = {"created_by_user_id": 1, "owned_by_user_id": 1}
    assert (await service.create({}, caller(1))).items() >= made.items()
    assert (await service.create({"owned_by_user_id": None}, caller(1))).items() >= made.items()
    assert all(row.items() >= made.items() for row in await service.create([{}, {}], caller(1)))


async def test_another_owner_stays() -> None:
    row = await notes_of(OWNED).create({"owned_by_user_id": 2}, caller(1))
    assert (row["created_by_user_id"], row["owned_by_user_id"]) == (1, 2)


async def test_a_row_made_from_inside_has_the_owner_it_is_given() -> None:
    assert await notes_of(OWNED).create({"text": "a"}) == {"id": 1, "text": "a"}


def stamped() -> BoundService:
    return notes_of({"before": {method: [timestamps()] for method in ("create", "update", "patch")}}, multi=True)


async def test_a_new_row_has_both_moments() -> None:
    before = now()
    row = await stamped().create({"text": "a"})
    assert before <= row["created_at"] == row["updated_at"] <= now()


async def test_a_change_moves_the_second_alone() -> None:
    service = stamped()
    old = datetime(2023, 1, 1, tzinfo=UTC)
    await service.create({"created_at": old, "updated_at": old})
    row = await service.patch(1, {"text": "b"})
    assert row["created_at"] == old < row["updated_at"]


async def test_moments_that_are_given_stay() -> None:
    old = datetime(2023, 1, 1, tzinfo=UTC)
    row = await stamped().create({"created_at": old})
    assert row["created_at"] == old < row["updated_at"]


async def test_many_rows_get_the_same_moment() -> None:
    rows = await stamped().create([{"text": "a"}, {"text": "b"}])
    assert len({row["created_at"] for row in rows}) == 1


def test_a_moment_is_cut_to_milliseconds() -> None:
    assert now().microsecond % 1000 == 0
    assert now().tzinfo is UTC


async def test_fields_have_the_names_that_they_are_given() -> None:
    hooks = {"before": {"all": [known_user], "create": [timestamps("made", "changed"), set_owner("owner")]}}
    row = await notes_of(hooks).create({"text": "a"}, caller(1))
    assert sorted(row) == ["changed", "id", "made", "owner", "text"]
    assert row["owner"] == 1


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


async def test_texts_are_written_in_lower_case() -> None:
    service = notes(lower_case("email", "names.first"), after=[lower_case("at")])
    names = [{"first": "ÄNN", "last": "Lee"}, {}]
    row = await service.create({"email": "Ann@X", "names": names, "at": 5})
    assert row == {"email": "ann@x", "names": [{"first": "änn", "last": "Lee"}, {}], "at": 5, "id": 1}
    assert names[0]["first"] == "ÄNN"
    assert await service.create({"email": None}) == {"email": None, "id": 2}


async def test_a_value_that_is_no_text_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        await notes(lower_case("email", "a.b")).create({"email": 5, "a": {"b": [1]}})
    assert caught.value.errors == {"email": "Must be a string", "a.b": "Must be a string"}


async def test_records_are_altered_before_and_after() -> None:
    def number(record: Any, context: Context) -> None:
        record["n"] = len(context.method)

    async def named(record: Any, context: Context) -> Any:
        return {**record, "name": f"{record['id']}."}

    service = notes(
        iff(lambda context: context.takes_data, alter_items(number)), after=[alter_items(named)], multi=True
    )
    data = {"a": 1}
    assert await service.create(data) == {"a": 1, "n": 6, "id": 1, "name": "1."}
    assert data == {"a": 1}
    assert [row["name"] for row in await service.create([{}, {}])] == ["2.", "3."]
    page = await service.find({"paginate": {"default": 1, "max": 1}})
    assert (page["total"], page["data"][0]["name"]) == (3, "1.")


def test_a_function_that_cannot_alter_is_refused() -> None:
    for wrong in (lambda record: record, None):
        with pytest.raises(TypeError, match="alter_items takes a function of"):
            alter_items(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="lower_case in error of service 'notes' cannot be there"):
        Apex().use("notes", MemoryService(), hooks={"error": [lower_case("a")]})


async def test_a_part_of_the_path_limits_and_stamps_the_records() -> None:
    own = set_field(from_="params.route.bookId", as_="params.scope.book_id")
    kinds = {"id": integer, "book_id": integer}
    app = Apex().use("books/:bookId/notes", MemoryService(fields=kinds), hooks={"before": {"all": [own]}})
    service = app.service("books/:bookId/notes")
    one, two = ({**REST, "route": {"bookId": id}} for id in ("1", "2"))
    assert await service.create({}, one) == {"id": 0, "book_id": 1}
    with pytest.raises(Forbidden):
        await service.create({"book_id": 2}, one)
    assert (len(await service.find(one)), await service.find(two)) == (1, [])
