"""The life of a project that ``apex new`` writes, outside of the checkout and served by ``apex serve``."""

from __future__ import annotations

import asyncio
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import pytest

from apex.client import Client, socketio
from tests.process.commands import apex_here_for, apex_here_in, server_in
from tests.support.waiting import SECONDS

ANN = {"email": "Ann@Example.com", "password": "correct horse"}


@pytest.fixture
def project(tmp_path: Path, empty_url: str) -> Path:
    folder = tmp_path / "blog"
    made = apex_here_in(tmp_path, "new", "blog"), apex_here_in(folder, "generate", "service", "notes")
    for done in (*made, apex_here_for(folder, "migrate", DATABASE_URL=empty_url)):
        assert (done.returncode, done.stderr) == (0, "")
    return folder


def log_in(http: httpx2.Client, user: dict[str, str]) -> httpx2.Response:
    """Log in, and send the token with all further requests."""
    response = http.post("/authentication", json={"strategy": "local", **user})
    if response.status_code == 201:
        http.headers["Authorization"] = f"Bearer {response.json()['accessToken']}"
    return response


def test_what_a_user_does_survives_a_restart(project: Path, empty_url: str) -> None:
    assert apex_here_for(project, "check", DATABASE_URL=empty_url).stdout == "Nothing is wrong.\n"
    new = {**ANN, "password": "battery staple"}
    with (
        server_in(project, "serve", DATABASE_URL=empty_url) as (process, url),
        httpx2.Client(base_url=url, timeout=SECONDS) as http,
    ):
        assert http.post("/users", json=ANN).json() == {"id": 1, "email": "ann@example.com"}
        assert log_in(http, ANN).status_code == 201
        message = http.post("/messages", json={"text": "Hello"}).json()
        assert http.patch("/messages/1", json={"text": "Bye"}).json() == {**message, "text": "Bye"}
        stolen = http.headers["Authorization"]
        assert http.patch("/users/1", json={"password": new["password"]}).status_code == 200
        assert log_in(http, ANN).status_code == 401
        log_in(http, new)
        left = http.headers["Authorization"]
        assert http.delete("/authentication").status_code == 200
        process.terminate()
        assert process.wait(SECONDS) == 0
    with (
        server_in(project, "serve", DATABASE_URL=empty_url) as (_, url),
        httpx2.Client(base_url=url, timeout=SECONDS) as http,
    ):
        for token in (stolen, left):
            assert http.get("/messages", headers={"Authorization": token}).status_code == 401
        assert log_in(http, new).status_code == 201
        assert [message["text"] for message in http.get("/messages").json()["data"]] == ["Bye"]


BODIES: list[Any] = [[], [{}], [{"text": "a", "name": "a"}], {"text": 1, "name": {}}, {"id": 7, "text": None}]
REQUESTS = (("POST", ""), ("PATCH", ""), ("PATCH", "/1"), ("PUT", "/1"))
QUERIES = ("id[$in]=x", "id[$gt]=", "$select=nope", "$sort[nope]=1", "a[b][c]=1", "$or=1", "nope=1")


def test_what_is_wrong_is_refused_and_stores_nothing(project: Path, empty_url: str) -> None:
    with (
        server_in(project, "serve", DATABASE_URL=empty_url) as (process, url),
        httpx2.Client(base_url=url, timeout=SECONDS) as http,
    ):
        http.post("/users", json=ANN)
        log_in(http, ANN)
        for path, body, (method, suffix) in product(("users", "messages", "notes"), BODIES, REQUESTS):
            response = http.request(method, f"/{path}{suffix}", json=body)
            assert response.status_code in (400, 404, 405), (method, path, body, response.text)
        for path, query in product(("messages", "notes"), QUERIES):
            assert http.get(f"/{path}?{query}").status_code == 400, (path, query)
        assert http.get("/notes").json()["total"] == http.get("/messages").json()["total"] == 0
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_a_socket_hears_what_others_write_and_ends_with_its_user(project: Path, empty_url: str) -> None:
    async def hear(url: str) -> None:
        heard, gone = asyncio.Queue[str](), asyncio.Event()
        async with Client(socketio(url)) as ann, Client(socketio(url)) as bob:
            for client, name in ((ann, "ann"), (bob, "bob")):
                user = {"email": f"{name}@example.com", "password": ANN["password"]}
                await client.service("users").create(user)
                await client.authenticate(strategy="local", **user)
            bob.service("messages").on("created", lambda message: heard.put_nowait(message["text"]))
            await ann.service("messages").create({"text": "Hello"})
            assert heard.get_nowait() == "Hello"
            bob.on("disconnect", lambda *_: gone.set())
            await bob.service("users").remove(2)
            async with asyncio.timeout(SECONDS):
                await gone.wait()

    with server_in(project, "serve", DATABASE_URL=empty_url) as (_, url):
        asyncio.run(hear(url))
