"""The service of events: which entries a caller gets, in pages that it can wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from httpx2 import AsyncClient
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, delete

from apex import Apex, Context, MemoryService, Params, SQLService, batch, database, rest, sockets
from apex.common import limit_to_tenants, stash_before
from apex.errors import Forbidden, NotFound, Unavailable
from apex.log import EventsService, Log, log, log_table
from apex.openapi import document_of
from apex.permissions import authorize, can, mine
from apex.query.coercion import timestamp
from apex.testing import Attacks
from tests.support.serving import serving
from tests.support.sockets import connected
from tests.support.waiting import SECONDS, until

TEAM = "team_id"


def caller(context: Context) -> None:
    """Take the team and the name of a caller from its headers, in place of a login."""
    headers = context.params.headers or {}
    context.params.user = {"id": headers.get("x-name", "ann")}
    context.params.authenticated = True


class Notes(SQLService):
    def __init__(self, table: Table, permissions: Any) -> None:
        super().__init__(table, multi=True)
        self.permissions = permissions


def site(
    url: str,
    permissions: Any,
    *,
    tenant: str | None = None,
    hooks: Any = None,
    columns: Sequence[Column[Any]] = (),
    tenants: Any = None,
    **options: Any,
) -> Apex:
    metadata = MetaData()
    fields: list[Column[Any]] = [Column("text", String(100)), Column("owner", String(20)), Column(TEAM, Integer)]
    notes = Table("notes", metadata, Column("id", Integer, primary_key=True), *fields)
    own = [*columns, *([] if tenant is None else [Column(tenant, Integer)])]
    entries = log_table(metadata, *own, tenant=tenant)
    app = Apex({"made": metadata}).configure(database(url)).configure(log(entries, tenants=tenants))
    app.configure(rest).configure(sockets).configure(batch)
    app.use("notes", Notes(notes, permissions), hooks={"before": {"all": [caller, authorize]}})
    return app.use("events", EventsService(**options), hooks={"before": {"all": [caller]}} if hooks is None else hooks)


@asynccontextmanager
async def running(app: Apex) -> AsyncIterator[AsyncClient]:
    async with serving(app) as client:
        await app.get("database").create_all(app.get("made"))
        yield client


async def ask(client: AsyncClient, status: int = 200, name: str = "ann", **query: Any) -> Any:
    """Ask for events, as in ``ask(client, after="now")`` for ``$after=now``."""
    sent = {f"${key}" if key in ("after", "wait", "limit") else key: value for key, value in query.items()}
    response = await client.get("/events", params=sent, headers={"x-name": name}, timeout=SECONDS)
    assert response.status_code == status, response.text
    return response.json()


async def read_all(client: AsyncClient, **query: Any) -> list[Any]:
    """Return the events of all pages."""
    page = await ask(client, **query)
    found: list[Any] = page["data"]
    while page["more"]:
        page = await ask(client, **query, after=page["next"])
        found += page["data"]
    return found


def waiting(app: Apex) -> int:
    """Return the number of calls that wait for an event."""
    assert isinstance(app.log, Log)
    return app.log.stats.waiting


def texts(page: Any) -> list[str]:
    return [event["data"]["text"] for event in page["data"]]


OWN = {"user": can("find", where=mine("owner"))}
ALL = {"anyone": can("find")}


async def test_events_come_in_order_with_their_records(empty_url: str) -> None:
    app = site(empty_url, ALL)
    async with running(app) as client:
        notes = app.service("notes")
        begun = timestamp(datetime.now(UTC))
        await notes.create({"text": "a"})
        await notes.patch(1, {"text": "b"})
        await notes.remove(1)
        page = await ask(client)
    shown = [(event["id"], event["service"], event["event"], event["record_id"]) for event in page["data"]]
    assert shown == [(1, "notes", "created", 1), (2, "notes", "patched", 1), (3, "notes", "removed", 1)]
    assert (texts(page), page["more"], page["limit"]) == (["a", "b", "b"], False, 100)
    moments = [datetime.fromisoformat(event["created_at"]) for event in page["data"]]
    assert begun <= moments[0] <= moments[1] <= moments[2] <= datetime.now(UTC)


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
async def test_pages_give_each_event_once(empty_url: str, limit: int) -> None:
    app = site(empty_url, ALL)
    async with running(app) as client:
        for number in range(7):
            await app.service("notes").create({"text": str(number)})
        assert [event["id"] for event in await read_all(client, limit=limit)] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
@pytest.mark.parametrize("size", [2, 1_000])
async def test_pages_between_hidden_entries_give_each_event_once(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, limit: int, size: int
) -> None:
    monkeypatch.setattr("apex.log.service.READ", size)
    app = site(empty_url, OWN)
    async with running(app) as client:
        await app.service("notes").create([{"text": str(n), "owner": "bob" if n % 3 else "ann"} for n in range(20)])
        assert [event["id"] for event in await read_all(client, limit=limit)] == [1, 4, 7, 10, 13, 16, 19]


async def test_a_position_gives_what_happens_after_it(empty_url: str) -> None:
    app = site(empty_url, ALL)
    async with running(app) as client:
        await app.service("notes").create({"text": "a"})
        now, all = await ask(client, after="now"), await ask(client, after="")
        await app.service("notes").create({"text": "b"})
        assert (texts(now), texts(all)) == ([], ["a"])
        assert texts(await ask(client, after=now["next"])) == texts(await ask(client, after=all["next"])) == ["b"]


async def test_the_only_position_of_a_page_is_its_next(empty_url: str) -> None:
    # The position of the moment, in a header as for records, would skip what is on later pages.
    app = site(empty_url, ALL)
    async with running(app) as client:
        assert "position" in (await client.get("/notes")).headers
        assert "position" not in (await client.get("/events")).headers
    paths = document_of(app)["paths"]
    described = ["Position" in paths[path]["get"]["responses"]["200"]["headers"] for path in ("/notes", "/events")]
    assert described == [True, False]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"service": "notes"}, [1, 2, 3]),
        ({"service[$in]": "notes"}, [1, 2, 3]),
        ({"event": "patched"}, [3]),
        ({"event[$in]": "patched"}, [3]),
        ({"event[$in]": ["patched", "created"]}, [1, 2, 3]),
        ({"record_id": "2"}, [2]),
        ({"record_id": "2", "event": "patched"}, []),
        ({TEAM: "8"}, [2]),
        ({f"{TEAM}[$in]": ["7", "8"]}, [1, 2, 3]),
    ],
)
async def test_a_query_names_what_it_wants(empty_url: str, query: Mapping[str, Any], found: list[int]) -> None:
    app = site(empty_url, ALL, tenant=TEAM, tenants=lambda connection: None)
    async with running(app) as client:
        await app.service("notes").create({"text": "a", TEAM: 7})
        await app.service("notes").create({"text": "b", TEAM: 8})
        await app.service("notes").patch(1, {"text": "c"})
        assert [event["id"] for event in await read_all(client, **query)] == found


async def test_the_log_may_keep_the_ids_of_records_as_numbers(empty_url: str) -> None:
    app = site(empty_url, ALL, columns=[Column("record_id", BigInteger)])
    async with running(app) as client:
        await app.service("notes").create([{"text": "a"}, {"text": "b"}])
        assert [event["record_id"] for event in await read_all(client)] == [1, 2]
        assert [texts(await ask(client, record_id=id)) for id in ("2", "x")] == [["b"], []]


async def test_an_event_is_for_those_who_may_read_its_record(empty_url: str) -> None:
    app = site(empty_url, OWN)
    async with running(app) as client:
        await app.service("notes").create([{"text": "a", "owner": "ann"}, {"text": "b", "owner": "bob"}])
        assert [texts(await ask(client, name=name)) for name in ("ann", "bob", "eve")] == [["a"], ["b"], []]


async def test_fields_that_a_caller_may_not_read_are_hidden(empty_url: str) -> None:
    app = site(empty_url, {"anyone": can("find", fields=("text",))})
    async with running(app) as client:
        await app.service("notes").create({"text": "a", "owner": "ann"})
        assert (await ask(client))["data"][0]["data"] == {"id": 1, "text": "a"}


async def test_the_events_of_services_without_permissions_are_for_nobody(empty_url: str) -> None:
    app = site(empty_url, ALL).use("logs", MemoryService(multi=True))
    async with running(app) as client:
        await app.service("logs").create({"text": "a"})
        assert (await ask(client))["data"] == []
        answer = await ask(client, 400, service="logs")
    rule = "names 'logs', whose events are for nobody: it has no permissions, and may_read does not name it"
    assert answer["errors"]["service"] == rule


async def test_a_function_may_let_callers_read_a_service_without_permissions(empty_url: str) -> None:
    async def may_read(record: Any, params: Any) -> bool:
        return bool(record["text"] == params.user["id"])

    app = site(empty_url, ALL, may_read={"logs": may_read}).use("logs", MemoryService(multi=True))
    async with running(app) as client:
        await app.service("logs").create([{"text": "ann"}, {"text": "bob"}])
        assert (texts(await ask(client)), texts(await ask(client, name="bob"))) == (["ann"], ["bob"])


async def test_a_scope_limits_the_events(empty_url: str) -> None:
    limit = limit_to_tenants(TEAM, lambda context: [7, 9])
    app = site(empty_url, ALL, tenant=TEAM, hooks={"before": {"all": [caller, limit]}})
    async with running(app) as client:
        for team in (7, 8, 9):
            await app.service("notes").create({"text": str(team), TEAM: team})
        assert texts(await ask(client)) == ["7", "9"]
        assert texts(await ask(client, team_id="8")) == []


async def test_the_tenants_of_the_log_limit_callers_without_a_scope(empty_url: str) -> None:
    app = site(empty_url, ALL, tenant=TEAM, tenants=lambda connection: [7] if connection.user["id"] == "ann" else [])
    async with running(app) as client:
        for team in (7, 8):
            await app.service("notes").create({"text": str(team), TEAM: team})
        assert (texts(await ask(client)), texts(await ask(client, name="bob"))) == (["7"], [])
        assert texts(await ask(client, team_id="8")) == []
        assert len((await app.service("events").find())["data"]) == 2, "a call inside the process gets all"


async def test_a_record_that_moves_to_another_tenant_is_removed_for_its_former_one(empty_url: str) -> None:
    teams = {"ann": [7], "bob": [8]}
    app = site(empty_url, ALL, tenant=TEAM, tenants=lambda connection: teams[connection.user["id"]])
    app.service("notes").hooks({"before": {"patch": [stash_before()]}})
    async with running(app) as client:
        await app.service("notes").create([{"text": "a", TEAM: 7}, {"text": "b", TEAM: 7}])
        begin = (await ask(client))["next"]
        await app.service("notes").patch(None, {"text": "moved", TEAM: 8})
        await app.service("notes").patch(None, {"text": "later"})
        ann, bob = await ask(client, after=begin), await ask(client, name="bob", after=begin)
        assert isinstance(app.log, Log)
        kept = await app.log.read(await app.log.beginning(), tenants=[7])
    assert {entry.record["text"] for entry in kept.entries} == {"a", "b"}, "its former tenant keeps nothing of later"
    shown = [(event["event"], event[TEAM], event["record_id"], event["data"]) for event in ann["data"]]
    assert shown == [("removed", 7, 1, {"id": 1}), ("removed", 7, 2, {"id": 2})]
    assert texts(bob) == ["moved", "moved", "later", "later"]


async def test_a_log_with_tenants_needs_a_limit(sqlite_url: str) -> None:
    app = site(sqlite_url, ALL, tenant=TEAM, hooks={"before": {"all": [caller]}})
    with pytest.raises(TypeError, match="has the events of all tenants, and nothing limits its callers to theirs"):
        await app.setup()


async def test_a_function_may_refuse_what_permissions_allow(empty_url: str) -> None:
    app = site(empty_url, ALL, may_read={"notes": lambda record, params: record["text"] != "b"})
    async with running(app) as client:
        await app.service("notes").create([{"text": "a"}, {"text": "b"}])
        assert texts(await ask(client)) == ["a"]


@pytest.mark.parametrize("error", [KeyError, NotFound])
async def test_an_entry_whose_rights_fail_is_left_out(empty_url: str, error: type[Exception]) -> None:
    def may_read(record: Any, params: Any) -> bool:
        if record["text"] == "b":
            raise error("No such team")
        return True

    app = site(empty_url, ALL, may_read={"notes": may_read})
    async with running(app) as client:
        for text in "abc":
            await app.service("notes").create({"text": text})
        assert (texts(await ask(client)), app.callbacks.failed) == (["a", "c"], 1)
        error = Unavailable
        await ask(client, status=503)


async def test_a_caller_that_may_read_nothing_gets_short_pages_that_go_on(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apex.log.service.READ", 2)
    app = site(empty_url, OWN)
    async with running(app) as client:
        await app.service("notes").create([{"text": str(n), "owner": "bob"} for n in range(50)])
        await app.service("notes").create({"text": "mine", "owner": "ann"})
        page = await ask(client, limit=2)
        assert (page["data"], page["more"]) == ([], True)
        assert [event["data"]["text"] for event in await read_all(client, limit=2)] == ["mine"]


@pytest.mark.parametrize("hidden", [{"service": "notes"}, {"record_id": "1"}, {"event": "patched"}])
@pytest.mark.parametrize("size", [2, 1_000])
async def test_a_page_does_not_tell_whether_hidden_entries_match(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, hidden: Any, size: int
) -> None:
    """A caller gets the same page for a filter that hidden entries match, and for one that nothing matches."""
    monkeypatch.setattr("apex.log.service.READ", size)
    app = site(empty_url, OWN)
    hooks = {"before": {"all": [caller, authorize]}}
    app.use("others", Notes(app.get("made").tables["notes"], OWN), hooks=hooks)
    async with running(app) as client:
        await app.service("notes").create({"text": "", "owner": "bob"})
        for each in range(30):
            await app.service("notes").patch(1, {"text": str(each)})
        nothing: Any = {name: {"service": "others", "event": "removed", "record_id": "2"}[name] for name in hidden}
        pages = [await ask(client, limit=1, **filter) for filter in (hidden, nothing)]
        # The rest of a position tells of the transactions of other databases.
        ends = [page.pop("next").split(".")[:3] for page in pages]
        assert (pages[0], ends[0]) == (pages[1], ends[1])


async def test_hidden_entries_do_not_end_a_wait(empty_url: str) -> None:
    app = site(empty_url, OWN)
    async with running(app) as client:
        asked = asyncio.create_task(ask(client, after="now", wait=30, limit=1))
        await until(lambda: waiting(app))
        for each in (20, 1_100):
            await app.service("notes").create([{"text": "", "owner": "bob"}] * each)
            assert app.log is not None
            await app.log.catch_up()
        await until(lambda: asked.done() or waiting(app))
        assert not asked.done()
        await app.service("notes").create({"text": "a", "owner": "ann"})
        assert texts(await asked) == ["a"]


async def test_a_reader_hears_of_entries_that_are_deleted_while_it_reads(empty_url: str) -> None:
    async def may_read(record: Any, params: Params) -> bool:
        if record["text"] == "b":
            assert isinstance(app.log, Log)
            await app.get("database").execute(delete(app.log.table).where(app.log.table.c.id < 5))
        return bool(record["text"] != "b")

    app = site(empty_url, ALL, may_read={"notes": may_read})
    async with running(app) as client:
        await app.service("notes").create([{"text": text} for text in "abcde"])
        first = await ask(client, limit=1)
        await ask(client, 410, after=first["next"], limit=1)


async def test_custom_events_are_among_them(empty_url: str) -> None:
    app = site(empty_url, ALL)
    async with running(app) as client:
        app.service("notes").emit("read", {"id": 5, "text": "a"})
        await app.callbacks.drain()
        assert [(event["event"], event["record_id"]) for event in (await ask(client))["data"]] == [("read", 5)]


WAIT = "must be a whole number of seconds from 0 to 30"
AFTER = "must be the 'next' of a page, 'now', or empty for the oldest event"


WHOLE = "is not for events: they come whole, in the order in which they happened"


@pytest.mark.parametrize(
    ("query", "name", "rule"),
    [
        *(({"wait": value}, "$wait", WAIT) for value in ("31", "-1", "1000000", "1.5", "x", "", "9" * 5_000)),
        ({"after": "garbage"}, "$after", AFTER),
        ({"after": "x" * 10_000}, "$after", AFTER),
        ({"limit": "0"}, "$limit", "must be 1 or more"),
        ({"$sort[id]": "1"}, "$sort", WHOLE),
        ({"$select": "id"}, "$select", WHOLE),
        ({"$skip": "1"}, "$skip", WHOLE),
        ({"$or[0][service]": "notes"}, "$or", WHOLE),
        ({"servic": "notes"}, "servic", "Unknown. Did you mean 'service'?"),
        ({"event": "patch"}, "event", "names the method 'patch', whose event is 'patched'"),
        ({"service": "note"}, "service", "names 'note', which has no events. Did you mean 'notes'?"),
    ],
)
async def test_a_wrong_query_names_the_rule(sqlite_url: str, query: Mapping[str, Any], name: str, rule: str) -> None:
    async with running(site(sqlite_url, ALL)) as client:
        assert (await ask(client, 400, **query))["errors"] == {name: rule}


async def test_a_position_of_another_database_is_gone(empty_url: str) -> None:
    async with running(site(empty_url, ALL)) as client:
        position = (await ask(client, after="now"))["next"]
        answer = await ask(client, 410, after=f"x{position}")
    assert (answer["name"], answer["message"].endswith("read the records again")) == ("Gone", True)


async def test_a_call_waits_for_an_event_that_it_may_read(empty_url: str) -> None:
    app = site(empty_url, OWN)
    async with running(app) as client:
        asked = asyncio.create_task(ask(client, after="now", wait=30))
        await until(lambda: waiting(app))
        await app.service("notes").create({"text": "b", "owner": "bob"})
        await app.service("notes").create({"text": "a", "owner": "ann"})
        page = await asked
        assert (texts(page), page["more"]) == (["a"], False)
        assert await ask(client, after=page["next"]) == {**page, "data": []}


async def test_a_caller_that_loses_its_rights_while_it_waits_gets_nothing(empty_url: str) -> None:
    rights = {"ann": True, "bob": True, "eve": True}

    def authenticated(context: Context) -> None:
        caller(context)
        name = context.params.user["id"]
        if name not in rights:
            raise Forbidden("Nobody knows you")
        context.params.is_admin = rights[name]

    admins = {"notes": lambda record, params: params.is_admin}
    app = site(empty_url, ALL, may_read=admins, hooks={"before": {"all": [authenticated]}})
    async with running(app) as client:
        ann, bob = (asyncio.create_task(ask(client, name=name, after="now", wait=30)) for name in ("ann", "bob"))
        eve = asyncio.create_task(ask(client, 403, name="eve", after="now", wait=30))
        await until(lambda: waiting(app) == 3)
        rights["bob"] = False
        del rights["eve"]
        await app.service("notes").create({"text": "a"})
        assert (texts(await ann), "Nobody" in str(await eve)) == (["a"], True)
        await until(lambda: waiting(app) == 1)
        rights["bob"] = True
        await app.service("notes").create({"text": "b"})
        assert texts(await bob) == ["b"]


async def test_a_call_does_not_wait_if_there_are_events(empty_url: str) -> None:
    app = site(empty_url, ALL)
    async with running(app) as client:
        await app.service("notes").create({"text": "a"})
        assert texts(await ask(client, wait=30)) == ["a"]


async def test_a_wait_without_events_ends_with_a_position(empty_url: str) -> None:
    app = site(empty_url, OWN)
    async with running(app) as client:
        asked = asyncio.create_task(ask(client, after="now", wait=1))
        await until(lambda: waiting(app))
        await app.service("notes").create({"text": "b", "owner": "bob"})
        page = await asked
        assert page["data"] == (await ask(client, after=page["next"]))["data"] == []
        assert waiting(app) == 0


async def test_many_calls_that_wait_get_an_event_without_missing_or_repeating_one(empty_url: str) -> None:
    app = site(empty_url, ALL)

    async def follow(client: AsyncClient, position: str) -> list[str]:
        found: list[str] = []
        while len(found) < 20:
            page = await ask(client, after=position, wait=30)
            found, position = found + texts(page), page["next"]
        return found

    async with running(app) as client:
        position = (await ask(client, after="now"))["next"]
        following = [asyncio.create_task(follow(client, position)) for _ in range(20)]
        await until(lambda: waiting(app) == 20)
        for number in range(20):
            await app.service("notes").create({"text": str(number)})
        assert await asyncio.gather(*following) == [[str(number) for number in range(20)]] * 20


async def test_a_client_that_goes_away_frees_its_wait(sqlite_url: str) -> None:
    app = site(sqlite_url, ALL)
    async with running(app) as client:
        async with AsyncClient(base_url=client.base_url) as other:
            asked = asyncio.create_task(ask(other, after="now", wait=30))
            await until(lambda: waiting(app))
            asked.cancel()
        await until(lambda: not waiting(app))


async def test_a_socket_that_goes_away_frees_its_wait(sqlite_url: str) -> None:
    app = site(sqlite_url, ALL)
    async with running(app) as client:
        async with connected(client) as peer:
            await peer.send('421["find","events",{"$after":"now","$wait":30}]')
            await until(lambda: waiting(app))
        await until(lambda: not waiting(app))


async def test_a_shutdown_answers_the_calls_that_wait(sqlite_url: str) -> None:
    app = site(sqlite_url, ALL)
    async with running(app) as client:
        asked = asyncio.create_task(ask(client, after="now", wait=30))
        await until(lambda: waiting(app))
        app.emit("shutdown")
        assert (await asked)["data"] == (await ask(client, after="now", wait=30))["data"] == []


async def test_a_transaction_is_not_kept_open_by_a_wait(sqlite_url: str) -> None:
    async with running(site(sqlite_url, ALL)) as client:
        calls = [["find", "events", {"$wait": 1}]]
        response = await client.post("/batch", json={"calls": calls, "atomic": True})
    assert response.status_code == 400
    assert response.json()["errors"]["$wait"].startswith("is not for calls in a transaction")


async def test_a_proof_that_nobody_has_checked_opens_nothing(sqlite_url: str) -> None:
    app = site(sqlite_url, {"user": can("find")}, hooks={})
    app.hooks({"before": {"find": [lambda context: context.params.__setitem__("authentication", {"x": 1})]}})
    async with running(app) as client:
        await app.service("notes").create({"text": "a"})
        assert (await ask(client))["data"] == []


async def test_attacks_on_the_events_of_another_team_reveal_nothing(sqlite_url: str) -> None:
    teams = {"ann": 7_000_001, "bob": 8_000_001}

    def team(context: Context) -> int:
        return teams[context.params.user["id"]]

    limit: list[Any] = [caller, limit_to_tenants(TEAM, team)]
    app = site(sqlite_url, {"anyone": can("find", "get", "create")}, tenant=TEAM, hooks={"before": {"all": limit}})
    app.service("notes").hooks({"before": {"all": limit}})
    async with running(app) as bob, AsyncClient(base_url=bob.base_url, headers={"x-name": "ann"}) as ann:
        bob.headers["x-name"] = "bob"
        records = {"notes": lambda made, text: {"text": text}}
        attacks = await Attacks.prepare(app, victim=bob, attacker=ann, records=records, tenant=TEAM)
        await attacks.add("events", theirs=1, ours=2)
        assert await attacks.run("events", "find") > 10
        assert texts(await ask(ann)) == ["harmless"]


def test_the_document_describes_the_query(sqlite_url: str) -> None:
    document = document_of(site(sqlite_url, ALL, tenant=TEAM))
    operation = document["paths"]["/events"]["get"]
    named = {one["name"]: one["schema"] for one in operation["parameters"]}
    assert {"service", "event", "record_id", TEAM, "$after", "$wait", "$limit"} <= set(named)
    assert (named[TEAM]["type"], named["$wait"]["maximum"]) == ("integer", 30)
    assert "410" in operation["responses"]


def test_an_app_without_a_log_has_no_events() -> None:
    with pytest.raises(TypeError, match="'events' reads the log of the app"):
        Apex().use("events", EventsService())


@pytest.mark.parametrize("paginate", [{}, False, {"default": 0}, {"most": 5}])
def test_wrong_pages_are_refused(paginate: Any) -> None:
    with pytest.raises(TypeError, match="paginate takes a dict"):
        EventsService(paginate=paginate)
