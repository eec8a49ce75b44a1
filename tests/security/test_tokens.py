"""Invalid tokens: the answer is 401, and no statement runs."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt
import pytest

from tests.services.crm import LIST, SEARCH, Crm, refused
from tests.services.fixtures import SHARED

pytestmark = SHARED

REQUESTS = ("GET /contacts/123", "DELETE /contacts/123", "GET /companies/101", "GET /organizations", LIST)


def claims(crm: Crm, **changed: Any) -> dict[str, Any]:
    good = jwt.decode(crm.token(789), options={"verify_signature": False})
    return {name: value for name, value in (good | changed).items() if value is not ...}


def signed(crm: Crm, header: Mapping[str, Any] | None = None, secret: str = "", **changed: Any) -> str:
    """Return a token like those of the CRM with some changes."""
    key = secret or crm.app.get("authentication")["secret"]
    header = {"typ": "access"} | dict(header or {})
    return jwt.encode(claims(crm, **changed), key, header.get("alg", "HS256"), header)


def unsigned(crm: Crm, algorithm: str) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': algorithm, 'typ': 'access'})}.{part(claims(crm))}."


def tampered(crm: Crm) -> str:
    """Return a token with the claims of user 789 and the signature of user 791's token."""
    mine, others = crm.token(791).split("."), crm.token(789).split(".")
    return ".".join([others[0], others[1], mine[2]])


TOKENS: dict[str, Callable[[Crm], str]] = {
    "expired": lambda crm: signed(crm, exp=int(time.time()) - 1),
    "without an end": lambda crm: signed(crm, exp=...),
    "not yet": lambda crm: signed(crm, nbf=int(time.time()) + 3600),
    "issued in the future": lambda crm: signed(crm, iat=int(time.time()) + 3600),
    "another secret": lambda crm: signed(crm, secret="x" * 32),
    "another algorithm": lambda crm: signed(crm, {"alg": "HS512"}, "x" * 64),
    "tampered": tampered,
    "alg none": lambda crm: unsigned(crm, "none"),
    "alg NoNe": lambda crm: unsigned(crm, "NoNe"),
    "alg missing": lambda crm: unsigned(crm, ""),
    "another audience": lambda crm: signed(crm, aud="https://example.com"),
    "no audience": lambda crm: signed(crm, aud=...),
    "another issuer": lambda crm: signed(crm, iss="ape"),
    "another type": lambda crm: signed(crm, {"typ": "refresh"}),
    "no subject": lambda crm: signed(crm, sub=...),
    "no token id": lambda crm: signed(crm, jti=...),
    "cut": lambda crm: crm.token(789)[:-5],
    "empty": lambda crm: "",
    "dots": lambda crm: "..",
    "garbage": lambda crm: "x.y.z",
    "huge": lambda crm: "a" * 100_000,
    "two tokens": lambda crm: f"{crm.token(789)}, Bearer {crm.token(789)}",
}


@pytest.mark.parametrize("make", TOKENS.values(), ids=TOKENS)
async def test_a_token_that_proves_nothing(shared: Crm, make: Callable[[Crm], str]) -> None:
    headers = {"authorization": f"Bearer {make(shared)}"}
    shared.statements.clear()
    for request in REQUESTS:
        refused(await shared.call(request, user=None, headers=headers), 401)
    refused(await shared.call("POST /contacts", {"searchTerm": "jo"}, user=None, headers=headers | SEARCH), 401)
    assert shared.statements == []


@pytest.mark.parametrize("header", [{}, {"authorization": ""}, {"authorization": "Basic YWRtaW46eA=="}], ids=repr)
async def test_no_token(shared: Crm, header: dict[str, str]) -> None:
    shared.statements.clear()
    for request in (*REQUESTS, "POST /contacts", "PATCH /contacts/123"):
        data = {"first_name": 5} if request.startswith("P") else None
        assert refused(await shared.call(request, data, user=None, headers=header), 401)["name"] == "NotAuthenticated"
    assert shared.statements == []


@pytest.mark.parametrize("subject", ["", "abc", "789abc", "7.89e2", "9999999999999999999", "-1", "0", "None"])
async def test_a_subject_that_no_user_has(shared: Crm, subject: str) -> None:
    headers = {"authorization": f"Bearer {signed(shared, sub=subject)}"}
    for request in REQUESTS:
        refused(await shared.call(request, user=None, headers=headers), 401)


@pytest.mark.parametrize("place", ["access_token", "accessToken", "token", "authentication[accessToken]"])
async def test_a_token_in_the_url_is_no_proof(shared: Crm, place: str) -> None:
    refused(await shared.call(f"{LIST}&{place}={shared.token(789)}", user=None), 401)


async def test_headers_and_bodies_cannot_pretend_to_be_the_server(shared: Crm) -> None:
    data = {"query": {"organization_id": 456}, "provider": "", "authenticated": True, "user": {"id": 789}}
    headers = {"x-feathers-provider": "", "x-user-id": "789"}
    refused(await shared.call("GET /contacts", data, user=None, headers=headers), 401)
    refused(await shared.call(f"{LIST}&authenticated=true", user=None), 401)
