"""Conditional, repeated and batched requests of the CRM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from apex import Context
from apex.sql.drivers.postgres import POOL_SIZE
from services.tables import answers
from tests.services.accounts.test_audience import connect, listen
from tests.services.agentvoice import voice
from tests.services.crm import JANE, LIST, Crm, refused, running
from tests.support.waiting import SECONDS, until

KEY = {"Idempotency-Key": "order-12"}


async def names(crm: Crm) -> list[str]:
    return [row["first_name"] for row in (await crm.call(LIST))[1]["data"]]


async def test_an_unchanged_record_is_not_sent_again(demo_url: str) -> None:
    async with running(demo_url) as crm:
        for url in ("GET /contacts/123", LIST):
            first = await crm.send(url)
            tag = {"If-None-Match": first.headers["etag"]}
            again = await crm.send(url, headers=tag)
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
            assert first.headers["cache-control"] == again.headers["cache-control"] == "private, no-cache"
            await crm.call("PATCH /contacts/123", {"first_name": url[-3:]})
            assert (await crm.send(url, headers=tag)).status_code == 200


async def test_of_changes_to_one_state_one_wins(demo_url: str) -> None:
    async with running(demo_url) as crm:
        tag = (await crm.send("GET /contacts/123")).headers["etag"]
        changes = (crm.call("PATCH /contacts/123", {"last_name": str(n)}, headers={"If-Match": tag}) for n in range(10))
        answers = await asyncio.gather(*changes)
        assert sorted(status for status, _ in answers) == [200, *[412] * 9]
        refused(next(answer for answer in answers if answer[0] == 412), 412)


@pytest.mark.parametrize(
    ("request_", "data"), [("PATCH /contacts/123", {"last_name": "X"}), ("DELETE /contacts/123", None)]
)
async def test_a_record_is_changed_while_it_is_the_known_one(demo_url: str, request_: str, data: Any) -> None:
    async with running(demo_url) as crm:
        refused(await crm.call(request_, data, headers={"If-Match": '"another"'}), 412)
        tag = (await crm.send("GET /contacts/123")).headers["etag"]
        assert (await crm.call(request_, data, headers={"If-Match": f'"another", W/{tag}'}))[0] == 200


@pytest.mark.parametrize(
    ("url", "data", "user", "status"),
    [
        ("/contacts/123", {"last_name": "X"}, None, 401),
        ("/contacts/123", {"no_field": 1}, 789, 400),
        ("/contacts/123?no_field=1", {"last_name": "X"}, 789, 400),
    ],
)
async def test_a_refused_change_does_not_wait_for_writers(
    demo_url: str, url: str, data: Any, user: int | None, status: int
) -> None:
    async with running(demo_url) as crm, asyncio.timeout(SECONDS):
        await crm.call("GET /contacts/123")  # Now it is known who is a member of what.
        async with all_writers_busy(crm):
            for headers in ({}, KEY):
                matched = {"If-Match": '"another"', **headers}
                refused(await crm.call(f"PATCH {url}", data, user, headers=matched), status)


@pytest.mark.parametrize("headers", [{}, KEY])
async def test_the_other_api_refuses_without_a_writer_too(demo_url: str, headers: dict[str, str]) -> None:
    async with running(demo_url) as crm, asyncio.timeout(SECONDS):
        assert (await voice.hook(crm))[0] == 201  # Now it is known who sends it.
        async with all_writers_busy(crm):
            for request, data in (
                (f"PATCH {voice.JOHN}", {"email": "no"}),
                ("POST /api/contacts", {"email": "no"}),
                ("POST /api/webhook/crm", {"source": "zoho", "data": {"crm_id": 1, "email": "no"}}),
            ):
                assert (await voice.call(crm, request, data, headers=voice.PROOF | headers))[0] == 400


@asynccontextmanager
async def all_writers_busy(crm: Crm) -> AsyncIterator[None]:
    """Open as many transactions as there can be at once."""
    database, done = crm.app.get("database"), asyncio.Event()
    begun: list[int] = []

    async def write(place: int) -> None:
        async with database.transaction():
            begun.append(place)
            await done.wait()

    count = POOL_SIZE if database.dialect.name == "postgresql" else 1
    writers = [asyncio.create_task(write(place)) for place in range(count)]
    await until(lambda: len(begun) == count)
    try:
        yield
    finally:
        done.set()
        await asyncio.gather(*writers)


async def test_the_other_api_has_conditions_and_repeats_too(demo_url: str) -> None:
    async with running(demo_url) as crm:
        tag = (await voice.send(crm, f"GET {voice.JOHN}")).headers["etag"]
        matched = voice.PROOF | {"If-Match": tag}
        changes = (voice.call(crm, f"PATCH {voice.JOHN}", {"last_name": str(n)}, headers=matched) for n in range(10))
        assert sorted(status for status, _ in await asyncio.gather(*changes)) == [200, *[412] * 9]
        made = [
            await voice.call(crm, "POST /api/contacts", {"first_name": "Jane"}, headers=voice.PROOF | KEY) for _ in "ab"
        ]
        assert (made[0][0], made[0]) == (201, made[1])
        assert (await names(crm)).count("Jane") == 1


async def test_a_precondition_does_not_reveal_records_of_others(demo_url: str) -> None:
    async with running(demo_url) as crm:
        answer = await crm.call("PATCH /contacts/123", {"last_name": "X"}, 791, headers={"If-Match": "*"})
        refused(answer, 403)


async def test_a_write_with_a_key_is_made_once(demo_url: str) -> None:
    async with running(demo_url) as crm:
        events: list[Any] = []
        crm.app.service("contacts").on("created", lambda row, context: events.append(row["id"]))
        sent = (crm.send("POST /contacts", JANE, headers=KEY) for _ in range(20))
        responses = await asyncio.gather(*sent)
        assert {(one.status_code, one.content) for one in responses} == {(201, responses[0].content)}
        assert sorted("idempotency-replayed" in one.headers for one in responses) == [False, *[True] * 19]
        assert (len(events), (await names(crm)).count("Jane")) == (1, 1)
        entries = await crm.app.service("audit").find({"query": {"service": "contacts"}, "paginate": False})
        assert len(entries) == 1


async def test_a_key_stands_for_one_request_of_one_caller(demo_url: str) -> None:
    async with running(demo_url) as crm:
        first = await crm.call("POST /contacts", JANE, headers=KEY)
        refused(await crm.call("POST /contacts", JANE | {"last_name": "Doe"}, headers=KEY), 422)
        refused(await crm.call("PATCH /contacts/123", {"last_name": "Doe"}, headers=KEY), 422)
        assert (await crm.call("POST /contacts", JANE, 790, headers=KEY))[1]["id"] != first[1]["id"]


@pytest.mark.parametrize(
    ("request_", "data"), [("PATCH /contacts/123", {"last_name": "X"}), ("DELETE /contacts/123", None)]
)
async def test_changes_and_removals_are_repeated_too(demo_url: str, request_: str, data: Any) -> None:
    async with running(demo_url) as crm:
        first = await crm.call(request_, data, headers=KEY)
        assert first[0] == 200
        assert await crm.call(request_, data, headers=KEY) == first


async def test_a_change_on_a_condition_is_repeated_too(demo_url: str) -> None:
    async with running(demo_url) as crm:
        matched = KEY | {"If-Match": (await crm.send("GET /contacts/123")).headers["etag"]}
        made = [await crm.call("PATCH /contacts/123", {"last_name": "X"}, headers=matched) for _ in "ab"]
        assert (made[0][0], made[0]) == (200, made[1])
        refused(await crm.call("PATCH /contacts/123", {"last_name": "Y"}, headers=matched), 422)
        refused(
            await crm.call("PATCH /contacts/123", {"last_name": "Y"}, headers=matched | {"Idempotency-Key": "b"}), 412
        )


async def test_a_former_member_gets_no_stored_answer(demo_url: str) -> None:
    async with running(demo_url) as crm:
        assert (await crm.call("POST /contacts", JANE, 790, headers=KEY))[0] == 201
        await crm.app.service("memberships").remove(None, {"query": {"user_id": 790}, "adapter": {"multi": ["remove"]}})
        refused(await crm.call("POST /contacts", JANE, 790, headers=KEY), 403)


async def test_a_failed_request_can_be_repeated_with_its_key(demo_url: str) -> None:
    async with running(demo_url) as crm:
        refused(await crm.call("POST /contacts", JANE | {"email": "no"}, headers=KEY), 400, "email")
        assert (await crm.call("POST /contacts", JANE, headers=KEY))[0] == 201
        assert len(await crm.app.get("database").execute(answers.select())) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
async def test_a_wrong_idempotency_key_is_refused(migrated_sqlite_url: str, key: str) -> None:
    async with running(migrated_sqlite_url) as crm:
        refused(await crm.call("POST /contacts", JANE, headers={"Idempotency-Key": key}), 400)
        assert "Jane" not in await names(crm)


async def test_an_answer_with_a_secret_is_not_stored(migrated_sqlite_url: str) -> None:
    async with running(migrated_sqlite_url) as crm:
        data = {"organization_id": 456, "user_id": 789, "name": "mine"}
        refused(await crm.call("POST /api-keys", data, headers=KEY), 400)


async def test_calls_of_a_batch_are_calls_of_their_own(demo_url: str) -> None:
    async with running(demo_url) as crm:
        calls = [
            ["get", "contacts", 123, {"$select": ["first_name"]}],
            ["create", "contacts", JANE, {}],
            ["get", "contacts", 201],
            ["find", "contacts", {"organization_id": 457}],
            ["create", "contacts", JANE | {"email": "no"}],
        ]
        status, settled = await crm.call("POST /batch", {"calls": calls})
        assert (status, settled[0]) == (201, {"status": "fulfilled", "value": {"id": 123, "first_name": "John"}})
        assert settled[1]["value"]["first_name"] == "Jane"
        assert [one["reason"]["code"] for one in settled[2:]] == [403, 403, 400]
        entries = await crm.app.service("audit").find({"query": {"service": "contacts"}, "paginate": False})
        assert [entry["user_id"] for entry in entries] == [789]


@pytest.mark.parametrize("headers", [{}, KEY])
@pytest.mark.parametrize(
    "call",
    [["find", "contacts", "x"], ["find", "contacts", [1]], ["create", "contacts", JANE, "x"], ["get", "contacts", [1]]],
)
async def test_a_wrong_query_in_a_batch_is_refused(crm: Crm, call: Any, headers: dict[str, str]) -> None:
    for proof in ({}, {"x-api-key": voice.PROOF["x-api-key"]}):
        user = None if proof else 789
        _, settled = await crm.call("POST /batch", {"calls": [call]}, user, headers=headers | proof)
        assert settled[0]["reason"]["code"] in (400, 404), settled


async def test_a_batch_may_be_repeated(demo_url: str) -> None:
    async with running(demo_url) as crm:
        calls = {"calls": [["create", "contacts", JANE], ["create", "contacts", JANE]]}
        first = await crm.call("POST /batch", calls, headers=KEY)
        assert await crm.call("POST /batch", calls, headers=KEY) == first
        assert (await names(crm)).count("Jane") == 2


async def test_a_batch_needs_authentication(migrated_sqlite_url: str) -> None:
    async with running(migrated_sqlite_url) as crm:
        _, settled = await crm.call("POST /batch", {"calls": [["get", "contacts", 123]]}, None)
        assert settled[0]["reason"]["code"] == 401


@pytest.mark.parametrize(
    ("request_", "data"),
    [("POST /contacts", JANE), ("PATCH /contacts/123", {"last_name": "X"}), ("DELETE /contacts/123", None)],
)
async def test_a_user_who_lost_the_role_gets_no_stored_answer(demo_url: str, request_: str, data: Any) -> None:
    async with running(demo_url) as crm:
        assert (await crm.call(request_, data, 790, headers=KEY))[0] < 300
        await set_role(crm, 790, "viewer")
        refused(await crm.call(request_, data, 790, headers=KEY), 403)
        await set_role(crm, 790, "member")
        assert (await crm.call(request_, data, 790, headers=KEY))[0] < 300


@pytest.mark.parametrize(
    ("request_", "data"),
    [
        ("POST /api/contacts", {"first_name": "Jane"}),
        (f"PATCH {voice.JOHN}", {"last_name": "X"}),
        (f"DELETE {voice.JOHN}", None),
        ("POST /api/webhook/crm", {"source": "hubspot", "data": {"crm_id": "1", "name": "Jo"}}),
    ],
)
async def test_a_key_whose_user_lost_the_role_gets_no_stored_answer(demo_url: str, request_: str, data: Any) -> None:
    async with running(demo_url) as crm:
        proof = voice.PROOF | KEY
        assert (await voice.call(crm, request_, data, headers=proof))[0] < 300
        await set_role(crm, 789, "viewer")
        crm.app.get("defaultAuthentication").strategies["api-key"].forget()
        assert (await voice.call(crm, request_, data, headers=proof))[0] in (401, 403)


async def test_a_record_moved_to_another_organization_is_not_shown_again(demo_url: str) -> None:
    async with running(demo_url) as crm:
        await crm.app.service("memberships").create({"user_id": 790, "organization_id": 457})
        assert (await crm.call("PATCH /contacts/201", {"last_name": "X"}, 790, headers=KEY))[0] == 200
        await set_role(crm, 790, "viewer", 457)
        refused(await crm.call("PATCH /contacts/201", {"last_name": "X"}, 790, headers=KEY), 403)


async def set_role(crm: Crm, user: int, role: str, organization: int = 456) -> None:
    query = {"user_id": user, "organization_id": organization}
    (mine,) = await crm.app.service("memberships").find({"query": query, "paginate": False})
    await crm.app.service("memberships").patch(mine["id"], {"role": role})


async def test_an_event_of_a_call_that_failed_after_its_commit_is_sent_once(demo_url: str) -> None:
    async with running(demo_url) as crm:
        await connect(crm)
        sent, failing = listen(crm), [True]

        def fail(context: Context) -> None:
            if context.path == "contacts" and failing and failing.pop():
                raise RuntimeError("after the commit")

        crm.app.hooks({"after": {"create": [fail]}})
        assert (await crm.call("POST /contacts", JANE, headers=KEY))[0] == 500
        again = [crm.send("POST /contacts", JANE, headers=KEY) for _ in range(3)]
        assert {one.status_code for one in await asyncio.gather(*again)} == {201}
        await until(lambda: bool(sent))
        await crm.app.service("contacts").patch(123, {"last_name": "Roe"})
        assert [(event, row["first_name"]) for event, row, _ in sent] == [
            ("contacts created", "Jane"), ("contacts patched", "John"),
        ]  # fmt: skip
