"""Companies: the employers of contacts."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from sqlalchemy import Column, Computed, String, Text

from apex import Apex
from apex.query import Compare, Query
from apex.relations import belongs_to
from apex.schema import TextField, validate
from apex.sql import Json
from hooks.search_forms import search_forms
from hooks.tenancy import ORGANIZATION_ID
from services.custom_fields import CustomValues, check_values, type_query
from services.shared.counters import next_value
from services.shared.examples import examples_of
from services.shared.search import parse_search
from services.shared.tenant import OWNER, PERSON_FIELDS, TenantSchema, serve
from services.tables import lines, partial_index, tenant_table, values_table
from services.transfer.transferable import Transferable

companies = tenant_table(
    "companies",
    Column("name", String(200), nullable=False),
    Column("description", String(5000)),
    Column("website", String(2048)),
    Column("industry", String(200)),
    Column("size", String(100)),
    Column("custom_fields_by_name", Json, nullable=False, default=dict),
    Column("name_form", Text),
    Column("name_search", Text, Computed(lines("coalesce(name_form, '')"), persisted=True)),
    info={"search_index": "companies_search"},
)
partial_index("ix_companies_name", companies.c.organization_id, companies.c.name)

company_values = values_table("company_values")


WEBSITE = validate.Regexp(
    r"(https?://[\w.-]+|[\w-]+(\.[\w-]+)+)(:[0-9]{1,5})?([/?#]\S*)?\Z",
    re.IGNORECASE,
    error="Must be a domain or an http(s) URL such as https://example.com",
)


class CompanySchema(TenantSchema):
    """A company as callers write it."""

    name = TextField(required=True, max=200)
    description = TextField(max=5000, allow_none=True)
    website = TextField(max=2048, allow_none=True, validate=WEBSITE)
    industry = TextField(max=200, allow_none=True)
    size = TextField(max=100, allow_none=True)
    custom_fields_by_name = CustomValues()


class Companies(Transferable):
    """The companies of an organization."""

    table, schema, noun = companies, CompanySchema, "company"
    multi = ("patch", "remove")
    merge, paths = ("custom_fields_by_name",), {"custom_fields_by_name": company_values}
    private = ("uuid", "name_form", "name_search")
    import_keys = {"name": ("name",)}
    search_in = {"name": "name_search"}
    relations = {**OWNER, "creator": belongs_to("users", "created_by_user_id", fields=PERSON_FIELDS, trusted=True)}
    joins = ("creator", "owner")
    join_filter = "fastJoinForCompanyList"
    examples = examples_of(
        101,
        {"name": "New Corp", "website": "https://example.com", "industry": "Energy"},
        {"size": "11-50"},
        {
            "search": {"searchTerm": "corp"},
            "import": {"rows": [{"name": "Sample Inc", "industry": "Retail"}], "upsert": "name", "dry_run": True},
            "export": {"format": "json"},
        },
    )


async def find_companies(app: Apex, names: Collection[str], organization_id: int) -> dict[str, int]:
    """Return the ids of the organization's companies with these names, by name.

    If several companies have one name, the oldest is returned.
    """
    if not names:
        return {}
    query = Query(
        where=Compare("name", "$in", sorted(names)), select=("id", "name"), sort=(("id", 1),),
        limit=1 if len(names) == 1 else None,
    )  # fmt: skip
    params = {"scope": {ORGANIZATION_ID: organization_id}, "query": query, "paginate": False}
    found = await app.service("companies").find(params)
    return {company["name"]: company["id"] for company in reversed(found)}


async def ensure_companies(app: Apex, names: Collection[str], organization_id: int, user: Any) -> dict[str, int]:
    """Create the companies with these names that do not exist. Return the ids of all of them, by name.

    Call it in a transaction: another call for the same organization waits until that is committed.
    """
    if not names:
        return {}
    await next_value(app.get("database"), organization_id, "companies", step=0)
    existing = await find_companies(app, names, organization_id)
    rows = [{ORGANIZATION_ID: organization_id, "name": name} for name in names if name not in existing]
    params = {"scope": {ORGANIZATION_ID: organization_id}, "user": user, "adapter": {"multi": True}}
    created = await app.service("companies").create(rows, params) if rows else []
    return existing | {company["name"]: company["id"] for company in created}


def register(app: Apex) -> None:
    """Register the service ``companies``."""
    serve(
        app,
        "companies",
        Companies,
        checks={"search": [parse_search]},
        on_write=[check_values, search_forms(name="name_form")],
        hooks={"before": {"find": [type_query]}},
    )
