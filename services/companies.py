"""Companies: where contacts work."""

from __future__ import annotations

from apex import Apex, SQLService
from apex.schema import Text
from services.audience import to_organization
from services.tables import companies
from services.tenant import TenantSchema, tenant_hooks


class CompanySchema(TenantSchema):
    name = Text(required=True, max=200)
    description = Text(max=5000, allow_none=True)
    website = Text(max=2048, allow_none=True)
    industry = Text(max=200, allow_none=True)
    size = Text(max=100, allow_none=True)


class Companies(SQLService):
    table = companies
    methods = ("find", "get", "create", "patch", "remove")
    private = ("uuid",)


def register(app: Apex) -> None:
    hooks = tenant_hooks(CompanySchema, "Invalid company data")
    app.use("companies", Companies(paginate=app.get("paginate")), hooks=hooks)
    app.service("companies").publish(to_organization)
