"""HTTP itself: CORS, request ids and entity tags."""

from __future__ import annotations

import re
from typing import Any

import pytest
from httpx2 import Response

from apex import Apex, MemoryService, Params, Service, rest
from apex.transports.http import is_among, tag_of
from tests.support.serving import calling, serving

ASKED = "authorization,content-type,x-service-method"
MINE = tag_of(b"mine")
PREFLIGHT = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": ASKED}


async def answer(origins: list[str] | None, method: str, url: str = "/notes", **options: Any) -> Response:
    async with calling(
        Apex({"origins": origins, "bodyLimit": 10}).configure(rest).use("notes", MemoryService())
    ) as client:
        return await client.request(method, url, **options)


def cors(response: Response) -> dict[str, str]:
    prefix = "access-control-"
    return {name.removeprefix(prefix): value for name, value in response.headers.items() if name.startswith(prefix)}


async def test_a_preflight_is_answered_as_feathers_does() -> None:
    response = await answer(None, "OPTIONS", headers={"Origin": "https://a.example", **PREFLIGHT})
    assert (response.status_code, response.content) == (204, b"")
    assert cors(response) == {
        "allow-origin": "*",
        "allow-methods": "GET,HEAD,PUT,POST,DELETE,PATCH",
        "allow-headers": ASKED,
    }
    assert response.headers["vary"] == "Origin"


async def test_a_preflight_that_asks_for_no_headers_is_told_of_none() -> None:
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    assert "allow-headers" not in cors(await answer(None, "OPTIONS", headers=headers))


@pytest.mark.parametrize("url", ["/notes", "/notes/1", "/nope"])
async def test_a_preflight_is_answered_on_every_path(url: str) -> None:
    response = await answer(None, "OPTIONS", url, headers={"Origin": "https://a.example", **PREFLIGHT})
    assert response.status_code == 204


@pytest.mark.parametrize("headers", [{}, PREFLIGHT, {"Origin": "https://a.example"}])
async def test_options_that_is_no_preflight_is_405(headers: dict[str, str]) -> None:
    response = await answer(None, "OPTIONS", headers=headers)
    assert (response.status_code, response.json()["message"]) == (405, "Method OPTIONS not allowed")


@pytest.mark.parametrize(
    ("method", "url", "content", "status"),
    [("GET", "/notes", None, 200), ("GET", "/nope", None, 404), ("POST", "/notes", b"{" * 11, 413)],
)
async def test_every_response_says_who_may_read_it(method: str, url: str, content: Any, status: int) -> None:
    response = await answer(None, method, url, content=content, headers={"Origin": "https://a.example"})
    assert (response.status_code, cors(response)) == (status, {"allow-origin": "*", "expose-headers": "*"})
    assert (response.headers["vary"], response.headers["x-content-type-options"]) == ("Origin", "nosniff")


async def test_a_listed_origin_is_named() -> None:
    response = await answer(["https://a.example", "https://b.example"], "GET", headers={"Origin": "https://b.example"})
    named = {"allow-origin": "https://b.example", "expose-headers": "*"}
    assert (cors(response), response.headers["vary"]) == (named, "Origin")


@pytest.mark.parametrize(
    "origin", ["https://b.example", "http://a.example", "https://a.example:8443", "https://a.example.evil", "null", ""]
)
async def test_an_origin_that_is_not_listed_is_not_allowed(origin: str) -> None:
    response = await answer(["https://a.example"], "GET", headers={"Origin": origin})
    assert (response.status_code, cors(response)) == (200, {})
    preflight = await answer(["https://a.example"], "OPTIONS", headers={"Origin": origin, **PREFLIGHT})
    assert "allow-origin" not in cors(preflight)


async def test_credentials_are_never_allowed() -> None:
    for origins in (["*"], ["https://a.example"]):
        response = await answer(origins, "OPTIONS", headers={"Origin": "https://a.example", **PREFLIGHT})
        assert "allow-credentials" not in cors(response)


async def test_a_server_answers_preflights() -> None:
    async with serving(Apex().configure(rest).use("notes", MemoryService())) as client:
        response = await client.options("/notes", headers={"Origin": "https://a.example", **PREFLIGHT})
        assert (response.status_code, cors(response)["allow-headers"]) == (204, ASKED)
        assert (await client.get("/notes")).status_code == 200


class Headers(Service):
    async def find(self, params: Params) -> Any:
        return params.headers["x-request-id"]


async def request_id(*given: str) -> tuple[str, str]:
    """The request id that a service is told, and that of the response."""
    async with calling(Apex().configure(rest).use("headers", Headers())) as client:
        response = await client.get("/headers", headers=[("X-Request-Id", value) for value in given])
        return response.json(), response.headers["x-request-id"]


@pytest.mark.parametrize("given", ["a", "Order-12_b.3", "x" * 128])
async def test_a_request_keeps_the_id_it_came_with(given: str) -> None:
    assert await request_id(given) == (given, given)


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "a%20b", 'a"', "<script>", "a,b"])
async def test_an_id_that_is_not_plain_is_replaced(given: str) -> None:
    told, answered = await request_id(given)
    assert told == answered != given
    assert re.fullmatch("[0-9a-f]{32}", told)


async def test_of_several_ids_one_counts() -> None:
    told, answered = await request_id("one", "two")
    assert told == answered == "two"


async def test_each_request_without_an_id_gets_its_own() -> None:
    assert (await request_id())[0] != (await request_id())[0]


@pytest.mark.parametrize(
    ("method", "url", "status"), [("GET", "/nope", 404), ("OPTIONS", "/notes", 405), ("POST", "/notes", 413)]
)
async def test_an_error_has_the_id_too(method: str, url: str, status: int) -> None:
    response = await answer(None, method, url, headers={"X-Request-Id": "mine"}, content=b"{" * 11)
    assert (response.status_code, response.headers["x-request-id"]) == (status, "mine")


def test_a_body_has_its_own_tag() -> None:
    assert MINE == tag_of(b"mine") != tag_of(b"other")


@pytest.mark.parametrize("header", ["*", " * ", MINE, f"W/{MINE}", f'"a", {MINE}', f'"a,b",W/"c" ,  {MINE}'])
def test_a_tag_is_found_in_a_list(header: str) -> None:
    assert is_among(MINE, header)


@pytest.mark.parametrize("header", ["", '""', MINE[1:], MINE[:-1], MINE.strip('"'), '"a", "b"', "**"])
def test_another_one_is_not(header: str) -> None:
    assert not is_among(MINE, header)
