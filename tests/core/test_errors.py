"""The error family, as clients rebuild it."""

from __future__ import annotations

from typing import Any

import pytest

from apex import errors
from apex.encoding import decode, encode
from apex.errors import BadRequest, Conflict, FeathersError, NotFound, OutcomeUnknown, PayloadTooLarge, Unavailable

FAMILY = {
    "BadRequest": (400, "bad-request"),
    "NotAuthenticated": (401, "not-authenticated"),
    "PaymentError": (402, "payment-error"),
    "Forbidden": (403, "forbidden"),
    "NotFound": (404, "not-found"),
    "MethodNotAllowed": (405, "method-not-allowed"),
    "NotAcceptable": (406, "not-acceptable"),
    "Timeout": (408, "timeout"),
    "Conflict": (409, "conflict"),
    "Gone": (410, "gone"),
    "LengthRequired": (411, "length-required"),
    "Unprocessable": (422, "unprocessable"),
    "TooManyRequests": (429, "too-many-requests"),
    "GeneralError": (500, "general-error"),
    "NotImplemented": (501, "not-implemented"),
    "BadGateway": (502, "bad-gateway"),
    "Unavailable": (503, "unavailable"),
}


@pytest.mark.parametrize("name", FAMILY)
def test_each_error_has_its_name_code_and_class_name(name: str) -> None:
    code, class_name = FAMILY[name]
    error = getattr(errors, name)("Oops")
    assert isinstance(error, FeathersError)
    assert error.to_dict() == {"name": name, "message": "Oops", "code": code, "className": class_name}


def test_the_family_has_no_other_members() -> None:
    assert {cls.__name__ for cls in FeathersError.__subclasses__() if cls.__module__ == "apex.errors"} == set(FAMILY)


def test_too_large_is_a_bad_request_that_answers_413() -> None:
    assert PayloadTooLarge("Big").to_dict() == {
        "name": "BadRequest", "message": "Big", "code": 413, "className": "bad-request",
    }  # fmt: skip


def test_an_error_without_a_message_says_error() -> None:
    for error in (NotFound(), NotFound(None), NotFound("")):
        assert error.to_dict()["message"] == "Error"


def test_errors_are_lifted_out_of_the_data() -> None:
    error = BadRequest("Wrong", {"foo": 1, "errors": {"a": "is wrong"}})
    assert (error.data, error.errors) == ({"foo": 1}, {"a": "is wrong"})
    assert BadRequest("Wrong", {"errors": {"a": "x"}}).to_dict()["data"] == {}


def test_a_message_in_the_data_wins() -> None:
    error = BadRequest("First", {"message": "Second", "a": 1})
    assert (error.message, error.data) == ("Second", {"a": 1})


def test_data_may_be_any_json_value() -> None:
    data: Any
    for data in ([1, 2], "text", 0, False, {}):
        assert BadRequest("Wrong", data).to_dict()["data"] == data


def test_errors_may_be_any_json_value() -> None:
    for found in (["one", "two"], "text", {"a": {"b": 1}}):
        assert BadRequest("Wrong", {"errors": found}).to_dict()["errors"] == found


def test_a_mapping_alone_holds_message_errors_and_data() -> None:
    error = Conflict({"message": "Taken", "errors": {"a": "is taken"}, "foo": 1})
    assert (error.message, error.errors, error.data) == ("Taken", {"a": "is taken"}, {"foo": 1})


def test_another_error_hands_on_what_it_has() -> None:
    error = NotFound(BadRequest("Wrong", {"a": 1}, errors={"b": "is wrong"}))
    assert (error.code, error.message, error.data, error.errors) == (404, "Wrong", {"a": 1}, {"b": "is wrong"})
    assert NotFound(ValueError("Oops")).message == "Oops"


def test_what_is_given_is_not_changed() -> None:
    data = {"message": "m", "errors": {"a": "x"}, "foo": 1}
    BadRequest(data)
    BadRequest("Wrong", data)
    assert data == {"message": "m", "errors": {"a": "x"}, "foo": 1}


def test_the_wire_form_is_json_in_the_order_of_feathers() -> None:
    text = encode(BadRequest("Wrong", {"a": 1}, errors={"b": "x"}).to_dict())
    assert list(decode(text)) == ["name", "message", "code", "className", "data", "errors"]


def test_unavailable_says_when_to_try_again() -> None:
    assert Unavailable("Busy").headers == {"Retry-After": "1"}
    assert Unavailable("Busy", retry_after=30).headers == {"Retry-After": "30"}
    assert Unavailable("Busy", headers={"Retry-After": "7"}).headers == {"Retry-After": "7"}
    assert OutcomeUnknown("Lost").headers == {}
    assert OutcomeUnknown("Lost").to_dict()["name"] == "Unavailable"


def test_an_error_of_ones_own_has_its_own_name() -> None:
    class OutOfStock(FeathersError):
        code = 409

    assert OutOfStock("None left").to_dict() == {
        "name": "OutOfStock", "message": "None left", "code": 409, "className": "out-of-stock",
    }  # fmt: skip


def test_an_error_derived_from_a_known_one_keeps_the_name_that_clients_know() -> None:
    class EmailTaken(Conflict):
        pass

    assert EmailTaken("Taken").to_dict()["name"] == "Conflict"
