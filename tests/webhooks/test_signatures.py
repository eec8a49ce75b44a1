"""Receivers check signatures with the libraries of Standard Webhooks, which know nothing of apex."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex.webhooks.signatures import new_secret, signed_headers
from tests.interop.node import needs_node, passes
from tests.webhooks.apps import ANN, add_notes, add_webhook, by, running, team_app
from tests.webhooks.receiver import receiving

standardwebhooks = pytest.importorskip("standardwebhooks")


async def test_a_message_is_verified_by_the_library_for_python(empty_url: str) -> None:
    async with receiving() as receiver, running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, receiver.url, "notes created")
        old = app.service("webhooks").service.secrets.decrypt
        rotated = await app.service("webhooks").rotate({"id": webhook["id"]}, by(ANN))
        await add_notes(app, "Hellö")
        [one] = await receiver.until(1)
        for secret in (rotated["secret"], old((await _row(app))["previous_secret"])):
            assert standardwebhooks.Webhook(secret).verify(one.body, one.headers)["data"]["text"] == "Hellö"
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(new_secret()).verify(one.body, one.headers)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(rotated["secret"]).verify(one.body + b" ", one.headers)


async def _row(app: object) -> dict[str, str]:
    from sqlalchemy import select

    from tests.webhooks.apps import webhooks

    rows: list[dict[str, str]] = await app.get("database").execute(select(webhooks))  # type: ignore[attr-defined]
    return rows[0]


@given(st.binary(), st.integers(0, 2**40))
def test_each_secret_has_its_own_signature(body: bytes, moment: int) -> None:
    secrets = [new_secret(), new_secret()]
    both = signed_headers("5", body, secrets, moment)["webhook-signature"].split()
    alone = [signed_headers("5", body, [secret], moment)["webhook-signature"] for secret in secrets]
    assert both == alone
    assert alone[0] != alone[1]


@needs_node
async def test_a_message_is_verified_by_the_library_for_node() -> None:
    secret, body = new_secret(), json.dumps({"type": "notes created", "data": {"text": "Hellö"}}).encode()
    import time

    headers = signed_headers("5", body, [new_secret(), secret], int(time.time()))
    await passes("webhooks.mjs", SECRET=secret, BODY=b64encode(body).decode(), HEADERS=json.dumps(headers))
