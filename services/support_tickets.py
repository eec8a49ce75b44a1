"""Support tickets and their messages."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, String, Text, UniqueConstraint

from apex import Apex, Context
from apex.common import changed_fields, now
from apex.query.coercion import text
from apex.relations import belongs_to, has_many
from apex.schema import EmailField, IdField, TextField, fields, validate
from apex.sql import Json, Timestamp
from hooks.parents import change_parent
from hooks.search_forms import line, search_lines
from services.shared.counters import next_value
from services.shared.examples import examples_of
from services.shared.search import Searchable, SearchSchema, parse_search
from services.shared.tenant import OWNER, PERSON_FIELDS, WRITES, TenantSchema, TenantService, serve
from services.tables import Identifier, partial_index, tenant_table, within

META_CONTACT = ("meta_contact_first_name", "meta_contact_last_name", "meta_contact_email")
"""The columns with copies of the contact of a ticket."""

support_tickets = tenant_table(
    "support_tickets",
    Column("inbox_channel_id", Identifier),
    Column("channel", String(40)),
    Column("meta_inbox_channel_email", String(254)),
    Column("contact_id", Identifier),
    Column("meta_contact_first_name", String(100)),
    Column("meta_contact_last_name", String(100)),
    Column("meta_contact_email", String(254)),
    Column("reference_number", String(40), nullable=False),
    Column("subject", String(500), nullable=False),
    Column("status", String(20), nullable=False, default="open"),
    Column("priority", String(20), nullable=False, default="medium"),
    Column("tags", Json, nullable=False, default=list),
    Column("assigned_user_id", Identifier, ForeignKey("users.id")),
    Column("assigned_ai_assistant_id", Identifier),
    Column("thread_id", String(200)),
    Column("last_message_at", Timestamp),
    Column("handoff_reason", String(2000)),
    Column("subject_search", Text),
    Column("reference_search", Text),
    within("contact_id", "contacts"),
    UniqueConstraint("organization_id", "reference_number"),
    info={
        "search_index": "support_tickets_search",
        "list_index": {"tags": "support_tickets_tagged"},
        "copies": {"contact_id": META_CONTACT},
    },
)
support_ticket_messages = tenant_table(
    "support_ticket_messages",
    Column("support_ticket_id", Identifier, nullable=False),
    Column("direction", String(10), nullable=False, default="outbound"),
    Column("body", String(20_000), nullable=False),
    within("support_ticket_id", "support_tickets"),
)
m = support_ticket_messages.c
partial_index("ix_support_ticket_messages_ticket", m.organization_id, m.support_ticket_id, m.created_at, m.id)


class SupportTicketSchema(TenantSchema):
    """A support ticket as callers write it."""

    class Meta:
        table = support_tickets
        exclude = ("uuid", "subject_search", "reference_search")
        dump_only = (*META_CONTACT, "reference_number", "last_message_at")

    inbox_channel_id = IdField(allow_none=True)
    meta_inbox_channel_email = EmailField(max=254, allow_none=True)
    status = fields.String(validate=validate.OneOf(["open", "pending", "resolved", "closed"]))
    priority = fields.String(validate=validate.OneOf(["low", "medium", "high", "urgent"]))
    tags = fields.List(TextField(max=100), validate=validate.Length(max=100))
    assigned_ai_assistant_id = IdField(allow_none=True)


class SupportTicketSearchSchema(SearchSchema):
    """The data of a search in subjects or reference numbers."""

    searchIn = fields.String(load_default="subject", validate=validate.OneOf(["subject", "reference_number"]))


class SupportTickets(Searchable):
    """The support tickets of an organization: requests of its contacts, until they are closed."""

    table, schema, noun = support_tickets, SupportTicketSchema, "support ticket"
    transactions = WRITES
    multi = ("patch", "remove")
    private = ("uuid", "subject_search", "reference_search")
    lists = {"tags": text}
    relations = {
        **OWNER,
        "contact": belongs_to("contacts"),
        "assigned_user": belongs_to("users", fields=PERSON_FIELDS, trusted=True),
        "messages": has_many("support-ticket-messages", "support_ticket_id", on_remove="cascade"),
    }
    search_in = {"subject": "subject_search", "reference_number": "reference_search"}
    custom = {"search": SupportTicketSearchSchema}
    examples = examples_of(
        1,
        {"subject": "Where is my order?", "contact_id": 123, "priority": "high", "tags": ["order"]},
        {"status": "pending"},
        {"search": {"searchTerm": "order", "searchIn": "subject"}},
    )

    async def next_reference(self, organization_id: int) -> str:
        """Return the next reference number of an organization, such as ``TK-2026-001``.

        Numbers have no gaps, and follow the order in which tickets are stored.
        """
        year = now().year
        return f"TK-{year}-{await next_value(self.database, organization_id, f'TK-{year}'):03}"


class SupportTicketMessageSchema(TenantSchema):
    """A message as callers write it."""

    create_only = ("organization_id", "support_ticket_id", "direction")

    support_ticket_id = IdField(required=True)
    direction = fields.String(validate=validate.OneOf(["inbound", "outbound", "note"]))
    body = TextField(required=True, max=20_000)


class SupportTicketMessages(TenantService):
    """The messages of support tickets: inbound messages, answers and notes."""

    table, schema, noun = support_ticket_messages, SupportTicketMessageSchema, "support ticket message"
    transactions = WRITES
    relations = {**OWNER, "support_ticket": belongs_to("support-tickets")}
    examples = examples_of(1, {"support_ticket_id": 1, "body": "It is on its way."}, {"body": "It arrives tomorrow."})


async def assign_reference(context: Context) -> None:
    """Give a ticket the next reference number. Runs before create."""
    reference = await context.service.next_reference(context.data["organization_id"])
    context.data = {**context.data, "reference_number": reference, "reference_search": line(reference)}


async def copy_contact(context: Context) -> None:
    """Copy the name and e-mail address of a new contact to the ticket. Runs before create and patch."""
    if any(changed_fields(context, "contact_id")):
        contact_id = context.data["contact_id"]
        contact = {} if contact_id is None else await context.app.service("contacts").get(contact_id)
        meta = {f"meta_contact_{name}": contact.get(name) for name in ("first_name", "last_name", "email")}
        context.data = {**context.data, **meta}


async def update_ticket(context: Context) -> None:
    """Set the time of the last message on the ticket. Runs after create of a message."""
    message = context.result
    key = "support_ticket_id"
    times = dict.fromkeys(("last_message_at", "updated_at"), message["created_at"])
    # The hooks of tickets refuse to write this field, so the change goes past them, and the event follows by hand.
    ticket = await change_parent(context, "support-tickets", key, message[key], times)
    context.app.service("support-tickets").emit("patched", ticket)


def register(app: Apex) -> None:
    """Register the services ``support-tickets`` and ``support-ticket-messages``."""
    serve(
        app,
        "support-tickets",
        SupportTickets,
        checks={"search": [parse_search]},
        on_write=[copy_contact, search_lines(subject="subject_search")],
        hooks={"before": {"create": [assign_reference]}},
    )
    serve(app, "support-ticket-messages", SupportTicketMessages, hooks={"after": {"create": [update_ticket]}})
