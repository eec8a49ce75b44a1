"""Fixtures: the app with a new database, clients of two users, and a project that Ann owns."""

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient

from apex import Apex, load_config
from apex.testing import new_database
from services.app import CONFIG, create_app

ANN = {"email": "ann@example.com", "name": "Ann", "password": "correct horse"}
BOB = {"email": "bob@example.com", "name": "Bob", "password": "battery staple"}


def client_of(app: Apex) -> AsyncClient:
    """Return a client that calls the app without a server."""
    return AsyncClient(transport=ASGITransport(app), base_url="http://test")


@pytest.fixture
async def app() -> AsyncIterator[Apex]:
    url = new_database(os.environ.get("TEST_DATABASE_URL", "sqlite:///var/test.db"))
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": url}))
    async with app.lifespan():
        yield app


@pytest.fixture
async def ann(app: Apex) -> AsyncIterator[AsyncClient]:
    async with client_of(app) as client:
        yield await logged_in(client, ANN)


@pytest.fixture
async def bob(app: Apex) -> AsyncIterator[AsyncClient]:
    async with client_of(app) as client:
        yield await logged_in(client, BOB)


@pytest.fixture
async def project(ann: AsyncClient) -> dict[str, Any]:
    """Return a project of Ann with the labels "bug" and "idea"."""
    created = await ann.post("/projects", json={"key": "APX", "name": "apex"})
    for name in ("bug", "idea"):
        await ann.post("/labels", json={"project_id": created.json()["id"], "name": name})
    found = await ann.get(f"/projects/{created.json()['id']}?$populate=labels,members")
    project: dict[str, Any] = found.json()
    return project


async def logged_in(client: AsyncClient, user: dict[str, str]) -> AsyncClient:
    """Sign up a user, log in, and return the client with the token."""
    assert (await client.post("/users", json=user)).status_code == 201
    proof = {"strategy": "local", "email": user["email"], "password": user["password"]}
    response = await client.post("/authentication", json=proof)
    client.headers["Authorization"] = f"Bearer {response.json()['accessToken']}"
    return client
