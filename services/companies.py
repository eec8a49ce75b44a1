"""Companies: where contacts work."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Column, Computed, String
from sqlalchemy import Text as Unbounded

from apex import Apex
from apex.predicates import Compare
from apex.query import Query
from apex.schema import Text, fields, validate
from apex.sql import Json
from hooks.search_forms import search_forms
from hooks.tenancy import FIELD
from services.counters import next_value
from services.custom_fields import CUSTOM_FIELDS, CustomValues, check_values
from services.examples import examples_of
from services.search import SearchSchema, serve_searchable
from services.tables import lines, partial_index, tenant_table, values_table
from services.tenant import PERSON, Join, TenantSchema
from services.transfer import Transferable

companies = tenant_table(
    "companies",
    Column("name", String(200), nullable=False),
    Column("description", String(5000)),
    Column("website", String(2048)),
    Column("industry", String(200)),
    Column("size", String(100)),
    Column("custom_fields_by_name", Json, nullable=False, default=dict),
    Column("name_form", Unbounded),
    Column("name_search", Unbounded, Computed(lines("coalesce(name_form, '')"), persisted=True)),
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
    name = Text(required=True, max=200)
    description = Text(max=5000, allow_none=True)
    website = Text(max=2048, allow_none=True, validate=WEBSITE)
    industry = Text(max=200, allow_none=True)
    size = Text(max=100, allow_none=True)
    custom_fields_by_name = CustomValues()


class CompanySearchSchema(SearchSchema):
    searchIn = fields.String(load_default="name", validate=validate.OneOf(["name"]))


class Companies(Transferable):
    table, schema, noun = companies, CompanySchema, "company"
    merge, paths = ("custom_fields_by_name",), {"custom_fields_by_name": company_values}
    private = ("uuid", "name_form", "name_search")
    upsert = {"name": ("name",)}
    search_in, custom = {"name": "name_search"}, {**Transferable.custom, "search": CompanySearchSchema}
    joins = (Join("creator", "users", "created_by_user_id", PERSON), Join("owner", "users", "owned_by_user_id", PERSON))
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


async def company_named(app: Apex, name: str, organization_id: int, user: Any) -> int:
    """The id of the organization's company of this name, the oldest of several; it is made where there is none.

    To be called in a unit of work: two that miss the same name make it once, as the second one waits for the first.
    """
    companies = app.service("companies")
    inside = {"scope": {FIELD: organization_id}, "user": user, "paginate": False}
    query = Query(where=Compare("name", "$eq", name), limit=1, select=("id",))
    found = await companies.find({**inside, "query": query})
    if not found:
        await next_value(app.get("database"), organization_id, "companies", step=0)
        found = await companies.find({**inside, "query": query})
    company = found[0] if found else await companies.create({FIELD: organization_id, "name": name}, inside)
    return int(company["id"])


def register(app: Apex) -> None:
    forms = search_forms(name="name_form")
    serve_searchable(app, "companies", Companies, on_write=[check_values, forms], hooks=CUSTOM_FIELDS)
