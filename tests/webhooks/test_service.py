"""The service for webhooks: what callers may register, what they see of it, and who keeps which secret."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, delete, select

from apex import Apex, AuthenticationService, MemoryService, SQLService, database, validate_data
from apex.encoding import decode, encode
from apex.errors import BadRequest, ConfigError, Forbidden, Gone, NotFound, Unprocessable
from apex.log import Position, log, log_table
from apex.service import Call
from apex.webhooks import Webhooks, WebhookSchema, webhooks_table
from tests.webhooks.apps import (
    ANN,
    BOB,
    Members,
    TeamWebhooks,
    add_notes,
    add_webhook,
    by,
    log_of,
    metadata,
    running,
    stored,
    team_app,
    until,
    webhooks,
)
from tests.webhooks.receiver import receiving

URL = "https://example.com/hooks"


async def create(app: Apex, data: Any, user: int = ANN) -> Any:
    """Return what a caller from outside is answered."""
    call = Call(app.service("webhooks"), "create", data=data, params=_params(user))
    return (await app.call(call)).external


def _params(user: int) -> Any:
    from apex import Params

    return Params(by(user))


async def test_the_secret_is_shown_to_its_maker_and_to_nobody_else(empty_url: str) -> None:
    heard: list[Any] = []
    async with running(team_app(empty_url)) as app:
        app.service("webhooks").on("created", heard.append)
        shown = await create(app, {"team_id": 7, "url": URL, "events": ["notes *"]})
        secret = shown["secret"]
        assert secret.startswith("whsec_")
        again = await app.service("webhooks").rotate({"id": shown["id"]}, by(ANN))
        found = await app.service("webhooks").find(by(ANN))
        tables = [await app.get("database").execute(select(table)) for table in metadata.sorted_tables]
        kept = encode([heard, found, tables]).decode()
        for text in (secret, again["secret"]):
            assert text not in kept
            assert text.removeprefix("whsec_") not in kept
        assert all("secret" not in one for one in (*heard, *found))


WRONG: dict[str, list[tuple[dict[str, Any], str]]] = {
    "url": [
        ({"url": "http://example.com/"}, "https"),
        ({"url": "https://10.0.0.1/"}, "public"),
        ({"url": 5}, "text"),
        ({"url": "https://" + "x" * 10**6}, "2,048"),
        ({"url": None}, "required"),
    ],
    "events": [
        ({"events": ["note created"]}, "Did you mean 'notes'"),
        ({"events": ["notes create"]}, "Did you mean 'created'"),
        ({"events": ["notes"]}, "Write a service"),
        ({"events": []}, "list of 1 to 100"),
        ({"events": "notes *"}, "list of 1 to 100"),
        ({"events": [5]}, "texts"),
        ({"events": ["x" * 10**6]}, "There is no event"),
        ({"events": ["*"] * 101}, "list of 1 to 100"),
        ({"events": None}, "required"),
    ],
    "secret": [({"secret": "mine"}, "May not be written")],
    "user_id": [({"user_id": BOB}, "May not be written")],
    "position": [({"position": "0"}, "May not be written")],
    "leased_until": [({"leased_until": None}, "May not be written")],
}


@pytest.mark.parametrize(("field", "given", "rule"), [(field, *one) for field, some in WRONG.items() for one in some])
async def test_wrong_data_is_refused(sqlite_url: str, field: str, given: Any, rule: str) -> None:
    async with running(team_app(sqlite_url)) as app:
        for_create = {"team_id": 7, "url": URL, "events": ["*"], **given}
        with pytest.raises(BadRequest) as refused:
            await create(app, for_create)
        assert rule in (refused.value.errors or {})[field]
        assert len(encode(refused.value.to_dict())) < 2_000
        webhook = await add_webhook(app, URL)
        if given[field] is not None or field == "leased_until":
            with pytest.raises(BadRequest) as refused:
                await app.service("webhooks").patch(webhook["id"], given, by(ANN))
            assert rule in (refused.value.errors or {})[field]


async def test_other_teams_neither_see_nor_use_a_webhook(empty_url: str) -> None:
    async with running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, URL)
        service, id = app.service("webhooks"), webhook["id"]
        assert await service.find(by(BOB)) == []
        assert await app.service("webhook-deliveries").find(by(BOB)) == []
        for call in (
            service.get(id, by(BOB)),
            service.patch(id, {"url": URL}, by(BOB)),
            service.remove(id, by(BOB)),
            service.rotate({"id": id}, by(BOB)),
            service.test({"id": id}, by(BOB)),
            service.replay({"id": id, "since": "2026-01-01"}, by(BOB)),
        ):
            with pytest.raises(NotFound):
                await call
        with pytest.raises((Forbidden, BadRequest)):
            await create(app, {"team_id": 7, "url": URL, "events": ["*"]}, BOB)
        assert (await stored(app, id))["user_id"] == ANN


async def test_only_admins_have_webhooks(empty_url: str) -> None:
    members: Members = {ANN: {7: "reader"}}
    async with running(team_app(empty_url, members)) as app:
        with pytest.raises(Forbidden):
            await create(app, {"team_id": 7, "url": URL, "events": ["*"]})
        with pytest.raises(Forbidden):
            await app.service("webhooks").find(by(ANN))


async def test_a_team_has_so_many_webhooks_and_no_more(empty_url: str) -> None:
    async with running(team_app(empty_url, max=3)) as app:
        for _ in range(3):
            await add_webhook(app, URL)
        with pytest.raises(Unprocessable, match="3 are the most"):
            await add_webhook(app, URL)
        await add_webhook(app, URL, user=BOB, team=8)


async def test_calls_at_the_same_time_make_no_more_than_the_most(empty_url: str) -> None:
    async with running(team_app(empty_url, max=3)) as app:
        made = await asyncio.gather(*(add_webhook(app, URL) for _ in range(30)), return_exceptions=True)
        assert sum(isinstance(one, dict) for one in made) == 3
        assert sum(isinstance(one, Unprocessable) for one in made) == 27


async def test_the_most_is_that_of_the_team_in_which_a_webhook_is_stored(empty_url: str) -> None:
    async with running(team_app(empty_url, max=1)) as app:
        await create(app, {"url": URL, "events": ["*"]})  # The scope of its caller names the team.
        for team in (None, 7, "7"):
            with pytest.raises(Unprocessable):
                await create(app, {"url": URL, "events": ["*"], **({} if team is None else {"team_id": team})})
        with pytest.raises(Forbidden, match="outside"):  # Nobody hears how many another team has.
            await create(app, {"url": URL, "events": ["*"], "team_id": 7}, BOB)


@pytest.mark.parametrize("hooks", [[], [validate_data(WebhookSchema)]])
async def test_a_webhook_can_be_sent_back_whole_while_it_goes_on(empty_url: str, hooks: list[Any]) -> None:
    async with receiving() as receiver, running(team_app(empty_url)) as app:
        app.service("webhooks").hooks({"before": {"patch": hooks}})
        webhook = decode(encode(await add_webhook(app, receiver.url, "notes *")))
        await add_notes(app, "a")
        row = await until(app, webhook["id"], lambda row: row["last_success_at"])
        patched = await app.service("webhooks").patch(webhook["id"], {**webhook, "description": "New"}, by(ANN))
        assert (patched["description"], patched["position"]) == ("New", row["position"])
        for wrong in ({"position": webhook["position"]}, {**webhook, "grace_until": "2026-01-01T00:00:00.000Z"}):
            with pytest.raises(BadRequest):
                await app.service("webhooks").patch(webhook["id"], wrong, by(ANN))


async def test_both_secrets_sign_for_a_day_after_a_rotation(empty_url: str) -> None:
    async with receiving() as receiver, running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, receiver.url)
        service = app.service("webhooks")
        await service.rotate({"id": webhook["id"]}, by(ANN))
        await service.test({"id": webhook["id"]}, by(ANN))
        row = await stored(app, webhook["id"])
        assert timedelta(hours=23) < row["grace_until"] - datetime.now(UTC) <= timedelta(hours=24)
        past = webhooks.update().values(grace_until=datetime.now(UTC) - timedelta(seconds=1))
        await app.get("database").execute(past)
        await service.test({"id": webhook["id"]}, by(ANN))
        counts = [len(one.headers["webhook-signature"].split()) for one in receiver.received[-2:]]
        assert counts == [2, 1]


async def test_test_tells_what_the_receiver_has_answered(empty_url: str) -> None:
    async with receiving(lambda received: 418) as receiver, running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, receiver.url, "notes created")
        answer = await app.service("webhooks").test({"id": webhook["id"]}, by(ANN))
        assert (answer["status"], answer["answer"], answer["error"]) == (418, "no", "The status is 418")
        assert receiver.received[0].message["type"] == "webhooks test"
        assert (await stored(app, webhook["id"]))["failures"] == 0


async def test_replays_from_nowhere_are_refused(empty_url: str) -> None:
    async with running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, URL)
        replay, id = app.service("webhooks").replay, webhook["id"]
        await add_notes(app, "a")
        future = str(await log_of(app).position())
        for given, error in (
            ({}, BadRequest),
            ({"since": "soon"}, BadRequest),
            ({"since": "2026-01-01", "position": future}, BadRequest),
            ({"position": "garbage"}, BadRequest),
            ({"position": 5}, BadRequest),
            ({"position": "x" * 10**6}, BadRequest),
            ({"since": "2026-01-01", "other": 1}, BadRequest),
            ({"position": _of_another_database(future)}, Gone),
        ):
            with pytest.raises(error):
                await replay({"id": id, **given}, by(ANN))
        with pytest.raises(BadRequest):
            await replay({"since": "2026-01-01"}, by(ANN))


async def test_a_replay_from_before_the_log_says_when_it_begins(empty_url: str) -> None:
    async with running(team_app(empty_url)) as app:
        webhook = await add_webhook(app, URL)
        await add_notes(app, "a", "b", "c")
        await log_of(app).catch_up()
        table = log_of(app).table
        await app.get("database").execute(delete(table).where(table.c.record_id == "1"))
        with pytest.raises(Gone, match="replay from then on") as gone:
            await app.service("webhooks").replay({"id": webhook["id"], "since": "2020-01-01"}, by(ANN))
        begin = str(gone.value).split()[4].rstrip(":")
        assert (await app.service("webhooks").replay({"id": webhook["id"], "since": begin}, by(ANN)))["enabled"]


def _of_another_database(text: str) -> str:
    position = Position.parse(text)
    return str(Position("abc", position.id, position.moment, position.seen))


async def test_secrets_survive_a_new_secret_of_the_app(empty_url: str) -> None:
    async with running(team_app(empty_url)) as app:
        webhook = await create(app, {"team_id": 7, "url": URL, "events": ["*"]})
    later = team_app(empty_url)
    later.set("authentication", {"secret": "b" * 32, "previousSecret": app.get("authentication")["secret"]})
    async with running(later, create=False):
        row = await stored(later, webhook["id"])
    alone = team_app(empty_url)
    alone.set("authentication", {"secret": "b" * 32})
    async with running(alone, create=False):
        assert alone.service("webhooks").service.secrets.decrypt(row["secret"]) == webhook["secret"]


def test_a_table_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="make it with webhooks_table"):
        Webhooks(Table("hooks", MetaData(), Column("id", Integer, primary_key=True)))


async def test_an_app_without_a_log_or_a_secret_does_not_start(sqlite_url: str) -> None:
    table = webhooks_table(MetaData())
    app = Apex({"authentication": {"secret": "a" * 32}}).configure(database(sqlite_url))
    app.use("webhooks", Webhooks(table))
    with pytest.raises(ConfigError, match=r"app\.configure\(log"):
        await app.setup()
    without = team_app(sqlite_url)
    without.set("authentication", None)
    with pytest.raises(ConfigError, match=r"authentication\.secret"):
        await without.setup()


async def test_the_ids_of_makers_must_have_the_type_of_those_of_users(sqlite_url: str) -> None:
    tables = MetaData()
    users = Table("users", tables, Column("id", Integer, primary_key=True), Column("email", String(200)))
    app = Apex({"authentication": {"secret": "a" * 32}}).configure(database(sqlite_url))
    app.configure(log(log_table(tables))).use("users", SQLService(users))
    app.use("authentication", AuthenticationService(app)).use("webhooks", Webhooks(webhooks_table(tables)))
    await app.get("database").open()
    await app.get("database").create_all(tables)
    await app.get("database").close()
    with pytest.raises(ConfigError, match=r"type than the ids of 'users'.* Column\('user_id', Integer\)\)"):
        await app.setup()


async def test_events_that_nobody_may_read_are_refused_with_the_reason(sqlite_url: str) -> None:
    async with running(team_app(sqlite_url).use("logs", MemoryService())) as app:
        with pytest.raises(BadRequest) as refused:
            await create(app, {"url": URL, "events": ["logs created"], "team_id": 7})
    assert refused.value.errors["events"].startswith("The events of 'logs' are for nobody: it has no permissions")


def test_a_tenant_has_to_be_a_column() -> None:
    with pytest.raises(ValueError, match="team_id"):
        webhooks_table(MetaData(), tenant="team_id")


async def test_services_whose_records_have_no_team_are_not_for_webhooks_of_teams(sqlite_url: str) -> None:
    async with running(team_app(sqlite_url)) as app:
        service: TeamWebhooks = app.service("webhooks").service
        assert list(service.known_events) == ["notes", "webhooks"]
        assert (
            json.dumps(service.known_events["webhooks"]) == '["created", "disabled", "patched", "removed", "updated"]'
        )
