"""Rules across fields: a change is checked together with the stored record, for every adapter and kind of call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Date, Integer, MetaData, String, Table

from apex import Apex, Context, MemoryService, Params, Schema, Service, rest, validate_data, validate_query
from apex.adapters.base import Adapter
from apex.errors import BadRequest
from apex.schema.validation import Text, ValidationError, fields, validates_schema
from apex.service import BoundService
from apex.sql import Json, SQLService, Timestamp, database
from tests.support.serving import calling

TRIPS = Table(
    "trips", MetaData(),
    Column("id", Integer, primary_key=True), Column("name", String(50)), Column("kind", String(20)),
    Column("starts", Date), Column("ends", Date), Column("boards", Timestamp), Column("lands", Timestamp),
    Column("extra", Json), Column("secret", Integer), Column("seats", Integer, server_default="4"),
)  # fmt: skip
BACKWARDS = {"ends": "Must not be before starts"}


class TripSchema(Schema):
    create_only = ("kind",)

    name = Text(max=50)
    kind = Text(max=20)
    starts = fields.Date(required=True)
    ends = fields.Date(allow_none=True)
    boards = fields.DateTime()
    lands = fields.DateTime()
    extra = fields.Dict()
    secret = fields.Integer(load_only=True)
    seats = fields.Integer()

    @validates_schema
    def check_order(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("ends") is not None and data["ends"] < data["starts"]:
            raise ValidationError("Must not be before starts", "ends")
        if "lands" in data and "boards" in data and data["lands"] < data["boards"]:
            raise ValidationError({"lands": ["Must not be before boards"]})
        if data.get("kind") == "one way" and data.get("extra", {}).get("back"):
            raise ValidationError("Goes one way", "extra")
        if data.get("secret") == 13 and data.get("seats") == 13:
            raise ValidationError("Not both")


async def pause(context: Context) -> None:
    """Let other tasks run, as a hook that reads something does."""
    await asyncio.sleep(0)


def on(url: str | None) -> Apex:
    options: Any = {"multi": True, "merge": ["extra"], "private": ["secret"], "paginate": {"default": 5}}
    app = Apex().configure(rest)
    if url is None:
        types: Any = SQLService(TRIPS).columns
        trips: Adapter = MemoryService(fields=types, start_id=1, **options)
    else:
        trips = SQLService(TRIPS, **options)
        app.configure(database(url))
    checked = validate_data(TripSchema, "Invalid trip")
    return app.use("trips", trips, hooks={"before": {"all": [validate_query, checked, pause]}})


@pytest.fixture(params=["memory", "sqlite_url", "postgres_url"])
async def app(request: pytest.FixtureRequest) -> AsyncIterator[Apex]:
    url = None if request.param == "memory" else request.getfixturevalue(request.param)
    app = on(url)
    await app.setup()
    if url is not None:
        await app.get("database").create_all(TRIPS.metadata)
    yield app
    await app.teardown()


@pytest.fixture
def trips(app: Apex) -> BoundService:
    return app.service("trips")


async def errors_of(call: Any) -> Any:
    with pytest.raises(BadRequest) as caught:
        await call
    assert caught.value.message == "Invalid trip"
    return caught.value.errors


async def trip(trips: BoundService, **values: Any) -> int:
    made = await trips.create({"name": "Oslo", "starts": "2026-05-10", "ends": "2026-05-20", **values})
    return int(made["id"])


async def test_a_patch_is_checked_with_what_is_stored(trips: BoundService) -> None:
    id = await trip(trips)
    assert await errors_of(trips.patch(id, {"ends": "2026-05-09"})) == BACKWARDS
    assert await errors_of(trips.patch(id, {"starts": "2026-05-21"})) == BACKWARDS
    assert (await trips.get(id))["ends"] == date(2026, 5, 20)
    assert (await trips.patch(id, {"starts": "2026-05-21", "ends": "2026-05-21"}))["starts"] == date(2026, 5, 21)
    assert (await trips.patch(id, {"ends": None}))["ends"] is None
    assert (await trips.patch(id, {"starts": "2027-01-01"}))["ends"] is None


async def test_fields_of_create_and_private_ones_count(trips: BoundService) -> None:
    id = await trip(trips, kind="one way", secret=13)
    assert await errors_of(trips.patch(id, {"extra": {"back": True}})) == {"extra": "Goes one way"}
    assert await errors_of(trips.patch(id, {"seats": 13})) == {"data": "Not both"}
    assert (await trips.patch(id, {"seats": 12}))["seats"] == 12


async def test_objects_are_merged_as_they_will_be(trips: BoundService) -> None:
    id = await trip(trips, extra={"back": True, "meal": "fish"})
    await trips.service.patch(id, {"kind": "one way"}, None)
    assert (await trips.patch(id, {"extra": {"back": None}}))["extra"] == {"meal": "fish"}
    assert await errors_of(trips.patch(id, {"extra": {"back": True}})) == {"extra": "Goes one way"}


async def test_moments_without_a_zone_are_compared(trips: BoundService) -> None:
    id = await trip(trips, boards="2026-05-10T10:00:00Z")
    assert await errors_of(trips.patch(id, {"lands": "2026-05-10T09:00:00"})) == {"lands": "Must not be before boards"}
    landed = await trips.patch(id, {"lands": "2026-05-10T11:00:00"})
    assert landed["lands"] == datetime(2026, 5, 10, 11, tzinfo=UTC)


async def test_an_update_is_checked_with_what_it_leaves(trips: BoundService) -> None:
    id = await trip(trips, secret=13)
    whole = {"name": "Rome", "starts": "2026-06-01"}
    assert await errors_of(trips.update(id, {**whole, "seats": 13})) == {"data": "Not both"}
    assert await errors_of(trips.update(id, {**whole, "ends": "2026-05-01"})) == BACKWARDS
    assert (await trips.update(id, whole))["ends"] is None


async def test_many_are_checked_one_by_one(trips: BoundService) -> None:
    ids = [await trip(trips, starts=f"2026-05-{day}") for day in (11, 12, 13)] + [await trip(trips, name="Rome")]
    later = {"query": {"name": "Oslo"}}
    assert await errors_of(trips.patch(None, {"ends": "2026-05-12"}, later)) == BACKWARDS
    assert {row["ends"] for row in (await trips.find())["data"]} == {date(2026, 5, 20)}
    assert [row["id"] for row in await trips.patch(None, {"ends": "2026-05-14"}, later)] == ids[:3]
    assert await trips.patch(None, {"ends": "2026-05-14"}, {"query": {"name": "Nowhere"}}) == []


async def test_no_record_is_changed_that_was_not_checked() -> None:
    class Growing(MemoryService):
        async def patch(self, id: Any, data: Any, params: Any) -> Any:
            await self.create({"name": "Oslo", "starts": "2027-01-01"}, None)
            return await super().patch(id, data, params)

    checked = validate_data(TripSchema, "Invalid trip")
    app = Apex().use("trips", Growing(multi=True), hooks={"before": {"all": [checked]}})
    id = await trip(app.service("trips"))
    changed = await app.service("trips").patch(None, {"ends": "2026-05-30"}, {"query": {"name": "Oslo"}})
    assert [row["id"] for row in changed] == [id]


async def test_fields_are_checked_before_anything_is_read(trips: BoundService) -> None:
    assert await errors_of(trips.patch(404, {"ends": "soon"})) == {"ends": "Must be a date such as 2023-01-31"}


async def test_of_two_changes_that_do_not_go_together_one_is_stored(trips: BoundService) -> None:
    for _ in range(5):
        id = await trip(trips)
        changes = [
            trips.patch(id, {"starts": "2026-05-18"}),
            trips.patch(None, {"ends": "2026-05-12"}, {"query": {"id": id}}),
        ]
        results = await asyncio.gather(*changes, return_exceptions=True)
        assert [type(result) for result in results if isinstance(result, Exception)] == [BadRequest]
        stored = await trips.get(id)
        assert stored["starts"] <= stored["ends"]


async def test_if_match_and_rules_go_together(app: Apex) -> None:
    async with calling(app) as client:
        id = (await client.post("/trips", json={"starts": "2026-05-10", "ends": "2026-05-20"})).json()["id"]
        known = {"If-Match": (await client.get(f"/trips/{id}")).headers["etag"]}
        changes = [client.patch(f"/trips/{id}", json={"ends": f"2026-05-{day}"}, headers=known) for day in (11, 12, 9)]
        statuses = sorted(answer.status_code for answer in await asyncio.gather(*changes))
        assert statuses in ([200, 412, 412], [200, 400, 412])
        whole = (await client.get(f"/trips/{id}")).json()
        answer = await client.patch(f"/trips/{id}", json={**whole, "starts": "2027-01-01"})
        assert (answer.status_code, answer.json()["errors"]) == (400, BACKWARDS)
        assert (await client.patch(f"/trips/{id}", json={**whole, "name": "Rome"})).status_code == 200


async def test_a_record_older_than_a_rule_can_be_changed_otherwise(trips: BoundService) -> None:
    id = await trip(trips)
    await trips.service.patch(id, {"ends": "2026-01-01"}, None)
    assert (await trips.patch(id, {"name": "Rome", "ends": "2026-01-01"}))["name"] == "Rome"
    assert await errors_of(trips.patch(id, {"ends": "2026-01-02"})) == BACKWARDS


async def test_rules_about_what_is_sent_see_that_alone() -> None:
    class Pair(Schema):
        one = fields.Integer()
        two = fields.Integer()

        @validates_schema(pass_original=True)
        def check_pair(self, data: Any, original: Any, **_: Any) -> None:
            if len(original) == 1:
                raise ValidationError("Must be given with the other", next(iter(original)))

    pairs = Apex().use("pairs", MemoryService(), hooks={"before": {"all": [validate_data(Pair, "Invalid trip")]}})
    await pairs.service("pairs").create({"one": 1, "two": 2})
    assert await errors_of(pairs.service("pairs").patch(0, {"one": 3})) == {"one": "Must be given with the other"}


async def test_a_service_of_its_own_is_read_by_get_and_find() -> None:
    class Trips(Service):
        async def get(self, id: Any, params: Params) -> Any:
            return {"id": id, "starts": "2026-05-10", "ends": date(2026, 5, 20)}

        async def find(self, params: Params) -> Any:
            return {"total": 1, "limit": 1, "skip": 0, "data": [await self.get(1, params)]}

        async def patch(self, id: Any, data: Any, params: Params) -> Any:
            return data

    app = Apex().use("trips", Trips(), hooks={"before": {"patch": [validate_data(TripSchema, "Invalid trip")]}})
    for id in (1, None):
        assert await errors_of(app.service("trips").patch(id, {"ends": "2026-01-01"})) == BACKWARDS
        assert await app.service("trips").patch(id, {"name": "Rome"}) == {"name": "Rome"}


async def test_only_schemas_with_rules_read_the_record(empty_url: str) -> None:
    class Plain(Schema):
        name = Text(max=50)

    app = on(empty_url).use("plain", SQLService(TRIPS), hooks={"before": {"all": [validate_data(Plain)]}})
    await app.setup()
    try:
        await app.get("database").create_all(TRIPS.metadata)
        id = await trip(app.service("trips"))
        ran: list[str] = []
        fetch = app.get("database").executor.fetch

        async def noted(text: str, *more: Any, **how: Any) -> Any:
            ran.append(text)
            return await fetch(text, *more, **how)

        app.get("database").executor.fetch = noted
        await app.service("plain").patch(id, {"name": "Rome"})
        assert [text.split()[0] for text in ran] == ["UPDATE"]
        with pytest.raises(BadRequest):
            await app.service("trips").patch(id, {"starts": "soon"})
        assert len(ran) == 1
    finally:
        await app.teardown()


DAYS = st.integers(1, 28).map(lambda day: f"2026-05-{day:02}")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.dictionaries(st.sampled_from(["starts", "ends"]), DAYS, min_size=1), max_size=6))
async def test_no_row_of_changes_breaks_the_rule(changes: list[dict[str, str]]) -> None:
    trips = on(None).service("trips")
    id = await trip(trips)
    await asyncio.gather(*(trips.patch(id, change) for change in changes), return_exceptions=True)
    stored = await trips.get(id)
    assert stored["starts"] <= stored["ends"]
