"""Webhooks are delivered from the log: at least once, in order for each record, to those who may read it."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import insert, literal, select

from apex import Context
from apex.common import stash_before
from apex.errors import Unprocessable
from apex.webhooks.courier import MOST_FAILURES, MOST_WAITING, PAGE
from apex.webhooks.dispatcher import HELD
from tests.webhooks.apps import (
    ANN,
    BOB,
    Members,
    TeamWebhooks,
    add_notes,
    add_webhook,
    by,
    deliveries,
    log_of,
    running,
    stored,
    team_app,
    until,
    webhooks,
)
from tests.webhooks.receiver import HANG, Received, Receiver, receiving

GONE = b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n"


async def test_an_event_is_posted(empty_url: str) -> None:
    async with receiving() as receiver, running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, receiver.url, "notes created")
        [note] = await add_notes(app, "Hello")
        await app.service("notes").patch(note["id"], {"text": "Not this"})
        [one] = await receiver.until(1)
        entry = (await log_of(app).entries([int(one.headers["webhook-id"])]))[0]
        assert one.message == {
            "type": "notes created",
            "timestamp": entry.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "id": str(entry.id),
            "data": note,
        }
        row = await until(app, webhook["id"], lambda row: row["last_success_at"])
        assert (row["failures"], row["failing_since"], row["due_at"]) == (0, None, None)
        counted = log_of(app).stats.webhooks
        assert counted is not None
        assert (counted.delivered, counted.failed, counted.disabled) == (1, 0, 0)
        [delivery] = await deliveries(app, webhook["id"])
        assert (delivery["state"], delivery["status"], delivery["answer"], delivery["attempts"]) == (
            "delivered", 200, "ok", 1,
        )  # fmt: skip


async def test_a_failure_holds_back_the_later_events_of_its_record_alone(empty_url: str) -> None:
    refused: list[Received] = []

    def behave(received: Received) -> int:
        is_refused = received.data["text"] == "a1" and len(refused) < 3
        refused.extend([received] if is_refused else [])
        return 500 if is_refused else 200

    async with receiving(behave) as receiver, running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, receiver.url, "notes *")
        a, b = await add_notes(app, "a1", "b1")
        for id, text in ((a["id"], "a2"), (b["id"], "b2"), (a["id"], "a3")):
            await app.service("notes").patch(id, {"text": text})
        await receiver.until(8)
        taken = [one.data["text"] for one in receiver.received if one not in refused]
        assert [text for text in taken if text[0] == "a"] == ["a1", "a2", "a3"]
        assert [text for text in taken if text[0] == "b"] == ["b1", "b2"]
        await until(app, webhook["id"], lambda row: row["failures"] == 0 and row["failing_since"] is None)
        assert {one["state"] for one in await deliveries(app, webhook["id"])} == {"delivered"}


async def test_each_event_arrives_in_order_whatever_fails(empty_url: str) -> None:
    turn = iter(range(10**6))
    taken: dict[int, list[int]] = defaultdict(list)

    def behave(received: Received) -> Any:
        if next(turn) % 3 == 1:
            return 503 if next(turn) % 2 else "close"
        taken[received.data["id"]].append(received.data["rating"])
        return 200

    async with receiving(behave) as receiver, running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, receiver.url, "notes patched")
        written = await add_notes(app, *"abcde")
        for rating in range(12):
            await asyncio.gather(*(app.service("notes").patch(one["id"], {"rating": rating}) for one in written))
        async with asyncio.timeout(60):
            while sum(map(len, taken.values())) < 60:
                await receiver.until(len(receiver.received) + 1)
        assert {tuple(ratings) for ratings in taken.values()} == {tuple(range(12))}
        row = await until(app, webhook["id"], lambda row: row["due_at"] is None)
        assert row["failing_since"] is None


async def test_a_receiver_that_is_down_gets_few_requests_and_then_everything(empty_url: str) -> None:
    is_down = True
    async with receiving(lambda received: 500 if is_down else 200) as receiver, running(team_app(empty_url)) as app:
        app.service("webhooks").service.pauses = (1000,)
        webhook = await add_webhook(app, receiver.url, "notes *")
        await app.service("notes").create([{"team_id": 7, "text": str(n)} for n in range(300)])
        row = await until(app, webhook["id"], lambda row: row["paused_until"])
        assert MOST_FAILURES <= len(receiver.received) <= MOST_FAILURES + 4
        assert len(await deliveries(app, webhook["id"])) <= PAGE
        is_down = False
        app.service("webhooks").service.pauses = (0.01,)
        await app.service("webhooks").patch(webhook["id"], {"enabled": True}, by(ANN))
        async with asyncio.timeout(60):
            while len({one.headers["webhook-id"] for one in receiver.received}) < 300:
                await receiver.until(len(receiver.received) + 1)
        assert row["failing_since"] is not None


async def test_410_disables_at_once(empty_url: str) -> None:
    told: asyncio.Queue[Any] = asyncio.Queue()
    async with receiving(lambda received: GONE) as receiver, running(team_app(empty_url)) as app:
        app.service("webhooks").on("disabled", told.put_nowait)
        webhook = await add_webhook(app, receiver.url, "notes *")
        await add_notes(app, "a")
        row = await until(app, webhook["id"], lambda row: not row["enabled"])
        assert "410" in row["disabled_reason"]
        notice = await told.get()
        assert (notice["id"], "secret" in notice) == (webhook["id"], False)
        position = await log_of(app).position()
        await add_notes(app, "c")
        assert (await log_of(app).read(position)).entries
        assert len(receiver.received) == 1


async def test_a_webhook_that_fails_too_long_is_disabled_and_goes_on_when_it_is_enabled(empty_url: str) -> None:
    is_down = True
    async with receiving(lambda received: 500 if is_down else 200) as receiver, running(team_app(empty_url)) as app:
        app.service("webhooks").service.patience = 0.1
        webhook = await add_webhook(app, receiver.url, "notes *")
        [note] = await add_notes(app, "a")
        row = await until(app, webhook["id"], lambda row: not row["enabled"])
        assert "notes created" in row["disabled_reason"]
        await app.service("notes").patch(note["id"], {"text": "b"})
        is_down, tried = False, len(receiver.received)
        await app.service("webhooks").patch(webhook["id"], {"enabled": True}, by(ANN))
        arrived = (await receiver.until(tried + 2))[tried:]
        assert [one.data["text"] for one in arrived] == ["a", "b"]
        row = await stored(app, webhook["id"])
        assert (row["enabled"], row["disabled_reason"]) == (True, None)


async def test_retry_after_pauses_the_whole_webhook(empty_url: str) -> None:
    busy = b"HTTP/1.1 429 Slow\r\nretry-after: 600\r\ncontent-length: 0\r\n\r\n"
    async with receiving(lambda received: busy) as receiver, running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, receiver.url, "notes *")
        await add_notes(app, "a")
        row = await until(app, webhook["id"], lambda row: row["paused_until"])
        assert 590 < (row["paused_until"] - row["failing_since"]).total_seconds() <= 601
        await add_notes(app, "b", "c")
        assert len(receiver.received) == 1


async def test_teams_get_their_own_events(empty_url: str) -> None:
    async with receiving() as anns, receiving() as bobs, running(team_app(empty_url)) as app:
        await add_webhook(app, anns.url, "notes *", user=ANN, team=7)
        await add_webhook(app, bobs.url, "notes *", user=BOB, team=8)
        for text in "abc":
            await add_notes(app, text, team=7)
            await add_notes(app, text, team=8)
        await asyncio.gather(anns.until(3), bobs.until(3))
        assert {one.data["team_id"] for one in anns.received} == {7}
        assert {one.data["team_id"] for one in bobs.received} == {8}


async def test_a_record_that_moves_to_another_team_is_removed_for_its_former_one(empty_url: str) -> None:
    async with receiving() as anns, receiving() as bobs, running(team_app(empty_url)) as app:
        app.service("notes").hooks({"before": {"patch": [stash_before()]}})
        await add_webhook(app, anns.url, "notes removed", user=ANN, team=7)
        await add_webhook(app, bobs.url, "notes *", user=BOB, team=8)
        [note] = await add_notes(app, "a", team=7)
        await app.service("notes").patch(note["id"], {"team_id": 8})
        await asyncio.gather(anns.until(1), bobs.until(1))
        assert [(one.message["type"], one.data) for one in anns.received] == [("notes removed", {"id": note["id"]})]
        assert [(one.message["type"], one.data["team_id"]) for one in bobs.received] == [("notes patched", 8)]


async def test_the_rights_of_the_maker_count_at_the_delivery(empty_url: str) -> None:
    members: Members = {ANN: {7: "admin"}}
    async with receiving() as receiver, running(team_app(empty_url, members)) as app:
        webhook = await add_webhook(app, receiver.url, "notes *")
        await add_notes(app, "a")
        await receiver.until(1)
        members[ANN] = {7: "reader"}
        await add_notes(app, "b")
        await receiver.until(2)
        members[ANN] = {8: "admin"}
        await add_notes(app, "c")
        position = (await stored(app, webhook["id"]))["position"]
        await until(app, webhook["id"], lambda row: row["position"] != position)
        del members[ANN]
        await add_notes(app, "d")
        row = await until(app, webhook["id"], lambda row: not row["enabled"])
        assert [one.data for one in receiver.received] == [
            {"id": 1, "team_id": 7, "text": "a", "rating": 5},
            {"id": 2, "team_id": 7, "text": "b"},
        ]
        assert "user" in row["disabled_reason"]


async def test_who_changes_the_url_has_to_have_the_rights_for_it(empty_url: str) -> None:
    members: Members = {ANN: {7: "admin"}, BOB: {7: "admin"}}
    async with receiving() as first, receiving() as second, running(team_app(empty_url, members)) as app:
        webhook = await add_webhook(app, first.url, user=ANN)
        await app.service("webhooks").patch(webhook["id"], {"description": "For the shop"}, by(BOB))
        assert (await stored(app, webhook["id"]))["user_id"] == ANN
        await app.service("webhooks").patch(webhook["id"], {"url": second.url}, by(BOB))
        assert (await stored(app, webhook["id"]))["user_id"] == BOB


async def test_two_processes_send_each_event_once(empty_url: str) -> None:
    async with receiving() as receiver, running(team_app(empty_url)) as one:
        async with running(team_app(empty_url), create=False) as other:
            await add_webhook(one, receiver.url, "notes created")
            await asyncio.gather(*(add_notes(app, *map(str, range(40))) for app in (one, other)))
            await receiver.until(80)
        ids = Counter(received.headers["webhook-id"] for received in receiver.received)
        assert (len(ids), set(ids.values())) == (80, {1})


async def test_a_process_goes_on_where_another_one_has_ended(empty_url: str) -> None:
    async with receiving() as receiver:
        async with running(team_app(empty_url)) as app:
            await add_webhook(app, receiver.url, "notes created")
            await add_notes(app, "a")
            await receiver.until(1)
        silent = team_app(empty_url)  # It writes, and ends before it has looked at its entries.
        silent.services["webhooks"].service.setup = lambda app, path: asyncio.sleep(0)
        silent.services["webhooks"].service.teardown = lambda app, path: asyncio.sleep(0)
        async with running(silent, create=False):
            await add_notes(silent, "b")
        async with running(team_app(empty_url), create=False):
            await receiver.until(2)
        assert [one.data["text"] for one in receiver.received] == ["a", "b"]


async def test_another_process_goes_on_after_a_kill(empty_url: str) -> None:
    is_killed = asyncio.Event()

    async def behave(received: Received) -> Any:
        return 200 if received.data["text"] == "a1" or is_killed.is_set() else HANG

    async with receiving(behave) as receiver:
        command = [sys.executable, "-m", "tests.webhooks.process", empty_url, receiver.url]
        process = await asyncio.create_subprocess_exec(*command)
        try:
            await receiver.until(2)
        finally:
            process.kill()
            await process.wait()
        is_killed.set()
        async with running(team_app(empty_url), create=False) as app:
            [webhook] = await app.service("webhooks").find(by(ANN))
            await until(
                app, webhook["id"], lambda row: row["due_at"] is None and row["position"] != webhook["position"]
            )
        texts = [one.data["text"] for one in receiver.received]
        assert texts[:2] == ["a1", "a2"]
        # What was answered before the kill, and not stored, comes again, with the same id.
        assert texts[2:] in (["a2", "a3"], ["a1", "a2", "a3"])
        assert len({one.headers["webhook-id"] for one in receiver.received}) == 3


async def test_a_change_of_the_url_sends_the_message_under_way_again(empty_url: str) -> None:
    go = asyncio.Event()

    async def behave(received: Received) -> int:
        await go.wait()
        return 500

    async with receiving(behave) as former, receiving() as receiver, running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, former.url, "notes created")
        await add_notes(app, "a")
        await connected(former)
        await app.service("webhooks").patch(webhook["id"], {"url": receiver.url}, by(ANN))
        go.set()
        assert (await receiver.until(1))[0].data["text"] == "a"


async def test_no_message_of_before_a_change_comes_after_those_since(empty_url: str) -> None:
    async def behave(received: Received) -> int:
        await asyncio.sleep(0.03)
        return 200

    async with receiving(behave) as receiver, running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, receiver.url, "notes patched")
        [note] = await add_notes(app, "a")
        for number in range(30):
            await app.service("notes").patch(note["id"], {"rating": number})
        await receiver.until(3)
        await app.service("webhooks").patch(webhook["id"], {"events": ["notes patched", "notes removed"]}, by(ANN))
        row = await until(app, webhook["id"], lambda row: row["due_at"] is None)
        ratings = [one.data["rating"] for one in receiver.received]
        assert sum(later < one for one, later in pairwise(ratings)) <= 1, "it begins again once"
        assert (ratings[-1], row["leased_until"]) == (29, None)


async def test_a_message_that_cannot_be_made_holds_back_no_other(empty_url: str) -> None:
    class Failing(TeamWebhooks):
        def data(self, context: Context) -> Any:
            return 1 / context.result["rating"]

    async with receiving() as receiver, running(team_app(empty_url, service=Failing())) as app:
        webhook = await add_webhook(app, receiver.url, "notes created")
        for rating in (1, 0, 2):
            await app.service("notes").create({"team_id": 7, "rating": rating})
        assert sorted(one.data for one in await receiver.until(2)) == [0.5, 1.0]
        await until(app, webhook["id"], lambda row: row["failures"])
        [failed] = [one for one in await deliveries(app, webhook["id"]) if one["state"] == "waiting"]
        assert failed["error"] == "This server could not make the message: its log says why"


async def test_a_webhook_that_is_disabled_sends_only_what_is_under_way(empty_url: str) -> None:
    async def behave(received: Received) -> int:
        await asyncio.sleep(0.001)
        return 200

    async with receiving(behave) as receiver, running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, receiver.url, "notes created")
        await app.service("notes").create([{"team_id": 7, "text": "new"}] * 500)
        await receiver.until(1)
        await app.service("webhooks").patch(webhook["id"], {"enabled": False}, by(ANN))
        sent = len(receiver.received)
        await asyncio.wait(app.services["webhooks"].service.dispatcher.held)
        assert len(receiver.received) <= sent + PAGE


async def test_a_team_whose_receivers_hang_holds_up_no_other_team(empty_url: str) -> None:
    async with running(team_app(empty_url)) as app, receiving(lambda _: HANG) as hanging, receiving() as receiver:
        for _ in range(2 * HELD):
            await add_webhook(app, hanging.url, "notes created")
        await add_webhook(app, receiver.url, "notes created", user=BOB, team=8)
        await add_notes(app, "a")
        await connected(hanging)
        await add_notes(app, "b", team=8)
        assert (await receiver.until(1))[0].data["text"] == "b"
        assert hanging.connections < HELD


async def test_of_ten_thousand_webhooks_those_of_the_team_get_an_event(empty_url: str) -> None:
    members: Members = {ANN: dict.fromkeys(range(100), "admin")}
    async with receiving() as receiver, running(team_app(empty_url, members)) as app:
        first = await add_webhook(app, receiver.url, "notes created", team=0)
        numbers = select(literal(1).label("number")).cte(recursive=True)
        numbers = numbers.union_all(select(numbers.c.number + 1).where(numbers.c.number < 9_999))
        own = [column for column in webhooks.c if column.name not in ("id", "team_id")]
        copies = select(numbers.c.number % 100, *own).where(webhooks.c.id == first["id"])
        copying = insert(webhooks).from_select(["team_id", *(column.name for column in own)], copies)
        await app.get("database").execute(copying)
        with pytest.raises(Unprocessable, match="100 are the most"):
            await add_webhook(app, receiver.url, team=5)
        await add_notes(app, "a", team=5)
        assert {one.data["team_id"] for one in await receiver.until(100)} == {5}


async def connected(receiver: Receiver) -> None:
    """Wait until a message is on its way to a receiver."""
    async with asyncio.timeout(60):
        while not receiver.connections:
            await asyncio.sleep(0.01)


async def test_an_answer_under_way_is_waited_for_at_the_end(empty_url: str) -> None:
    go = asyncio.Event()

    async def behave(received: Received) -> int:
        await go.wait()
        return 200

    async with receiving(behave) as receiver:
        async with running(team_app(empty_url)) as app:
            webhook = await add_webhook(app, receiver.url, "notes created")
            await add_notes(app, "a")
            await connected(receiver)
            asyncio.get_running_loop().call_later(0.1, go.set)
        async with running(team_app(empty_url), create=False) as app:
            [delivery] = await deliveries(app, webhook["id"])
            assert (delivery["state"], len(receiver.received)) == ("delivered", 1)


@pytest.mark.parametrize("by_position", [True, False])
async def test_replay_sends_events_again(empty_url: str, by_position: bool) -> None:
    async with receiving() as receiver, running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, receiver.url, "notes created")
        await add_notes(app, "a")
        await receiver.until(1)
        await until(app, webhook["id"], lambda row: row["last_success_at"])
        [first] = await deliveries(app, webhook["id"])
        position = await log_of(app).position()
        await asyncio.sleep(0.002)  # A moment is told in milliseconds.
        await add_notes(app, "b", "c")
        await receiver.until(3)
        await until(app, webhook["id"], lambda row: row["due_at"] is None)
        entry = (await log_of(app).read(position)).entries[0]
        since = {"position": str(position)} if by_position else {"since": entry.created_at.isoformat()}
        await app.service("webhooks").replay({"id": webhook["id"], **since}, by(ANN))
        await receiver.until(5)
        texts = [one.data["text"] for one in receiver.received]
        assert (sorted(texts[1:3]), sorted(texts[3:])) == (["b", "c"], ["b", "c"])
        assert first["type"] == "notes created"


async def test_only_so_many_deliveries_are_kept(empty_url: str) -> None:
    async with receiving() as receiver, running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, receiver.url, "notes created")
        await app.service("notes").create([{"team_id": 7, "text": str(n)} for n in range(250)])
        await receiver.until(250)
        await until(app, webhook["id"], lambda row: row["due_at"] is None)
        kept = await deliveries(app, webhook["id"])
        assert len(kept) == 200


async def test_a_webhook_whose_events_are_gone_is_disabled(empty_url: str) -> None:
    async with running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, "http://localhost:9/", "notes created")
        await add_notes(app, "a")
        row = await until(app, webhook["id"], lambda row: row["failing_since"])
        epoch = row["position"].partition(".")
        forged = f"{'1' if epoch[0] == '0' else '0'}{epoch[1]}{epoch[2]}"
        await app.get("database").execute(webhooks.update().values(position=forged, paused_until=None))
        row = await until(app, webhook["id"], lambda row: not row["enabled"])
        assert "The log no longer has all events" in row["disabled_reason"]


async def test_many_waiting_messages_stop_the_reading(empty_url: str) -> None:
    is_down = True
    taken: list[int] = []

    def behave(received: Received) -> int:
        if is_down and received.data["text"] == "bad":
            return 500
        taken.extend([received.data["rating"]] if received.data["text"] == "bad" else [])
        return 200

    async with receiving(behave) as receiver, running(team_app(empty_url)) as app:
        service = app.service("webhooks").service
        service.pauses = (1000,)
        webhook = await add_webhook(app, receiver.url, "notes *")
        [note] = await add_notes(app, "bad")
        for rating in range(MOST_WAITING + 2 * PAGE):
            await app.service("notes").patch(note["id"], {"rating": rating})
        async with asyncio.timeout(60):
            while len(held := await service.dispatcher.store.waiting(webhook["id"])) < MOST_WAITING:
                await add_notes(app, "good")
        assert len(held) <= MOST_WAITING + PAGE
        is_down, service.pauses = False, (0.01,)
        await app.service("webhooks").patch(webhook["id"], {"enabled": True}, by(ANN))
        async with asyncio.timeout(60):
            while len(taken) < MOST_WAITING + 2 * PAGE + 1:
                await receiver.until(len(receiver.received) + 1)
        assert taken == [5, *range(MOST_WAITING + 2 * PAGE)]
