"""Contacts: the people that an organization knows."""

from __future__ import annotations

from typing import Any

from marshmallow import validates_schema
from sqlalchemy import Column, Computed, Index, Integer, String, Text

from apex import Apex, Context
from apex.errors import BadRequest
from apex.relations import belongs_to
from apex.schema import EmailField, IdField, Schema, TextField, ValidationError, fields, validate
from apex.sql import Json, Timestamp
from apex.types import Row, items
from hooks.search_forms import search_forms
from services.custom_fields import CustomValues, check_values, type_query
from services.personal_data import Persons
from services.shared import phones
from services.shared.examples import examples_of
from services.shared.search import SearchSchema, parse_search
from services.shared.tenant import OWNER, TenantSchema, serve
from services.tables import Identifier, lines, partial_index, tenant_table, values_table, within

CRM = ("crm_id", "crm_source")

FIRST, LAST = "coalesce(first_name_form, '')", "coalesce(last_name_form, '')"
NAME_SEARCH = lines(FIRST, LAST, f"{FIRST} || ' ' || {LAST}")
EMAIL_SEARCH = lines("coalesce(email_form, '')")
PHONE_SEARCH = lines("coalesce(phone, '')", "replace(coalesce(phone_country_code, ''), '+', '') || coalesce(phone, '')")

contacts = tenant_table(
    "contacts",
    Column("first_name", String(100), nullable=False),
    Column("last_name", String(100)),
    Column("email", String(254)),
    Column("phone", String(20)),
    Column("phone_country_code", String(5)),
    Column("phone_country_iso", String(2)),
    Column("company_id", Identifier),
    Column("channel_whatsapp_wa_id", String(100)),
    Column("channel_instagram_user_id", String(100)),
    Column("system_type", String(40), nullable=False, default="contact"),
    Column("avatar_url", String(2048)),
    Column("custom_fields_by_name", Json, nullable=False, default=dict),
    Column("crm_id", String(200)),
    Column("crm_source", String(100)),
    Column("last_task_run", Timestamp),
    Column("total_tasks_run", Integer, nullable=False, default=0, server_default="0"),
    Column("first_name_form", Text),
    Column("last_name_form", Text),
    Column("email_form", Text),
    Column("name_search", Text, Computed(NAME_SEARCH, persisted=True)),
    Column("email_search", Text, Computed(EMAIL_SEARCH, persisted=True)),
    Column("phone_search", Text, Computed(PHONE_SEARCH, persisted=True)),
    within("company_id", "companies"),
    info={"search_index": "contacts_search"},
)
partial_index("ix_contacts_count", contacts.c.organization_id)
partial_index("ix_contacts_email", contacts.c.organization_id, contacts.c.email)
partial_index("ix_contacts_phone", contacts.c.organization_id, contacts.c.phone)
Index("ix_contacts_company", contacts.c.organization_id, contacts.c.company_id)
Index("ix_contacts_owner", contacts.c.organization_id, contacts.c.owned_by_user_id)
# An organization has one contact for each record of another system. A removed contact does not count.
partial_index("uq_contacts_crm", contacts.c.organization_id, contacts.c.crm_source, contacts.c.crm_id, unique=True)

contact_values = values_table("contact_values")


