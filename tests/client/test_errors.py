"""Tests of the errors of a server, as the caller gets them."""

from __future__ import annotations

from typing import Any

import pytest

from apex import errors
from apex.client.errors import rebuild
from apex.errors import BY_CODE, BadRequest, Conflict, FeathersError, GeneralError, PayloadTooLarge


@pytest.mark.parametrize("cls", [*BY_CODE.values(), PayloadTooLarge])
def test_an_error_is_rebuilt_with_its_class(cls: type[FeathersError]) -> None:
    error = cls("Not so", {"field": 1, "deep": [None]}, errors={"name": "is required"})
    again = rebuild(error.to_dict())
    assert type(again) is cls
    assert again.to_dict() == error.to_dict()
    assert str(again) == "Not so"


@pytest.mark.parametrize(
    ("body", "status", "cls", "message", "code"),
    [
        ({"name": "Teapot", "message": "Short", "code": 418}, 418, FeathersError, "Short", 418),
        ({"name": "Conflict", "message": "Twice", "code": 4091}, 409, Conflict, "Twice", 4091),
        ({"name": "Error", "message": "Oh", "stack": "x"}, 500, GeneralError, "Oh", 500),
        ({"detail": "nothing of ours"}, 400, BadRequest, "Error 400", 400),
        ("a text", 500, GeneralError, "a text", 500),
        (None, 503, errors.Unavailable, "Error 503", 503),
        ([1], 400, BadRequest, "[1]", 400),
    ],
)
def test_any_error_body_is_one_of_the_family(
    body: Any, status: int, cls: type[FeathersError], message: str, code: int
) -> None:
    error = rebuild(body, status)
    assert (type(error), error.message, error.code) == (cls, message, code)


def test_an_error_keeps_the_name_the_server_gave_it() -> None:
    body = {"name": "Teapot", "message": "Short", "code": 418, "className": "teapot"}
    assert rebuild(body).to_dict() == body


def test_an_errors_data_is_left_as_it_is() -> None:
    data = {"message": "inner", "errors": {"a": 1}}
    assert rebuild({"name": "BadRequest", "message": "outer", "code": 400, "data": data}).data == data
