"""The slowest inputs of a megabyte for searches, files, custom fields and the AgentVoice API."""

from __future__ import annotations

import json
from typing import Any

from tests.security.test_worst_input import MEGABYTE, Timed, numbered, repeated
from tests.services.agentvoice.voice import PROOF
from tests.services.crm import Crm
from tests.services.fixtures import SHARED

pytestmark = SHARED

SIZE = MEGABYTE - 1_000
OURS = {"organization_id": 456}
FIELDS = ("first_name", "email", "phone", "phone_country_iso", "phone_country_code", "custom_fields_by_name")


Asked = dict[str, tuple[str, Any, dict[str, str]]]


async def slow_ones(crm: Crm, requests: Asked) -> dict[str, int]:
    timed = Timed()
    for name, (request, data, headers) in requests.items():
        with timed.reading(name):
            response = await crm.send(request, data, None if "x-api-key" in headers else 789, headers)
        assert 400 <= response.status_code < 500, (name, response.text[:200])
    return timed.slow


async def test_contacts(shared: Crm) -> None:
    long: dict[str, Any] = {f"a long {name}": {name: repeated("+1a@", SIZE)} for name in FIELDS}
    custom = json.loads("{" + numbered('"fiel#":1', ",", SIZE) + "}")
    bodies = long | {"custom fields": {"custom_fields_by_name": custom}, "fields": custom}
    requests: Asked = {name: ("POST /contacts", {**OURS, **body}, {}) for name, body in bodies.items()}
    assert not await slow_ones(shared, requests)


async def test_searches_and_files(shared: Crm) -> None:
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "a term": ("search", {"searchTerm": repeated("é", SIZE // 2), "searchIn": "name"}),
        "digits": ("search", {"searchTerm": repeated("1", SIZE), "searchIn": "phone"}),
        "columns": ("import", {"format": "csv", "text": numbered("first_nam#", ",", SIZE)}),
        "the same columns": ("import", {"format": "csv", "text": repeated("first_name,", SIZE)}),
        "a key": ("import", {"upsert": repeated("a", SIZE), "rows": []}),
    }
    requests: Asked = {
        name: ("POST /contacts", {**OURS, **data}, {"x-service-method": method})
        for name, (method, data) in asked.items()
    }
    assert not await slow_ones(shared, requests)


async def test_agentvoice(shared: Crm) -> None:
    bodies = {
        "a phone": {"first_name": "Jo", "phone": "+" + repeated("1", SIZE)},
        "an e-mail": {"first_name": "Jo", "email": repeated("a.", SIZE) + "@example.com"},
        "fields": json.loads("{" + numbered('"first_nam#":1', ",", SIZE) + "}"),
    }
    requests: Asked = {name: ("POST /api/contacts", body, PROOF) for name, body in bodies.items()}
    assert not await slow_ones(shared, requests)
