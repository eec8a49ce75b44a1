"""Tests of calls, which are the same over each transport."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apex.client import Client
from apex.errors import BadRequest, Conflict, FeathersError, MethodNotAllowed, NotFound, Timeout
from tests.client.sites import TRANSPORTS, Refuses, Slow, plain_app, talking
from tests.support.databases import free_port

ODD_IDS = ["a b/c", "..", ".", "é?&#%2F", "a+b", "-1"]


async def test_records_are_written_and_read(client: Client) -> None:
    messages = client.service("messages")
    made = await messages.create({"text": "c"})
    assert made == await messages.get(made["id"]) == {"text": "c", "id": 2}
    assert await messages.patch(2, {"text": "d"}) == {"text": "d", "id": 2}
    assert await messages.update(2, {"text": "e"}) == {"text": "e", "id": 2}
    assert await messages.remove(2) == {"text": "e", "id": 2}
    with pytest.raises(NotFound, match="No record found for id '2'"):
        await messages.get(2)


async def test_a_query_asks_for_a_page(client: Client) -> None:
    messages = client.service("messages")
    texts = ["a", "b", *map(str, range(48))]
    page = await messages.find({"query": {"$sort": {"text": -1}, "$limit": 1, "text": {"$in": texts}}})
    assert page == {"total": 2, "limit": 1, "skip": 0, "data": [{"text": "b", "id": 1}]}


async def test_a_list_is_walked_by_cursors(client: Client) -> None:
    messages = client.service("messages")
    query = {"$sort": {"text": 1}, "$limit": 1}
    first = await messages.find({"query": {**query, "$after": "", "$total": "estimated"}})
    assert (first["total"], first["estimated"], first["data"]) == (2, False, [{"text": "a", "id": 0}])
    second = await messages.find({"query": {**query, "$after": first["next"]}})
    assert (second["data"], second["next"]) == ([{"text": "b", "id": 1}], None)
    assert (await messages.find({"query": {**query, "$before": second["previous"]}}))["data"] == first["data"]
    assert await messages.find({"query": {"$total": False, "$limit": 0}}) == {"limit": 0, "skip": 0, "data": []}


async def test_a_null_id_is_for_all_that_match(client: Client) -> None:
    messages = client.service("messages")
    patched = await messages.patch(None, {"seen": True}, {"query": {"text": "a"}})
    removed = await messages.remove(None, {"query": {"text": {"$in": ["b"]}}})
    assert (patched, removed) == ([{"text": "a", "id": 0, "seen": True}], [{"text": "b", "id": 1}])


@pytest.mark.parametrize("id", ODD_IDS)
async def test_an_id_arrives_as_it_is(client: Client, id: str) -> None:
    assert (await client.service("echo").get(id))["id"] == id


@pytest.mark.parametrize("id", ["", None])
async def test_get_without_an_id_does_not_become_find(client: Client, id: str | None) -> None:
    with pytest.raises(BadRequest, match="id"):
        await client.service("messages").get(id)


async def test_remove_with_an_empty_id_does_not_remove_all(client: Client) -> None:
    with pytest.raises(BadRequest, match="The id is empty"):
        await client.service("messages").remove("")
    assert (await client.service("messages").find())["total"] == 2


async def test_custom_methods_are_methods(client: Client) -> None:
    service = client.service("/messages/")
    answer = await service.shout({"a": [1, None]}, {"query": {"loud": "yes"}})
    assert (answer["data"], answer["query"]) == ({"a": [1, None]}, {"loud": "yes"})
    assert await client.service("echo").nothing() is None
    with pytest.raises(MethodNotAllowed):
        await service.hidden()


@pytest.mark.parametrize("name", ["path", "client", "call", "run"])
async def test_a_custom_method_may_have_any_name(client: Client, name: str) -> None:
    assert await getattr(client.service("named"), name)({"a": 1}) == [name, {"a": 1}]


async def test_placeholders_are_filled(client: Client) -> None:
    members = client.service("groups/:groupId/members")
    assert (await members.find({"route": {"groupId": 12}}))["route"] == {"groupId": "12"}
    with pytest.raises(BadRequest, match=r"The path needs params\['route'\]\['groupId'\]"):
        await members.find()


async def test_an_error_is_the_servers_own() -> None:
    raised = Conflict("Taken", {"field": "text"}, errors={"text": "is taken"})
    for transport in TRANSPORTS:
        async with talking(plain_app().use("refuses", Refuses(raised)), transport) as client:
            with pytest.raises(Conflict, match="Taken") as caught:
                await client.service("refuses").find()
            assert caught.value.to_dict() == raised.to_dict()


async def test_a_large_integer_is_exact(client: Client) -> None:
    record = await client.service("echo").create({"a": 2**63 - 1, "b": 0.1})
    assert record == {"data": {"a": 2**63 - 1, "b": 0.1}}


async def test_many_calls_run_at_once(client: Client) -> None:
    echo = client.service("echo")
    answers = await asyncio.gather(*(echo.get(n) for n in range(300)))
    assert [answer["id"] for answer in answers] == [str(n) if not client.transport.realtime else n for n in range(300)]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_call_without_an_answer_ends(transport: str) -> None:
    app = plain_app()
    slow: Slow = app.service("slow").service
    async with talking(app, transport, timeout=0.2) as client:
        with pytest.raises(Timeout, match=r"No answer to find on 'slow' within 0\.2 seconds"):
            await client.service("slow").find()
        slow.allowed.set()


@pytest.mark.parametrize(("transport", "code"), [("rest", 503), ("socketio", 408)])
async def test_a_server_that_is_not_there(transport: str, code: int) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with Client(TRANSPORTS[transport](url, timeout=0.2)) as client:
        with pytest.raises(FeathersError, match=f"{url}(:| cannot be reached:) ") as caught:
            await client.service("messages").find()
    assert caught.value.code == code


async def test_a_closed_client_makes_no_calls(client: Client) -> None:
    await client.close()
    with pytest.raises(RuntimeError, match="The client is not open"):
        await client.service("messages").find()


async def test_a_value_without_json_is_the_callers_mistake(client: Client) -> None:
    values: list[Any] = [object(), iter([1])]
    for value in values:
        with pytest.raises(TypeError, match=r"has no JSON form|not JSON serializable"):
            await client.service("echo").create({"a": value})
