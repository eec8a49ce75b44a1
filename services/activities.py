"""Activities: calls, meetings, tasks and other work, with people and times."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Column, Date, ForeignKey, Integer, String, Text

from apex import Apex, Schema
from apex.describe import describe
from apex.relations import belongs_to
from apex.schema import (
    FloatField,
    TextField,
    ValidationError,
    fields,
    validate,
    validates_schema,
)
from apex.sql import Json
from apex.types import Row
from hooks.search_forms import search_lines
from services.shared.examples import examples_of
from services.shared.search import Searchable, SearchSchema, parse_search
from services.shared.tenant import OWNER, TenantSchema, serve
from services.tables import Identifier, partial_index, tenant_table, within

activities = tenant_table(
    "activities",
    Column("assigned_to_user_id", Identifier, ForeignKey("users.id")),
    Column("subject", String(500), nullable=False),
    Column("note", String(20_000)),
    Column("public_description", String(20_000)),
    Column("location", String(500)),
    Column("location_geocoded", Json),
    Column("start_date", Date),
    Column("start_time", String(8)),
    Column("end_date", Date),
    Column("end_time", String(8)),
    Column("duration", Integer),
    Column("deal_id", Identifier),
    Column("contact_id", Identifier),
    Column("company_id", Identifier),
    Column("activity_type", String(40), nullable=False),
    Column("done", Boolean, nullable=False, default=False),
    Column("subject_search", Text),
    Column("note_search", Text),
    within("deal_id", "deals"),
    within("contact_id", "contacts"),
    within("company_id", "companies"),
    info={"search_index": "activities_search"},
)
c = activities.c
agenda = (c.organization_id, c.assigned_to_user_id, c.done, c.start_date, c.start_time, c.id)
partial_index("ix_activities_agenda", *agenda)

KIND = validate.Regexp(r"[a-z][a-z0-9_-]{0,39}\Z", error="Must be a word such as call or meeting")
TIME = validate.Regexp(r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\Z", error="Must be a time such as 14:30:00")


PERSON_SHAPE = {
    "properties": {"id": {"type": "integer"}, "full_name": {"type": "string"}},
    "required": ["id", "full_name"],
}


class PlaceSchema(Schema):
    """A place on the map. Coordinates are in degrees."""

    empty_is_null = True

    lat = FloatField(required=True, validate=validate.Range(-90, 90))
    lng = FloatField(required=True, validate=validate.Range(-180, 180))
    address = TextField(max=500, allow_none=True)


class ActivitySchema(TenantSchema):
    """An activity as callers write it. ``duration`` is in minutes."""

    class Meta:
        table = activities
        exclude = ("uuid", "subject_search", "note_search")

    location_geocoded = fields.Nested(PlaceSchema, allow_none=True)
    start_time = fields.String(validate=TIME, allow_none=True)
    end_time = fields.String(validate=TIME, allow_none=True)
    duration = fields.Integer(strict=True, allow_none=True, validate=validate.Range(0, 525_600))
    activity_type = fields.String(required=True, validate=KIND)

    @validates_schema
    def check_order(self, data: Row, **_: Any) -> None:
        """Refuse an activity that ends before it begins. Without an end_date it ends on the day on which it begins."""
        start, end = data.get("start_date"), data.get("end_date")
        if start is not None and end is not None and end < start:
            raise ValidationError("Must not be before start_date", "end_date")
        begins, ends = data.get("start_time"), data.get("end_time")
        if end in (None, start) and begins is not None and ends is not None and ends < begins:
            raise ValidationError("Must not be before start_time on the same day", "end_time")


@describe(result=PERSON_SHAPE)
def person(row: Row) -> Row:
    """Return the id and the full name of a user or contact."""
    return {"id": row["id"], "full_name": " ".join(filter(None, (row["first_name"], row["last_name"])))}


class ActivitySearchSchema(SearchSchema):
    """The data of a search in subjects or notes."""

    searchIn = fields.String(load_default="subject", validate=validate.OneOf(["subject", "note"]))


class Activities(Searchable):
    """The activities of an organization."""

    table, schema, noun = activities, ActivitySchema, "activity"
    multi = ("patch", "remove")
    private = ("uuid", "subject_search", "note_search")
    search_in = {"subject": "subject_search", "note": "note_search"}
    custom = {"search": ActivitySearchSchema}
    relations = {
        **OWNER,
        "created_by_user": belongs_to("users", fields=person, trusted=True),
        "assigned_to_user": belongs_to("users", fields=person, trusted=True),
        "deal": belongs_to("deals", fields=("id", "name"), trusted=True),
        "contact": belongs_to("contacts", fields=person, trusted=True),
        "company": belongs_to("companies", fields=("id", "name"), trusted=True),
    }
    joins = ("created_by_user", "assigned_to_user", "deal", "contact", "company")
    examples = examples_of(
        1,
        {"subject": "Call John", "activity_type": "call", "contact_id": 123, "start_date": "2026-03-02"},
        {"done": True},
        {"search": {"searchTerm": "call", "searchIn": "subject"}},
    )


def register(app: Apex) -> None:
    """Register the service ``activities``."""
    serve(
        app,
        "activities",
        Activities,
        checks={"search": [parse_search]},
        on_write=[search_lines(subject="subject_search", note="note_search")],
    )
