"""Webhooks that are signed are taken once, from their sender, and just now."""

from __future__ import annotations

import time
from asyncio import gather
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
from sqlalchemy import MetaData, select

from apex import Apex, batch, database, rest
from apex.common.webhooks import SignedWebhooks, sign, signatures_table
from apex.context import Context
from apex.errors import BadRequest
from apex.hooks import run_before

SECRET, BODY = "a secret", b'{"a": 1}'
SEEN = signatures_table(MetaData())
ERRORS = {"refused": BadRequest, "fails": ValueError}


class Webhook:
    multi = True

    async def create(self, data: Any, params: Any) -> Any:
        if data["a"] in ERRORS:
            raise ERRORS[data["a"]]
        return {"taken": data}


@asynccontextmanager
async def taking(url: str, secret: str | None = SECRET) -> AsyncIterator[httpx2.AsyncClient]:
    async def secret_of(context: Context) -> str | None:
        return secret

    signed = SignedWebhooks(SEEN, secret_of)
    app = Apex().configure(database(url)).configure(rest).configure(batch)
    app.use("webhook", Webhook(), hooks={"around": {"create": [run_before(signed.verify), signed.once]}})
    await app.setup()
    try:
        await app.get("database").create_all(SEEN.metadata)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://app") as http:
            http.app = app  # type: ignore[attr-defined]
            yield http
    finally:
        await app.teardown()


async def status(http: httpx2.AsyncClient, signature: str | None, body: bytes = BODY) -> int:
    headers = {"content-type": "application/json"}
    headers |= {} if signature is None else {"x-webhook-signature": signature}
    return (await http.post("/webhook", content=body, headers=headers)).status_code


async def test_what_is_signed_is_taken_once(empty_url: str) -> None:
    signature = sign(SECRET, BODY)
    async with taking(empty_url) as http, taking(empty_url) as other:
        answers = await gather(*(status(one, signature) for one in (http, other) * 10))
        assert Counter(answers) == {201: 1, 401: 19}
        assert [await status(http, sign(SECRET, BODY)) for _ in range(3)] == [201] * 3
    async with taking(empty_url) as restarted:
        assert await status(restarted, signature) == 401


def wrong_signatures() -> list[str | None]:
    now, right = time.time(), sign(SECRET, BODY)
    return [
        None, "", "x", sign("another", BODY), sign(SECRET, BODY + b" "), sign(SECRET, b""), right[:-1],
        right.replace("t=", "t=1"), right.replace(",v1=", ",v1=" + "0" * 64), right.replace("v1", "v0"), right.upper(),
        "t=1,v1=" + "0" * 64 * 9, sign(SECRET, BODY, now - 2_000), sign(SECRET, BODY, now + 2_000),
        sign(SECRET, BODY, 0), right + "," + right,
    ]  # fmt: skip


async def test_what_is_signed_wrongly_or_at_another_time_is_refused(sqlite_url: str) -> None:
    async with taking(sqlite_url) as http:
        wrong = wrong_signatures()
        assert [await status(http, signature) for signature in wrong] == [401] * len(wrong)
        assert await http.app.get("database").execute(select(SEEN)) == []  # type: ignore[attr-defined]


async def test_clocks_may_differ_and_secrets_be_replaced(sqlite_url: str) -> None:
    async with taking(sqlite_url) as http:
        for moment in (time.time() - 299, time.time() + 299, int(time.time())):
            assert await status(http, sign(SECRET, BODY, moment)) == 201
        moment = time.time()
        both = sign("new", BODY, moment) + "," + sign(SECRET, BODY, moment).partition(",")[2]
        assert [await status(http, both), await status(http, sign(SECRET, BODY, moment))] == [201, 401]


async def test_what_is_refused_may_be_sent_again_as_it_is(empty_url: str) -> None:
    refused, fails = b'{"a": "refused"}', b'{"a": "fails"}'
    async with taking(empty_url) as http:
        signature = sign(SECRET, refused)
        assert [await status(http, signature, refused) for _ in range(2)] == [400] * 2
        signature = sign(SECRET, fails)  # It may have been stored.
        assert [await status(http, signature, fails) for _ in range(2)] == [500, 401]


async def test_a_call_of_a_batch_is_signed_by_nobody(sqlite_url: str) -> None:
    calls: Any = {"calls": [["create", "webhook", {"a": 1}]]}
    async with taking(sqlite_url) as http:
        for body in (b"", BODY):
            answer = await http.post("/batch", json=calls, headers={"x-webhook-signature": sign(SECRET, body)})
            assert answer.json()[0]["reason"]["message"] == "A signed webhook must be a request of its own"
        assert await http.app.service("webhook").create({"a": 1}) == {"taken": {"a": 1}}  # type: ignore[attr-defined]


async def test_without_a_secret_nothing_is_signed(sqlite_url: str) -> None:
    async with taking(sqlite_url, None) as http:
        assert await status(http, None) == 201


async def test_signatures_that_are_too_old_are_forgotten(empty_url: str) -> None:
    async with taking(empty_url) as http:
        own = http.app.get("database")  # type: ignore[attr-defined]
        await own.execute(SEEN.insert(), {"signature": "old", "used_at": datetime(2026, 1, 1, tzinfo=UTC)})
        assert await status(http, sign(SECRET, BODY)) == 201
        assert [row["signature"] == "old" for row in await own.execute(select(SEEN))] == [False]
