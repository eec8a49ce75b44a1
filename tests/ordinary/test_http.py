"""Errors in the form of HTTP (RFC 9110), by the transport, a hook, a service or a route."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from apex import Apex, Context, MemoryService, Params, batch, rest
from apex.common import disallow
from apex.errors import FeathersError, MethodNotAllowed
from tests.support.serving import calling

CLOSED: dict[str, Any] = {"before": {"patch": [disallow("external")], "find": [disallow("rest")]}}


class Orders(MemoryService):
    methods = ("get", "create", "ship")

    async def ship(self, data: Any, params: Params) -> Any:
        raise MethodNotAllowed("Nothing is shipped today")


def own_allow(context: Context) -> None:
    raise MethodNotAllowed("Not like this", headers={"allow": "GET"})


async def refuse(request: Request) -> Any:
    raise MethodNotAllowed("No") if "feathers" in request.url.path else HTTPException(405)


def site() -> Apex:
    routes = [Route("/feathers", refuse, methods=["GET", "PUT"]), Route("/starlette", refuse, methods=["POST"])]
    app = Apex().configure(lambda app: rest(app, routes=routes)).configure(batch)
    app.use("notes", MemoryService(), hooks=CLOSED)
    app.use("orders", Orders())
    app.use("own", MemoryService(), hooks={"before": {"get": [own_allow]}})
    return app.use("voiced", MemoryService(), hooks=CLOSED, errors=voiced)


def voiced(error: FeathersError) -> Any:
    return {"error": error.message}


ALLOWED = {
    "PATCH /notes/1": "GET, HEAD, POST, PUT, DELETE",
    "PATCH /voiced/1": "GET, HEAD, POST, PUT, DELETE",
    "GET /notes": "POST, PUT, PATCH, DELETE",
    "HEAD /notes": "POST, PUT, PATCH, DELETE",
    "DELETE /notes": "GET, HEAD, POST, PUT, PATCH",
    "BREW /notes": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "POST /orders ship": "POST",
    "POST /orders sink": "POST",
    "PUT /orders/1": "GET, HEAD, POST",
    "GET /orders": "POST",
    "GET /own/1": "GET",
    "GET /batch": "POST",
    "DELETE /feathers": "GET, HEAD, PUT",
    "PUT /feathers": "GET, HEAD",
    "POST /starlette": "",
    "GET /starlette": "POST",
}


@pytest.mark.parametrize("request_line", ALLOWED)
async def test_every_405_says_what_is_allowed(request_line: str) -> None:
    verb, path, *custom = request_line.split()
    headers = {"x-service-method": custom[0]} if custom else {}
    async with calling(site()) as client:
        response = await client.request(verb, path, headers=headers, json={} if verb in ("POST", "PATCH") else None)
    allowed = response.headers["allow"].split(", ")
    assert (response.status_code, sorted(allowed)) == (405, sorted(ALLOWED[request_line].split(", ")))


@pytest.mark.parametrize("path", ["/notes", "/orders", "/batch", "/voiced"])
@pytest.mark.parametrize("custom", ["", "ship"])
async def test_a_body_that_is_not_json_is_415(path: str, custom: str) -> None:
    async with calling(site()) as client:
        for named in ("text/plain", "text/plain; note=json", "application/x-www-form-urlencoded", "application/jsonp"):
            headers = {"content-type": named, **({"x-service-method": custom} if custom and path == "/orders" else {})}
            response = await client.post(path, content='{"a": 1}', headers=headers)
            assert (response.status_code, response.headers["accept"]) == (415, "application/json")
            assert set(response.json()) == (
                {"error"} if path == "/voiced" else {"name", "message", "code", "className"}
            )
        packed = await client.post(path, content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
        assert (packed.status_code, packed.headers["accept-encoding"]) == (415, "identity")


@pytest.mark.parametrize("named", ["application/json", "Application/JSON ; charset=utf-8", "application/x+json", ""])
async def test_json_has_several_names(named: str) -> None:
    async with calling(site()) as client:
        response = await client.post("/notes", content='{"a": 1}', headers={"content-type": named} if named else {})
        assert response.status_code == 201
