"""Contacts: the people an organization knows."""

from __future__ import annotations

import math
from typing import Any

from marshmallow import validates_schema

from apex import Apex, Context
from apex.coerce import boolean
from apex.common import populate
from apex.schema import Email, Id, Text, ValidationError, fields, validate
from hooks.search_forms import search_forms
from services import phones
from services.audience import to_organization
from services.search import Searchable, SearchSchema, search_query
from services.tables import contacts
from services.tenant import TenantSchema, tenant_hooks

JOIN = "fastJoinForContactList"
MESSAGE = "Invalid contact data"


class Phone(Text):
    """Digits; spaces, dots, dashes and brackets are taken out."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            return phones.stripped(text)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class Plain(fields.Field[Any]):
    """A string, a finite number, a boolean or null."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, str):
            return Text(max=5000, min=0).deserialize(value)
        fits = (isinstance(value, int) and abs(value) < 2**63) or (isinstance(value, float) and math.isfinite(value))
        if fits:
            return value
        raise ValidationError("Must be a string, a number of at most 64 bits, a boolean or null")


class ContactSchema(TenantSchema):
    first_name = Text(required=True, max=100)
    last_name = Text(max=100, allow_none=True)
    email = Email(max=254, allow_none=True)
    phone = Phone(max=20, allow_none=True)
    phone_country_code = Text(
        max=5, allow_none=True, validate=validate.Regexp(phones.CODE, error="Must be a calling code such as +1")
    )
    phone_country_iso = Text(max=2, allow_none=True)
    company_id = Id(allow_none=True)
    custom_fields_by_name = fields.Dict(keys=Text(max=100), values=Plain(allow_none=True))
    channel_whatsapp_wa_id = fields.String(dump_only=True)
    channel_instagram_user_id = fields.String(dump_only=True)
    system_type = fields.String(dump_only=True)
    avatar_url = fields.String(dump_only=True)

    @validates_schema(skip_on_field_errors=False)
    def check_phone(self, data: dict[str, Any], **_: Any) -> None:
        """The number, the calling code and the country must go together, as far as they are given."""
        country, code, phone = (data.get(name) for name in ("phone_country_iso", "phone_country_code", "phone"))
        errors = phones.mismatch(country, code)
        if country and "phone_country_iso" not in errors and phone and (problem := phones.problem(phone, country)):
            errors["phone"] = problem
        if errors:
            raise ValidationError({field: [sentence] for field, sentence in errors.items()})


class Contacts(Searchable):
    table = contacts
    methods = ("find", "get", "create", "patch", "remove", "search")
    filters = {JOIN: boolean}
    merge = ("custom_fields_by_name",)
    private = (
        "uuid", "first_name_form", "last_name_form", "email_form", "name_search", "email_search", "phone_search",
    )  # fmt: skip
    search_in = {"name": "name_search", "email": "email_search", "phone": "phone_search"}


def is_join_asked(context: Context) -> bool:
    return bool(context.params.query.get(JOIN))


def register(app: Apex) -> None:
    forms = search_forms(first_name="first_name_form", last_name="last_name_form", email="email_form")
    people = ("id", "first_name", "last_name")
    joins = [
        populate("owner", service="users", key="owned_by_user_id", fields=people, when=is_join_asked),
        populate("company", service="companies", key="company_id", fields=("id", "name"), when=is_join_asked),
    ]
    hooks = tenant_hooks(
        ContactSchema,
        MESSAGE,
        custom={"search": SearchSchema},
        references={"company_id": ("companies", "id")},
        checks=[search_query],
        on_write=[forms],
        after={"find": joins},
    )
    app.use("contacts", Contacts(paginate=app.get("paginate")), hooks=hooks)
    app.service("contacts").publish(to_organization)