class Phone(TextField):
    """The digits of a phone number. Spaces, dots, dashes and brackets are removed."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            return phones.stripped(text)
        except ValueError as error:
            raise ValidationError(str(error)) from None


def check_country(code: str) -> None:
    """Raise ValidationError unless this is the ISO 3166 code of a country."""
    if phones.calling_code(code) is None:
        raise ValidationError(phones.NO_COUNTRY)


class CrmSchema(Schema):
    """The id of a contact in another system, and the name of that system. Callers give both or neither."""

    keywords = {"dependentRequired": {"crm_id": ["crm_source"], "crm_source": ["crm_id"]}}

    crm_id = TextField(max=200, allow_none=True)
    crm_source = TextField(max=100, allow_none=True)

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_crm(self, data: Any, original: dict[str, Any], **_: Any) -> None:
        """Require both fields if one of them is given, with a value or as null."""
        named = {name for name in CRM if name in original}
        given = {name for name in named if str(original[name] or "").strip()}
        lone = given if len(given) == 1 else named
        if len(lone) == 1:
            (missing,) = set(CRM) - lone
            raise ValidationError(f"Must be given together with {lone.pop()}", missing)


class ContactSchema(TenantSchema, CrmSchema):
    """A contact as callers write it."""

    first_name = TextField(required=True, max=100)
    last_name = TextField(max=100, allow_none=True)
    email = EmailField(max=254, allow_none=True)
    phone = Phone(max=20, allow_none=True)
    phone_country_code = TextField(
        max=5, allow_none=True, validate=validate.Regexp(phones.CODE, error="Must be a calling code such as +1")
    )
    phone_country_iso = TextField(max=2, allow_none=True, validate=check_country)
    company_id = IdField(allow_none=True)
    custom_fields_by_name = CustomValues()
    channel_whatsapp_wa_id = fields.String(dump_only=True)
    channel_instagram_user_id = fields.String(dump_only=True)
    system_type = fields.String(dump_only=True)
    avatar_url = fields.String(dump_only=True)

    @validates_schema(skip_on_field_errors=False)
    def check_phone(self, data: dict[str, Any], **_: Any) -> None:
        """Require that the number, the calling code and the country fit together, as far as they are given."""
        country, code, phone = (data.get(name) for name in ("phone_country_iso", "phone_country_code", "phone"))
        errors = phones.mismatch(country, code)
        if country and phone and (problem := phones.problem(phone, country)):
            errors["phone"] = problem
        if errors:
            raise ValidationError({field: [sentence] for field, sentence in errors.items()})


class ContactSearchSchema(SearchSchema):
    """The data of a search in names, e-mail addresses or phone numbers."""

    searchIn = fields.String(required=True, validate=validate.OneOf(["name", "email", "phone"]))
    phone_country_iso = fields.String()
    phone_country_code = fields.String()

    @validates_schema(skip_on_field_errors=False)
    def check_phone_search(self, data: Row, **_: Any) -> None:
        """Require a country and its calling code for a search in phone numbers."""
        country, code = data.get("phone_country_iso"), data.get("phone_country_code")
        errors = phones.mismatch(country, code)
        if data.get("searchIn") == "phone":
            required = {"phone_country_iso": country, "phone_country_code": code}
            errors |= {name: "Is required when searchIn is phone" for name, value in required.items() if not value}
        if errors:
            raise ValidationError({field: [sentence] for field, sentence in errors.items()})


class Contacts(Persons):
    """The contacts of an organization."""

    table, schema, noun = contacts, ContactSchema, "contact"
    multi = ("patch", "remove")
    merge, paths = ("custom_fields_by_name",), {"custom_fields_by_name": contact_values}
    private = (
        "uuid", "last_task_run", "total_tasks_run", "first_name_form", "last_name_form",
        "email_form", "name_search", "email_search", "phone_search",
    )  # fmt: skip
    on_demand = CRM
    import_keys = {
        "email": ("email",), "phone": ("phone", "phone_country_code"), "crm_id": ("crm_id", "crm_source"),
    }  # fmt: skip
    search_in = {"name": "name_search", "email": "email_search", "phone": "phone_search"}
    custom = {**Persons.custom, "search": ContactSearchSchema}
    relations = {**OWNER, "company": belongs_to("companies", fields=("id", "name"), trusted=True)}
    joins = ("owner", "company")
    join_filter = "fastJoinForContactList"
    examples = examples_of(
        123,
        {"first_name": "Jane", "last_name": "Smith", "email": "jane.smith@example.com", "company_id": 101},
        {"email": "john.updated@example.com", "custom_fields_by_name": {"Industry": "Energy"}},
        {
            "search": {"searchTerm": "john", "searchIn": "name", "$limit": 5},
            "import": {"rows": [{"first_name": "Ada", "email": "ada@example.com"}], "upsert": "email"},
            "export": {"format": "json"},
            "personal_data": {"id": 123},
            "erase": {"id": 123},
        },
    )

    def complete_key(self, row: Row) -> Row:
        """Add the calling code of the row's country."""
        return phones.with_code(row, {}) if isinstance(row.get("phone_country_iso"), str) else row


def add_code(context: Context) -> None:
    """Add the calling code to a country that is given without one.

    Runs before create and patch. Raises BadRequest if a patch would give several contacts different codes.
    """
    if context.method == "create":
        context.items = [phones.with_code(row, {}) for row in context.items]
        return
    changes = [phones.with_code(context.data, row) for row in items(None, context.params.before)]
    if any(change != changes[0] for change in changes):
        rule = "Would differ, as the contacts have several countries: change those of each country by themselves"
        raise BadRequest("Invalid contact data", errors={"phone_country_code": rule})
    context.data = changes[0] if changes else context.data


def register(app: Apex) -> None:
    """Register the service ``contacts``. ``apex routes contacts`` prints all its hooks in their order."""
    serve(
        app,
        "contacts",
        Contacts,
        checks={"search": [parse_search]},
        on_write=[
            add_code,
            check_values,
            search_forms(first_name="first_name_form", last_name="last_name_form", email="email_form"),
        ],
        hooks={"before": {"find": [type_query]}},
    )
