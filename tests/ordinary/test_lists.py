"""A list in place of one record: it is refused before any hook, or accepted, and hooks work for one and for many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, Context, MemoryService, Params, SQLService, batch, database, rest, sockets
from apex.common import required
from apex.common.resolvers import resolve, resolve_data
from apex.errors import BadRequest, FeathersError, MethodNotAllowed
from tests.support.serving import calling, serving
from tests.support.sockets import connected

MANY = [{"text": "a"}, {"text": "b"}]


class Plain:
    """A service without an adapter."""

    async def create(self, data: Any, params: Params) -> Any:
        return data

    async def patch(self, id: Any, data: Any, params: Params) -> Any:
        return data

    async def update(self, id: Any, data: Any, params: Params) -> Any:
        return data

    async def add(self, data: Any, params: Params) -> Any:
        return data


def sign(context: Context) -> None:
    context.data["text"] += "!"


def notes(service: Any, hook: Any = sign, **options: Any) -> Apex:
    app = Apex().configure(rest).configure(sockets).configure(batch)
    return app.use("notes", service, hooks={"before": {"all": [hook]}}, **options)


SERVICES: dict[str, Callable[[], Any]] = {
    "memory": MemoryService,
    "memory that takes many elsewhere": lambda: MemoryService(multi=["patch", "remove"]),
    "plain": Plain,
}

REFUSED = {
    "create": (405, "Can not create multiple entries"),
    "update": (400, "You can not replace multiple instances. Did you mean 'patch'?"),
    "patch": (400, "The data of 'patch' must be an object"),
}
REQUESTS = {"create": ("POST", "/notes"), "update": ("PUT", "/notes/1"), "patch": ("PATCH", "/notes/1")}


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("method", REFUSED)
async def test_a_list_is_refused_before_any_hook(name: str, method: str) -> None:
    called: list[Context] = []
    app, expected = notes(SERVICES[name](), called.append), REFUSED[method]
    arguments = [MANY] if method == "create" else [1, MANY]
    async with serving(app) as client, connected(client) as peer:
        response = await client.request(*REQUESTS[method], json=MANY)
        (error,) = await peer.call(method, "notes", *arguments, {})
        batched = (await client.post("/batch", json={"calls": [[method, "notes", *arguments]]})).json()
    for body in (response.json(), error, batched[0]["reason"]):
        assert (body["code"], body["message"]) == expected
    with pytest.raises((MethodNotAllowed, BadRequest), match=expected[1]):
        await getattr(app.service("notes"), method)(*arguments)
    assert (response.status_code, called) == (expected[0], [])


@pytest.mark.parametrize("multi", [True, ["create"], ("create", "remove")])
@pytest.mark.parametrize("where", ["class", "option"])
async def test_a_plain_service_takes_a_list_where_it_says_so(where: str, multi: Any) -> None:
    service = type("Many", (Plain,), {"multi": multi})() if where == "class" else Plain()
    app = notes(service, lambda context: None, **({"multi": multi} if where == "option" else {}))
    async with calling(app) as client:
        response = await client.post("/notes", json=MANY)
        assert (await client.patch("/notes/1", json=MANY)).status_code == 400
    assert (response.status_code, response.json()) == (201, MANY)


async def test_an_option_counts_more_than_the_attribute_of_a_service() -> None:
    app = notes(type("Many", (Plain,), {"multi": True})(), multi=False)
    with pytest.raises(MethodNotAllowed):
        await app.service("notes").create(MANY)


@pytest.mark.parametrize("multi", ["create", ["craete"], 1, None])
def test_what_multi_does_not_take_is_refused(multi: Any) -> None:
    with pytest.raises(TypeError, match="multi of service 'notes' must be True, False or a list"):
        notes(Plain(), multi=multi)


@pytest.mark.parametrize("multi", [["craete"], "create", ["create", "find"]])
def test_what_the_multi_of_an_adapter_does_not_take_is_refused(multi: Any) -> None:
    with pytest.raises(TypeError, match="multi takes True, False or a list of create, patch, remove"):
        MemoryService(multi=multi)


def test_an_adapter_has_its_own_multi() -> None:
    with pytest.raises(TypeError, match="give multi to the adapter itself"):
        notes(MemoryService(), multi=True)


async def test_a_custom_method_gets_what_was_sent() -> None:
    app = notes(Plain(), lambda context: None, methods=["add"])
    assert await app.service("notes").add(MANY) == MANY


async def test_a_call_inside_may_allow_many_itself() -> None:
    app = notes(MemoryService(), lambda context: None)
    made = await app.service("notes").create(MANY, {"adapter": {"multi": ["create"]}})
    assert [note["text"] for note in made] == ["a", "b"]


async def test_a_caller_outside_cannot_allow_itself_many() -> None:
    async with calling(notes(MemoryService())) as client:
        for query in ("?adapter[multi]=true", "?multi=true", "?$multi=true"):
            assert (await client.post(f"/notes{query}", json=MANY)).status_code == 405


def stamp(context: Context) -> None:
    context.items = [{**item, "by": 5} for item in context.items]


def mark(context: Context) -> None:
    for item in context.items:
        item["text"] += "!"


def shout(context: Context) -> None:
    context.items = [{**item, "text": item["text"].upper()} for item in context.items]


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgresql"])
async def test_hooks_work_for_one_and_for_many(kind: str, request: pytest.FixtureRequest) -> None:
    table = Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("text", String(9)),
                  Column("by", Integer))  # fmt: skip
    options: Any = {"multi": True, "paginate": {"default": 10, "max": 10}}
    service = MemoryService(start_id=1, **options) if kind == "memory" else SQLService(table, **options)
    app = notes(service, lambda context: None)
    if kind != "memory":
        url = request.getfixturevalue("sqlite_url" if kind == "sqlite" else "postgres_url")
        app.configure(database(url))
    app.service("notes").hooks({"before": [stamp, mark], "after": [shout]})
    async with calling(app) as client:
        if kind != "memory":
            await app.get("database").create_all(table.metadata)
        one = (await client.post("/notes", json={"text": "a"})).json()
        many = (await client.post("/notes", json=MANY)).json()
        page = (await client.get("/notes")).json()
        patched = (await client.patch("/notes?text=b!", json={"text": "c"})).json()
        got = (await client.get("/notes/1")).json()
        removed = (await client.delete("/notes/1")).json()
    assert one == {"id": 1, "text": "A!", "by": 5}
    assert many == [{"id": 2, "text": "A!", "by": 5}, {"id": 3, "text": "B!", "by": 5}]
    assert (page["total"], page["data"]) == (3, [one, *many])
    assert patched == [{"id": 3, "text": "C!", "by": 5}]
    assert got == removed == one


def refuse(value: Any, record: Any, context: Context) -> Any:
    if value is None:
        raise BadRequest("An owner is required")
    return value


async def test_an_empty_list_is_a_list() -> None:
    app = notes(MemoryService(multi=True), stamp)
    assert await app.service("notes").create([]) == []


@pytest.mark.parametrize("hook", [required("owner"), resolve_data(resolve({"owner": refuse}))])
async def test_data_in_the_form_of_a_page_is_one_record(hook: Any) -> None:
    app = notes(Plain(), hook, methods=["add"])
    with pytest.raises(BadRequest):
        await app.service("notes").add({"data": [{"owner": 1}], "limit": 1, "skip": 0})
    context = Context(app, app.service("notes"), "add", data={"data": [{}], "limit": 1, "skip": 0})
    assert context.items == [context.data]


RECORDS = st.lists(st.dictionaries(st.text(max_size=3), st.integers()), max_size=4)


@given(RECORDS, st.sampled_from(["create", "find", "get", "shout"]), st.booleans())
def test_items_keep_the_form_of_what_they_are_of(records: Any, method: str, is_result: bool) -> None:
    context = Context(Apex(), None, method)
    for value in (
        records,
        {"total": 9, "limit": 1, "skip": 0, "data": records} if method == "find" and is_result else None,
        {"a": 1},
    ):
        if is_result:
            context.result = value
        else:
            context.data = value
        assert context.items == ([] if value is None else [value] if value == {"a": 1} else records)
        context.items = [dict(item) for item in context.items]
        assert (context.result if is_result else context.data) == value


def test_one_record_stays_one() -> None:
    context = Context(Apex(), None, "create", data={"text": "a"})
    for count in (0, 2):
        with pytest.raises(ValueError, match=f"is one record here, and was given {count}"):
            context.items = [{}] * count
    assert context.data == {"text": "a"}


async def test_what_a_hook_raises_for_one_of_many_is_a_feathers_error() -> None:
    def check(context: Context) -> None:
        if any("text" not in item for item in context.items):
            raise BadRequest("A note needs a text")

    app = notes(MemoryService(multi=True), check)
    wrong: list[Any] = [{}, [{"text": "a"}, {}]]
    for data in wrong:
        with pytest.raises(FeathersError, match="A note needs a text"):
            await app.service("notes").create(data)
