"""The REST transport: what goes in, what comes out, byte for byte where clients rely on it."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from httpx2 import AsyncClient, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from apex import Apex, Context, MemoryService, Params, Service, rest
from apex.encoding import RawJSON
from apex.errors import BadRequest, Conflict, FeathersError, NotFound
from apex.service import BodyLimit
from apex.transports.rest import LARGE_AT_ONCE, LARGE_QUEUE
from tests.support.serving import calling, serving
from tests.support.waiting import until

MESSAGES = [{"text": "a", "id": 0}, {"text": "b", "id": 1}, {"text": "c", "id": 2}]


class Messages(MemoryService):
    methods = ("find", "get", "create", "update", "patch", "remove", "shout")
    multi = True
    paginate = {"default": 2, "max": 5}

    async def shout(self, data: Any, params: Params) -> Any:
        return {"data": data, "provider": params.provider, "query": params.query, "route": params.route}

    async def hidden(self, data: Any, params: Params) -> Any:
        return "never"


class Echo(Service):
    """Gives back what it was called with."""

    methods = ("find", "get", "create", "update", "patch", "remove", "nothing")

    async def find(self, params: Params) -> Any:
        return dict(params.query)

    async def get(self, id: Any, params: Params) -> Any:
        return {"id": id, "route": params.route}

    async def create(self, data: Any, params: Params) -> Any:
        return {"data": data}

    async def update(self, id: Any, data: Any, params: Params) -> Any:
        return {"id": id, "data": data}

    async def patch(self, id: Any, data: Any, params: Params) -> Any:
        return {"id": id, "data": data, "query": params.query}

    async def remove(self, id: Any, params: Params) -> Any:
        return {"id": id}

    async def nothing(self, data: Any, params: Params) -> Any:
        return None


class Gives(Service):
    """Gives the same result, or raises the same error, whatever it is asked."""

    def __init__(self, result: Any) -> None:
        self.result = result

    async def find(self, params: Params) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    async def create(self, data: Any, params: Params) -> Any:
        return self.result


def app_of(path: str, service: Any, **options: Any) -> Apex:
    return Apex().configure(rest).use(path, service, **options)


def messages() -> Apex:
    return app_of("messages", Messages(store={row["id"]: dict(row) for row in MESSAGES}, start_id=3))


async def answer(app: Apex, method: str, url: str, **options: Any) -> Response:
    async with calling(app) as client:
        return await client.request(method, url, **options)


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    async with calling(messages()) as client:
        yield client


# Reading and writing.


async def test_an_empty_service_gives_an_empty_page() -> None:
    response = await answer(app_of("messages", Messages()), "GET", "/messages")
    assert (response.status_code, response.text) == (200, '{"total":0,"limit":2,"skip":0,"data":[]}')


@pytest.mark.parametrize(
    ("method", "url", "data", "status", "body"),
    [
        ("POST", "/messages", {"text": "d"}, 201, '{"text":"d","id":3}'),
        ("POST", "/messages/", [{"text": "d"}, {"text": "e"}], 201, '[{"text":"d","id":3},{"text":"e","id":4}]'),
        ("POST", "/messages/77", {"text": "withid"}, 201, '{"text":"withid","id":3}'),
        ("PUT", "/messages/1", {"text": "x"}, 200, '{"text":"x","id":1}'),
        ("PATCH", "/messages/1", {"seen": True}, 200, '{"text":"b","id":1,"seen":true}'),
        ("PATCH", "/messages?text=b", {"seen": True}, 200, '[{"text":"b","id":1,"seen":true}]'),
        ("DELETE", "/messages/0", None, 200, '{"text":"a","id":0}'),
        ("DELETE", "/messages?text=c", None, 200, '[{"text":"c","id":2}]'),
        ("GET", "/messages/0", None, 200, '{"text":"a","id":0}'),
        ("GET", "/messages/0/", None, 200, '{"text":"a","id":0}'),
        ("GET", "/messages?$limit=0", None, 200, '{"total":3,"limit":0,"skip":0,"data":[]}'),
        (
            "GET", "/messages?$limit=100&$skip=1&$sort[text]=-1&$select[]=text", None, 200,
            '{"total":3,"limit":5,"skip":1,"data":[{"text":"b","id":1},{"text":"a","id":0}]}',
        ),
        (
            "GET", "/messages?$limit=-1", None, 200,
            '{"total":3,"limit":2,"skip":0,"data":[{"text":"a","id":0},{"text":"b","id":1}]}',
        ),
    ],
)  # fmt: skip
async def test_verbs_are_methods(client: AsyncClient, method: str, url: str, data: Any, status: int, body: str) -> None:
    response = await client.request(method, url, json=data)
    assert (response.status_code, response.text) == (status, body)
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.headers["content-length"] == str(len(body))


@pytest.mark.parametrize(
    ("method", "url", "data", "status", "name", "message"),
    [
        ("GET", "/messages?$foo=1", None, 400, "BadRequest", "Invalid filter value $foo"),
        ("GET", "/messages/999", None, 404, "NotFound", "No record found for id '999'"),
        ("GET", "/nope?x=1", None, 404, "NotFound", "Path /nope not found"),
        ("GET", "/", None, 404, "NotFound", "Path / not found"),
        ("GET", "/messages/1/2", None, 404, "NotFound", "Path /messages/1/2 not found"),
        ("PURGE", "/messages", None, 405, "MethodNotAllowed", "Method PURGE not allowed"),
        ("OPTIONS", "/messages", None, 405, "MethodNotAllowed", "Method OPTIONS not allowed"),
        (
            "PUT", "/messages", {"text": "x"}, 400, "BadRequest",
            "You can not replace multiple instances. Did you mean 'patch'?",
        ),
    ],
)  # fmt: skip
async def test_errors_are_feathers_objects(
    client: AsyncClient, method: str, url: str, data: Any, status: int, name: str, message: str
) -> None:
    response = await client.request(method, url, json=data, headers={"Accept": "text/html"})
    word = {"BadRequest": "bad-request", "NotFound": "not-found", "MethodNotAllowed": "method-not-allowed"}[name]
    body = f'{{"name":"{name}","message":"{message}","code":{status},"className":"{word}"}}'
    assert (response.status_code, response.text) == (status, body)
    assert response.headers["content-type"].startswith("application/json")


async def test_an_unknown_operator_is_named_with_its_data(client: AsyncClient) -> None:
    response = await client.get("/messages?text[$regex]=1")
    assert response.text == (
        '{"name":"BadRequest","message":"Invalid query parameter $regex","code":400,"className":"bad-request",'
        '"data":{"$regex":"1"},'
        '"errors":{"text":"Has no operator $regex: there are $gt, $gte, $in, $lt, $lte, $ne, $nin"}}'
    )


@pytest.mark.parametrize(
    ("method", "data", "word"), [("PATCH", {}, "patch"), ("DELETE", None, "remove"), ("POST", [{}], "create")]
)
async def test_many_records_need_multi(method: str, data: Any, word: str) -> None:
    response = await answer(app_of("nomulti", MemoryService()), method, "/nomulti", json=data)
    assert (response.status_code, response.json()["message"]) == (405, f"Can not {word} multiple entries")
    assert response.json()["name"] == "MethodNotAllowed"


async def test_data_and_errors_follow_in_order() -> None:
    error = BadRequest("bad one", {"foo": 1, "errors": {"a": "x"}})
    response = await answer(app_of("echo", Gives(error)), "GET", "/echo")
    assert response.status_code == 400
    assert response.text == (
        '{"name":"BadRequest","message":"bad one","code":400,"className":"bad-request","data":{"foo":1},'
        '"errors":{"a":"x"}}'
    )


async def test_error_data_may_be_a_list() -> None:
    response = await answer(app_of("echo", Gives(Conflict("twice", [1, 2]))), "GET", "/echo")
    assert (response.status_code, response.json()["data"]) == (409, [1, 2])


# Statuses.


@pytest.mark.parametrize(("result", "body"), [(0, "0"), (False, "false"), ("", '""'), ([], "[]"), ({}, "{}")])
async def test_a_value_that_is_merely_falsy_is_sent(result: Any, body: str) -> None:
    response = await answer(app_of("echo", Gives(result)), "GET", "/echo")
    assert (response.status_code, response.text) == (200, body)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_result_is_204(method: str) -> None:
    response = await answer(app_of("echo", Gives(None)), method, "/echo")
    assert (response.status_code, response.content) == (204, b"")
    assert "content-type" not in response.headers
    assert "content-length" not in response.headers


async def test_a_custom_method_without_result_is_204() -> None:
    response = await answer(app_of("echo", Echo()), "POST", "/echo", headers={"X-Service-Method": "nothing"})
    assert response.status_code == 204


def replying(**http: Any) -> Apex:
    """An app whose result is 1, with what a hook says about the response."""

    def say(context: Context) -> None:
        assert context.http is not None
        context.http.update(http)

    return app_of("echo", Gives(1), hooks={"after": {"all": [say]}})


async def test_a_location_is_303_with_its_body() -> None:
    response = await answer(replying(location="/else where?a=%20é"), "POST", "/echo")
    assert (response.status_code, response.text) == (303, "1")
    assert response.headers["location"] == "/else%20where?a=%20%C3%A9"


async def test_a_location_among_the_headers_is_303() -> None:
    response = await answer(replying(headers={"Location": "/there"}), "POST", "/echo")
    assert response.status_code == 303
    assert response.headers.get_list("location") == ["/there"]


async def test_a_status_and_repeated_headers_are_the_hooks_to_say() -> None:
    response = await answer(replying(status=206, headers={"X-A": 1, "X-B": ["a", "b"]}), "GET", "/echo")
    assert (response.status_code, response.headers["x-a"]) == (206, "1")
    assert response.headers.get_list("x-b") == ["a", "b"]


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_body_has_none(status: int) -> None:
    async with serving(replying(status=status)) as client:
        response = await client.get("/echo")
        assert (response.status_code, response.content) == (status, b"")
        assert (await client.get("/echo")).status_code == status


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b=c", "a\nb", "€"])
async def test_a_header_that_http_cannot_carry_is_an_error(value: str) -> None:
    async with serving(replying(headers={"X-A": value})) as client:
        response = await client.get("/echo")
    assert (response.status_code, response.json()["name"]) == (500, "GeneralError")
    assert "set-cookie" not in response.headers


async def test_dispatch_is_what_callers_outside_see() -> None:
    def redact(context: Context) -> None:
        context.dispatch = {"shown": True}

    app = app_of("echo", Gives({"secret": 1}), hooks={"after": {"find": [redact]}})
    response = await answer(app, "GET", "/echo")
    assert response.text == '{"shown":true}'


async def test_dispatch_of_none_is_204() -> None:
    def hide(context: Context) -> None:
        context.dispatch = None

    response = await answer(app_of("echo", Gives(1), hooks={"after": {"find": [hide]}}), "GET", "/echo")
    assert response.status_code == 204


async def test_headers_set_before_a_failure_are_not_sent() -> None:
    def say(context: Context) -> None:
        context.http = {"status": 202, "headers": {"X-A": "1"}}
        raise BadRequest("no")

    response = await answer(app_of("echo", Gives(1), hooks={"before": {"all": [say]}}), "GET", "/echo")
    assert response.status_code == 400
    assert "x-a" not in response.headers


async def test_json_of_the_database_goes_out_untouched() -> None:
    response = await answer(app_of("echo", Gives(RawJSON(b'{"b": 1,  "a": 2}'))), "GET", "/echo")
    assert response.text == '{"b": 1,  "a": 2}'


async def test_hooks_see_json_of_the_database_decoded() -> None:
    def add(context: Context) -> None:
        context.result["c"] = 3

    app = app_of("echo", Gives(RawJSON(b'{"b": 1}')), hooks={"after": {"find": [add]}})
    assert (await answer(app, "GET", "/echo")).text == '{"b":1,"c":3}'


# Failures nobody foresaw.


async def test_the_text_of_an_unforeseen_error_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "apex"):
        response = await answer(app_of("echo", Gives(RuntimeError("s3cret"))), "GET", "/echo")
    assert response.text == (
        '{"name":"GeneralError","message":"An unexpected error occurred","code":500,"className":"general-error"}'
    )
    assert response.status_code == 500
    assert "GET /echo failed" in caplog.text
    assert "s3cret" in caplog.text


@pytest.mark.parametrize("result", [object(), {"x": 2**70}])
async def test_what_has_no_json_form_is_an_error(result: Any) -> None:
    response = await answer(app_of("echo", Gives(result)), "GET", "/echo")
    assert (response.status_code, response.json()["name"]) == (500, "GeneralError")


DEEP = json.loads("[" * 300 + "]" * 300)


@pytest.mark.parametrize("data", [{"x": object()}, {"x": 2**70}, DEEP])
async def test_an_error_goes_out_without_the_data_that_has_no_json_form(data: Any) -> None:
    response = await answer(app_of("echo", Gives(BadRequest("no", data))), "GET", "/echo")
    assert response.json() == {"name": "BadRequest", "message": "no", "code": 400, "className": "bad-request"}


async def test_errors_of_other_routes_are_feathers_objects() -> None:
    async def gone(request: Request) -> PlainTextResponse:
        raise NotFound("not here")

    async def teapot(request: Request) -> PlainTextResponse:
        raise HTTPException(409, "taken", {"X-A": "1"})

    app = Apex().configure(lambda app: rest(app, routes=[Route("/gone", gone), Route("/teapot", teapot)]))
    async with calling(app) as client:
        assert (await client.get("/gone")).json()["message"] == "not here"
        response = await client.get("/teapot")
    assert response.json() == {"name": "Conflict", "message": "taken", "code": 409, "className": "conflict"}
    assert response.headers["x-a"] == "1"


async def test_other_routes_live_beside_services() -> None:
    async def health(request: Request) -> PlainTextResponse:
        return PlainTextResponse("well")

    app = Apex().configure(lambda app: rest(app, routes=[Route("/health", health)])).use("echo", Echo())
    async with calling(app) as client:
        assert (await client.get("/health")).text == "well"
        assert (await client.get("/echo/1")).status_code == 200
        response = await client.post("/health")
    assert (response.status_code, response.json()["name"]) == (405, "MethodNotAllowed")
    assert "GET" in response.headers["allow"]


async def test_an_unforeseen_error_of_another_route_is_answered() -> None:
    async def broken(request: Request) -> PlainTextResponse:
        raise RuntimeError("s3cret")

    async with serving(Apex().configure(lambda app: rest(app, routes=[Route("/broken", broken)]))) as client:
        response = await client.get("/broken")
    assert (response.status_code, response.json()["name"]) == (500, "GeneralError")
    assert "s3cret" not in response.text


# Methods.


class Speaker:
    methods = ("speak",)

    async def speak(self, data: Any, params: Params) -> Any:
        return [params.route.get("id"), data]


async def test_a_header_names_a_custom_method(client: AsyncClient) -> None:
    response = await client.post("/messages?q=1", json={"v": 1}, headers={"x-service-method": "shout"})
    assert response.status_code == 200
    assert response.text == '{"data":{"v":1},"provider":"rest","query":{"q":"1"},"route":{}}'


async def test_a_path_names_a_custom_method(client: AsyncClient) -> None:
    response = await client.post("/messages/shout?q=1", json={"v": 1})
    assert response.text == '{"data":{"v":1},"provider":"rest","query":{"q":"1"},"route":{}}'
    created = await client.post("/messages/hidden", json={"text": "a"})
    assert (created.status_code, created.json()["text"]) == (201, "a")


async def test_a_path_names_the_custom_method_of_a_service_without_records() -> None:
    response = await answer(app_of("echo", Speaker()), "POST", "/echo/speak", json={"v": 1})
    assert (response.status_code, response.json()) == (200, [None, {"v": 1}])


@pytest.mark.parametrize(
    ("method", "name", "named"),
    [
        ("POST", "hidden", "hidden"),
        ("POST", "create", "create"),
        ("POST", "Shout", "Shout"),
        ("POST", "setup", "setup"),
        ("POST", "__init__", "__init__"),
        ("POST", "_find", "_find"),
        ("PUT", "find", "update"),
        ("GET", "find", "find"),
        ("DELETE", "remove", "remove"),
    ],
)
async def test_a_method_that_is_not_exposed_is_405(client: AsyncClient, method: str, name: str, named: str) -> None:
    response = await client.request(method, "/messages", headers={"X-Service-Method": name})
    assert response.text == (
        f'{{"name":"MethodNotAllowed","message":"Method `{named}` is not supported by this endpoint.",'
        '"code":405,"className":"method-not-allowed"}'
    )
    assert response.headers["allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_custom_method_counts_on_post_alone(client: AsyncClient, method: str) -> None:
    response = await client.request(method, "/messages", headers={"X-Service-Method": "shout"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("methods", "url", "allow"),
    [
        (["find"], "/echo", "GET, HEAD"),
        (["find"], "/echo/1", ""),
        (["get", "remove"], "/echo/1", "GET, HEAD, DELETE"),
        (["nothing"], "/echo", "POST"),
        ([], "/echo", ""),
    ],
)
async def test_allow_lists_the_verbs_there_are(methods: list[str], url: str, allow: str) -> None:
    response = await answer(app_of("echo", Echo(), methods=methods), "PATCH", url, json={})
    assert (response.status_code, response.headers["allow"]) == (405, allow)


async def test_head_is_get_without_the_body(client: AsyncClient) -> None:
    named = {"X-Request-Id": "mine"}
    got, headed = await client.get("/messages", headers=named), await client.head("/messages", headers=named)
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed.headers == got.headers
    assert (await client.head("/messages/999")).status_code == 404


# Paths.


@pytest.mark.parametrize("id", ["a b/c", "a/b", "é", "100%", "..", "a%2Fb", "a?b#c", "+", "a;b", "[1]"])
async def test_any_text_may_be_an_id(id: str) -> None:
    response = await answer(app_of("echo", Echo()), "GET", "/echo/" + quote(id, safe="").replace(".", "%2E"))
    assert response.json() == {"id": id, "route": {}}


async def test_an_id_of_invalid_utf_8_is_answered() -> None:
    response = await answer(app_of("echo", Echo()), "GET", "/echo/%FF")
    assert (response.status_code, response.json()["id"]) == (200, "\ufffd")


async def test_placeholders_are_route_params() -> None:
    app = app_of("groups/:groupId/members", Echo())
    response = await answer(app, "GET", "/groups/1%2F2/members/7")
    assert response.json() == {"id": "7", "route": {"groupId": "1/2"}}


@pytest.mark.parametrize(
    "path",
    [
        "//chat/my%20notes", "/chat//my%20notes", "/chat/my%20notes//", "//", "/%63hat/my%20notes",
        "/chat/m%79%20notes", "/chat/my+notes", "/chat%2Fmy%20notes", "/%2E/chat/my%20notes", "/Chat/my%20notes",
        "/x/%2E%2E/chat/my%20notes", "/chat/my%20notes/%2E/5", "/chat/my%20notes;x/5", "/%2Fchat/my%20notes",
    ],
)  # fmt: skip
async def test_a_service_has_one_path(path: str) -> None:
    app = app_of("chat/my notes", Echo()).use("/", Echo(), methods=["create"])
    async with calling(app) as client:
        for spelled, status in (("/chat/my%20notes", 201), ("/chat/my%20notes/", 201), ("/", 201), (path, 404)):
            response = await client.post(f"http://apex{spelled}", json={})
            assert response.status_code == status, response.text


@pytest.mark.parametrize("path", ["/logins/x", "/logins/%2E", "/logins/x/"])
async def test_a_service_without_records_takes_no_id_on_create(path: str) -> None:
    app = app_of("logins", Echo(), methods=["create", "remove", "nothing"])
    async with calling(app) as client:
        for headers in ({}, {"X-Service-Method": "nothing"}):
            assert (await client.post("/logins", json={}, headers=headers)).status_code < 300
            response = await client.post(path, json={}, headers=headers)
            assert (response.status_code, response.json()["name"]) == (404, "NotFound")
        assert (await client.delete(path)).status_code == 200
        assert (await client.get(path)).status_code == 405


@pytest.mark.parametrize(
    ("method", "status"), [("PATCH", {"id": None, "data": {"a": 1}, "query": {"q": "1"}}), ("DELETE", {"id": None})]
)
async def test_without_an_id_it_is_none(method: str, status: Any) -> None:
    data = {"a": 1} if method == "PATCH" else None
    response = await answer(app_of("echo", Echo()), method, "/echo?q=1", json=data)
    assert response.json() == status


# Queries.

FROM_THE_NPM_CLIENT = (
    "/echo?a=&c=true&d=1970-01-01T00%3A00%3A00.000Z&e%5B0%5D=1&e%5B1%5D=2&g%5Bh%5D%5B%24in%5D%5B0%5D=x&i=a%20b%26c"
    "&k=%C3%A9&%24sort%5Bx%5D=-1&%24or%5B0%5D%5Ba%5D=1"
)


async def test_the_npm_clients_query_is_understood() -> None:
    response = await answer(app_of("echo", Echo()), "GET", FROM_THE_NPM_CLIENT)
    assert response.json() == {
        "a": "", "c": "true", "d": "1970-01-01T00:00:00.000Z", "e": ["1", "2"], "g": {"h": {"$in": ["x"]}},
        "i": "a b&c", "k": "é", "$sort": {"x": "-1"}, "$or": [{"a": "1"}],
    }  # fmt: skip


async def test_a_list_of_25_values_is_a_list() -> None:
    url = "/echo?" + "&".join(f"id[$in][{index}]={index}" for index in range(25))
    response = await answer(app_of("echo", Echo()), "GET", url)
    assert response.json() == {"id": {"$in": [str(index) for index in range(25)]}}


@pytest.mark.parametrize("query", ["a=%FF", "a=%00", "a[b=1", "a=1&a[b]=2", "a" + "[b]" * 20 + "=1"])
async def test_a_query_that_cannot_be_read_is_400(query: str) -> None:
    response = await answer(app_of("echo", Echo()), "GET", f"/echo?{query}")
    assert (response.status_code, response.json()["name"]) == (400, "BadRequest")


async def test_a_query_may_be_in_the_body_and_wins() -> None:
    body = {"query": {"a": {"$in": [1, None]}, "b": 2}}
    response = await answer(app_of("echo", Echo()), "GET", "/echo?b=1&c=3", json=body)
    assert response.json() == {"a": {"$in": [1, None]}, "b": 2, "c": "3"}


@pytest.mark.parametrize("body", [[], {"query": []}, {"query": None}, {"query": "a"}])
async def test_a_body_of_get_that_is_no_query_is_400(body: Any) -> None:
    response = await answer(app_of("echo", Echo()), "GET", "/echo", json=body)
    assert (response.status_code, response.json()["name"]) == (400, "BadRequest")


async def test_a_body_of_get_without_a_query_asks_nothing() -> None:
    assert (await answer(app_of("echo", Echo()), "GET", "/echo?a=1", json={})).json() == {"a": "1"}


# Bodies.


@pytest.mark.parametrize("body", ["", "  \n"])
async def test_an_empty_body_is_no_data(body: str) -> None:
    response = await answer(app_of("echo", Echo()), "POST", "/echo", content=body)
    assert (response.status_code, response.text) == (201, '{"data":null}')


@pytest.mark.parametrize(
    "body",
    [
        b"{", b'{"a":1', b"{'a':1}", b'{"a":1}}', b'{"a":NaN}', b'{"a":"\xff"}', b'{"a":"\\ud800"}', b"[" * 100_000,
        b'"text"', b"1", b"null", b"a=1&b[c]=2", gzip.compress(b"{}", mtime=0),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_json_object_or_list_is_400(body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = await answer(app_of("echo", Echo()), "POST", "/echo", content=body, headers=headers)
    assert (response.status_code, response.json()["name"]) == (400, "BadRequest")
    assert len(response.json()["message"]) < 300


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data"])
async def test_a_body_of_another_type_is_415(content_type: str) -> None:
    headers = {"Content-Type": content_type}
    response = await answer(app_of("echo", Echo()), "POST", "/echo", content="a=1", headers=headers)
    assert (response.status_code, response.headers["accept"]) == (415, "application/json")
    assert content_type in response.json()["message"]


FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


async def test_an_app_may_take_the_bodies_of_forms() -> None:
    app = Apex({"forms": True}).configure(rest).use("echo", Echo())
    response = await answer(app, "POST", "/echo", content="a=1&b[c]=%C3%A9+x&d[]=1&d[]=2", headers=FORM)
    assert (response.status_code, response.json()) == (201, {"data": {"a": "1", "b": {"c": "é x"}, "d": ["1", "2"]}})
    assert (await answer(app, "POST", "/echo", json={"a": 1})).json() == {"data": {"a": 1}}
    other = await answer(app, "POST", "/echo", content="a", headers={"Content-Type": "text/plain"})
    assert other.headers["accept"] == "application/json, application/x-www-form-urlencoded"


@pytest.mark.parametrize("body", [b"a=\xff", b"a=%FF", b"a=1&a[b]=2", b"a[b=1", b"a=%00", b"&".join([b"a=1"] * 10_001)])
async def test_a_malformed_form_is_400(body: bytes) -> None:
    app = Apex({"forms": True}).configure(rest).use("echo", Echo())
    response = await answer(app, "POST", "/echo", content=body, headers=FORM)
    assert (response.status_code, response.json()["message"][:14]) == (400, "Malformed form")


async def test_a_body_without_a_type_is_json() -> None:
    response = await answer(app_of("echo", Echo()), "POST", "/echo", content=b'{"a":1}')
    assert response.json() == {"data": {"a": 1}}


def small() -> Apex:
    return Apex({"bodyLimit": 10}).configure(rest).use("echo", Echo())


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_body_at_the_limit_is_taken() -> None:
    assert (await answer(small(), "POST", "/echo", content=b'{"a":1234}')).status_code == 201


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_413(declared: bool) -> None:
    body = b'{"a":12345}' if declared else chunks(b'{"a":', b"12345}")
    response = await answer(small(), "POST", "/echo", content=body)
    error = response.json()
    assert response.status_code == error["code"] == 413
    assert (error["name"], error["className"]) == ("BadRequest", "bad-request")


@pytest.mark.parametrize("length", ["²", "-1", "x", "1e9"])
async def test_a_length_that_is_no_number_is_not_trusted(length: str) -> None:
    headers = [(b"Content-Length", length.encode("latin-1"))]
    response = await answer(small(), "POST", "/echo", content=b'{"a":1}', headers=headers)
    assert response.status_code == 201


class Loads(Service):
    """Takes more in ``load`` than in other methods."""

    methods = ("create", "load")
    body_limits = {"load": BodyLimit(30, "Use the command")}

    def __init__(self) -> None:
        self.at_work, self.done = 0, asyncio.Event()

    async def create(self, data: Any, params: Params) -> Any:
        return data

    async def load(self, data: Any, params: Params) -> Any:
        self.at_work += 1
        await self.done.wait()
        return data


LOAD = {"X-Service-Method": "load"}
LARGE = b'{"a":"' + b"x" * 22 + b'"}'


@pytest.mark.parametrize("declared", [True, False])
async def test_a_method_may_take_larger_bodies_than_others(declared: bool) -> None:
    service = Loads()
    service.done.set()
    app = Apex({"bodyLimit": 10}).configure(rest).use("loads", service)
    async with calling(app) as client:
        for body, headers, status in [(LARGE, LOAD, 200), (LARGE, {}, 413), (LARGE + b" ", LOAD, 413)]:
            content = body if declared else chunks(body[:8], body[8:])
            response = await client.post("/loads", content=content, headers=headers)
            assert response.status_code == status, response.text
            message = response.json().get("message")
    assert message == "request entity too large: the limit is 30 bytes. Use the command"


async def test_the_limit_of_all_bodies_goes_before_a_smaller_one_of_a_method() -> None:
    app = Apex({"bodyLimit": 10}).configure(rest).use("echo", Echo(), body_limits={"create": 5})
    assert (await answer(app, "POST", "/echo", content=b'{"a":1234}')).status_code == 201


async def test_few_large_bodies_are_in_memory_at_once_and_others_wait() -> None:
    app = Apex({"bodyLimit": 10}).configure(rest).use("loads", service := Loads())
    async with calling(app) as client, asyncio.TaskGroup() as group:
        post = partial(client.post, "/loads", headers=LOAD)
        large = [group.create_task(post(content=LARGE)) for _ in range(LARGE_QUEUE + 1)]
        await until(lambda: service.at_work == LARGE_AT_ONCE and any(task.done() for task in large))
        (refused,) = [task.result() for task in large if task.done()]
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        small = group.create_task(post(content=b"{}"))
        await until(lambda: service.at_work == LARGE_AT_ONCE + 1)
        service.done.set()
    assert sorted(task.result().status_code for task in [*large, small]) == [200] * (LARGE_QUEUE + 1) + [503]


@pytest.mark.parametrize(
    ("limits", "error"),
    [({"nothing": 5}, ValueError), ({"find": 0}, TypeError), ({"find": "1m"}, TypeError), ([1], TypeError)],
)
def test_body_limits_that_cannot_hold_are_refused_when_a_service_is_registered(limits: Any, error: type) -> None:
    with pytest.raises(error, match="body"):
        Apex().use("messages", MemoryService(), body_limits=limits)


# Errors in a form of the service's own.


def plain(result: Any = None) -> Apex:
    """A service whose errors are one line of text."""
    app = Apex({"bodyLimit": 10}).configure(rest)
    return app.use("plain", Gives(result), errors=lambda error: {"problem": f"{error.code} {error.message}"[:24]})


@pytest.mark.parametrize(
    ("method", "body", "status", "problem"),
    [
        ("POST", b"{", 400, "400 Malformed JSON: unex"),
        ("POST", b"{" * 11, 413, "413 request entity too l"),
        ("PUT", b"{}", 405, "405 Method `update` is n"),
        ("PURGE", b"", 405, "405 Method PURGE not all"),
    ],
)
async def test_what_no_hook_has_seen_fails_in_the_form_of_the_service(
    method: str, body: bytes, status: int, problem: str
) -> None:
    response = await answer(plain(), method, "/plain", content=body)
    assert (response.status_code, response.json()) == (status, {"problem": problem})
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("error", "status", "problem"),
    [(Conflict("Taken"), 409, "409 Taken"), (RuntimeError("secret"), 500, "500 An unexpected error ")],
)
async def test_what_a_service_raises_has_its_form(error: Exception, status: int, problem: str) -> None:
    response = await answer(plain(error), "GET", "/plain")
    assert (response.status_code, response.json()) == (status, {"problem": problem})


async def test_an_error_that_cannot_be_sent_has_the_form_too() -> None:
    response = await answer(plain(Conflict("Taken", headers={"x-a": "b\nc"})), "GET", "/plain")
    assert (response.status_code, response.json()) == (500, {"problem": "500 An unexpected error "})


def looks_up(error: FeathersError) -> Any:
    return {"said": {404: "nothing"}[error.code]}


def calls_itself(error: FeathersError) -> Any:
    return calls_itself(error)


@pytest.mark.parametrize("form", [looks_up, calls_itself, lambda error: object(), lambda error: error.data["a"]])
async def test_a_form_of_errors_that_fails_is_logged(form: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = Apex().configure(rest).use("plain", Gives(Conflict("Taken", {"secret": 1})), errors=form)
    response = await answer(app, "GET", "/plain")
    said = {"name": "Conflict", "message": "Taken", "code": 409, "className": "conflict"}
    assert (response.status_code, response.json()) == (409, said)
    assert "GET /plain failed, and its error has no body: Conflict('Taken')" in caplog.text
    assert (await answer(app, "PURGE", "/plain")).json()["code"] == 405


def test_a_form_of_errors_is_a_function() -> None:
    async def later(error: FeathersError) -> Any: ...

    for wrong in (later, "text", None):
        with pytest.raises(TypeError, match="Option errors of service 'plain' must be a 'def' function"):
            Apex().use("plain", Gives(None), errors=wrong)  # type: ignore[arg-type]


async def test_hooks_see_the_body_as_it_was_sent() -> None:
    seen: list[Any] = []
    app = app_of("gives", Gives([]), hooks={"before": {"all": [lambda context: seen.append(context.params.body)]}})
    await answer(app, "POST", "/gives", content=b'{"a":  1}')
    await answer(app, "GET", "/gives")
    assert seen == [b'{"a":  1}', None]


# Through a real server.


async def test_a_server_refuses_a_large_body_and_goes_on() -> None:
    async with serving(app_of("echo", Echo())) as client:
        response = await client.post("/echo", content=chunks(*[b"x" * 65_536] * 48))
        assert (response.status_code, response.json()["code"]) == (413, 413)
        assert (await client.post("/echo", json={"a": 1})).json() == {"data": {"a": 1}}


async def test_a_server_outlives_a_client_that_leaves_in_the_middle_of_a_body() -> None:
    app = app_of("echo", Echo())
    async with serving(app) as client:
        host, port = urlsplit(str(client.base_url)).hostname, urlsplit(str(client.base_url)).port
        for _ in range(20):
            _, writer = await asyncio.open_connection(host, port)
            writer.write(b'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"a":')
            await writer.drain()
            writer.transport.abort()
        assert (await client.get("/echo/1")).status_code == 200


async def test_a_server_gives_head_the_length_of_get() -> None:
    async with serving(messages()) as client:
        got, headed = await client.get("/messages"), await client.head("/messages")
        assert (headed.headers["content-length"], headed.content) == (str(len(got.content)), b"")
        assert (await client.get("/messages/0")).status_code == 200


async def test_a_server_keeps_encoded_slashes_in_ids() -> None:
    async with serving(app_of("echo", Echo())) as client:
        response = await client.get("/echo/a%20b%2Fc?x=1")
    assert response.json()["id"] == "a b/c"


async def test_a_server_sets_the_app_up_and_tears_it_down() -> None:
    seen: list[str] = []

    class Open(Echo):
        async def setup(self, app: Apex, path: str) -> None:
            seen.append(f"setup {path}")

        async def teardown(self, app: Apex, path: str) -> None:
            seen.append(f"teardown {path}")

    async with serving(app_of("echo", Open())):
        assert seen == ["setup echo"]
    assert seen == ["setup echo", "teardown echo"]


async def test_a_server_answers_many_at_once() -> None:
    async with serving(app_of("echo", Echo())) as client:
        answers = await asyncio.gather(*(client.post("/echo", json={"a": n}) for n in range(50)))
    assert [json.loads(answer.content) for answer in answers] == [{"data": {"a": n}} for n in range(50)]


@pytest.mark.parametrize("depth", [260, 400, 1_000, 10_000])
async def test_what_is_nested_too_deep_is_refused_and_not_stored(depth: int) -> None:
    app = Apex().use("messages", Messages()).configure(rest)
    body = b'{"x":' + b"[" * depth + b"]" * depth + b"}"
    response = await answer(app, "POST", "/messages", content=body)
    assert (response.status_code, response.json()["name"]) == (400, "BadRequest")
    assert (await answer(app, "GET", "/messages")).json()["total"] == 0


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775809", "1" + "0" * 30])
async def test_an_integer_of_more_than_64_bits_is_refused_by_its_field(number: str) -> None:
    app = Apex().use("messages", Messages()).configure(rest)
    response = await answer(app, "POST", "/messages", content=f'{{"size": {number}}}'.encode())
    assert response.json()["errors"] == {"size": "must not hold integers of more than 64 bits"}


@pytest.mark.parametrize("id", ["[1]", '{"a":1}'])
async def test_an_id_in_the_data_is_a_number_or_a_text(id: str) -> None:
    app = Apex().use("messages", Messages()).configure(rest)
    response = await answer(app, "POST", "/messages", content=f'{{"id": {id}}}'.encode())
    assert (response.status_code, list(response.json()["errors"])) == (400, ["id"])


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["apex.transports.rest"], "BODY_SECONDS", 0.01)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/messages", "query_string": b"", "headers": []}
    await Apex().use("messages", Messages()).configure(rest)(scope, receive, send)
    assert sent[0]["status"] == 408


async def test_an_empty_service_method_is_none() -> None:
    app = Apex().use("messages", Messages()).configure(rest)
    response = await answer(app, "POST", "/messages", content=b'{"text":"a"}', headers={"X-Service-Method": ""})
    assert response.status_code == 201


@pytest.mark.parametrize(("proxies", "mounts"), [(0, [None, None]), (1, [None, "/crm"])])
async def test_a_prefix_that_a_proxy_takes_off_is_the_mount_path(proxies: int, mounts: list[str | None]) -> None:
    class Mounted(Service):
        async def find(self, params: Params) -> Any:
            return {"mount": params.mount}

    async with calling(Apex({"proxies": proxies}).configure(rest).use("mounted", Mounted())) as http:
        headers: list[dict[str, str]] = [{}, {"x-forwarded-prefix": "/crm/"}]
        assert [(await http.get("/mounted", headers=one)).json()["mount"] for one in headers] == mounts
