"""Services that cannot work and are refused when they are registered."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, AuthenticationService, JWTStrategy, MemoryService, Params, SQLService, authenticate
from apex.common import iff

USERS = Table("users", MetaData(), Column("id", Integer, primary_key=True), Column("password", String(200)))


def test_a_class_is_no_service() -> None:
    with pytest.raises(
        TypeError, match=r"Service 'notes' is a class: register an object of it, as in MemoryService\(\)"
    ):
        Apex().use("notes", MemoryService)


@pytest.mark.parametrize(
    ("method", "arguments"), [("find", "params"), ("get", "id, params"), ("shout", "data, params")]
)
def test_a_method_takes_what_it_is_called_with(method: str, arguments: str) -> None:
    async def lacking(self: Any) -> None: ...

    async def wanting(self: Any, id: Any, data: Any, params: Params, more: Any) -> None: ...

    for function in (lacking, wanting):
        with pytest.raises(TypeError, match=rf"Method '{method}' of service 'notes' must take \({arguments}\)"):
            Apex().use("notes", type("Notes", (), {method: function})(), methods=[method])


@pytest.mark.parametrize("option", ["operators", "private", "merge"])
def test_a_text_is_no_list_of_names(option: str) -> None:
    options: Any = {option: "password"}
    with pytest.raises(TypeError, match=rf"{option} takes a list of names such as \['password'\], not 'password'"):
        SQLService(USERS, **options)


async def test_a_misspelled_strategy_is_refused_when_the_app_starts() -> None:
    app = Apex({"authentication": {"secret": "x" * 32, "entity": None}})
    authentication = AuthenticationService(app)
    authentication.register("jwt", JWTStrategy(authentication))
    hooks = {"before": {"all": [iff(True, authenticate("jwtt"))]}}
    app.use("authentication", authentication).use("notes", MemoryService(), hooks=hooks)
    with pytest.raises(ValueError, match=r"'notes' names the strategy 'jwtt'\. Did you mean 'jwt'\?"):
        await app.setup()


def test_a_listener_of_a_misspelled_event_is_refused() -> None:
    notes = Apex().use("notes", MemoryService(), events=["rated"]).service("notes")
    for add in (notes.on, notes.once):
        with pytest.raises(ValueError, match=r"'creatd' is not an event of 'notes'\. Did you mean 'created'\?"):
            add("creatd", print)
    for event in ("created", "rated", "archived"):
        notes.on(event, print)
