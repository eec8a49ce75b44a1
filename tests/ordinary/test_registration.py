"""Services that cannot work, which are refused when they are registered."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, MemoryService, Params, SQLService

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
