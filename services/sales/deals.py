"""Deals: possible sales on their way through a pipeline."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

from sqlalchemy import Column, Date, ForeignKeyConstraint, String, Text, bindparam, func, literal, select

from apex import Apex, Context, Params
from apex.common import changed_fields, now
from apex.describe import describe
from apex.errors import BadRequest, Conflict
from apex.permissions import can
from apex.query import Compare, Query
from apex.relations import belongs_to, has_many
from apex.schema import IdField, Schema, TextField, fields, validate
from apex.sql import Timestamp
from apex.types import Row, items
from hooks.search_forms import search_lines
from hooks.tenancy import MISSING, ORGANIZATION_ID
from services.sales.money import Amount, Money
from services.shared.examples import examples_of
from services.shared.search import Searchable, parse_search
from services.shared.tenant import PERSON_FIELDS, WRITES, TenantSchema, serve
from services.tables import Identifier, tenant_table, within

deals = tenant_table(
    "deals",
    Column("name", String(200), nullable=False),
    Column("amount", Money),
    Column("amount_without_products", Money),
    Column("currency", String(3), nullable=False, default="USD"),
    Column("status", String(10), nullable=False, default="open"),
    Column("pipeline_id", Identifier, nullable=False),
    Column("pipeline_stage_id", Identifier, nullable=False),
    Column("contact_id", Identifier),
    Column("company_id", Identifier),
    Column("won_date", Timestamp),
    Column("lost_date", Timestamp),
    Column("expected_close_date", Date),
    Column("name_search", Text),
    within("pipeline_id", "pipelines"),
    within("contact_id", "contacts"),
    within("company_id", "companies"),
    ForeignKeyConstraint(
        ["organization_id", "pipeline_id", "pipeline_stage_id"],
        ["pipeline_stages.organization_id", "pipeline_stages.pipeline_id", "pipeline_stages.id"],
    ),
    info={"search_index": "deals_search"},
)

c = deals.c

STATUSES = ("open", "won", "lost")
PRODUCT_FIELDS = (
    "id", "quantity", "price", "description", "discount_type", "discount_amount", "discount_percentage",
    "tax_percentage", "total_amount_with_tax", "total_amount_without_tax", "product_id", "name", "sku", "created_at",
    "updated_at", "deleted_at", "main_media_path",
)  # fmt: skip


class DealSchema(TenantSchema):
    """A deal as callers write it."""

    name = TextField(required=True, max=200)
    amount = Amount(allow_none=True)
    currency = fields.String(validate=validate.Regexp(r"[A-Z]{3}\Z", error="Must be a currency code such as USD"))
    status = fields.String(validate=validate.OneOf(STATUSES))
    pipeline_id = IdField()
    pipeline_stage_id = IdField(required=True)
    contact_id = IdField(allow_none=True)
    company_id = IdField(allow_none=True)
    won_date = fields.DateTime(dump_only=True)
    lost_date = fields.DateTime(dump_only=True)
    expected_close_date = fields.Date(allow_none=True)


class DealRecord(DealSchema):
    """A deal as calls inside the process may write it."""

    amount_without_products = Amount(allow_none=True)


class SummarySchema(Schema):
    """The deals that ``summary`` counts."""

    organization_id = IdField(required=True)
    pipeline_id = IdField()
    owned_by_user_id = IdField()
    status = fields.String(validate=validate.OneOf(STATUSES))


SUM_SHAPE = {
    "title": "DealSum",
    "type": "object",
    "properties": {
        **{name: {"type": "integer"} for name in ("pipeline_id", "pipeline_stage_id")},
        "currency": {"type": "string"},
        "count": {"type": "integer", "minimum": 1},
        "amount": {"type": "string", "format": "decimal"},
    },
    "required": ["pipeline_id", "pipeline_stage_id", "currency", "count", "amount"],
    "additionalProperties": False,
}


class Deals(Searchable):
    """The deals of an organization."""

    table, schema, record, noun = deals, DealSchema, DealRecord, "deal"
    transactions = WRITES
    multi = ("patch", "remove")
    methods = (*Searchable.methods, "summary")
    permissions = {**Searchable.permissions, "viewer": can("find", "get", "search", "summary")}
    private = ("uuid", "name_search", "amount_without_products")
    search_in, reads = {"name": "name_search"}, (*Searchable.reads, "summary")
    custom = {**Searchable.custom, "summary": SummarySchema}
    summaries = {"summary": "Sum deals by stage and currency"}
    relations = {
        # A won or lost deal may be in a stage that is removed.
        "pipelineStage": belongs_to(
            "pipeline-stages", "pipeline_stage_id", fields=("id", "name", "pipeline_id"), removed=True, trusted=True
        ),
        "pipeline": belongs_to("pipelines", fields=("id", "name"), removed=True, trusted=True),
        "company": belongs_to(
            "companies",
            fields=("id", "name", "organization_id", "created_by_user_id", "owned_by_user_id"),
            trusted=True,
        ),
        "contact": belongs_to(
            "contacts",
            fields=(
                "id",
                "first_name",
                "last_name",
                "email",
                "phone",
                "phone_country_code",
                "company_id",
                "avatar_url",
            ),
            trusted=True,
        ),
        "owner": belongs_to("users", "owned_by_user_id", fields=(*PERSON_FIELDS, "email"), trusted=True),
        "dealProducts": has_many("deal-products", "deal_id", fields=PRODUCT_FIELDS, trusted=True, on_remove="cascade"),
    }
    joins = ("pipelineStage", "pipeline", "company", "contact", "owner", "dealProducts")
    examples = examples_of(
        1,
        {"name": "100 notebooks", "pipeline_stage_id": 1, "contact_id": 123, "currency": "EUR"},
        {"status": "won"},
        {"search": {"searchTerm": "notebooks"}, "summary": {"status": "open"}},
    )

    @describe(result={"type": "array", "items": SUM_SHAPE})
    async def summary(self, data: Row, params: Params) -> list[Row]:
        """Count the deals of each stage and currency, and add up their amounts.

        `pipeline_id`, `owned_by_user_id` and `status` select the deals.
        """
        filters = {name: value for name, value in data.items() if name != ORGANIZATION_ID}
        group = (c.pipeline_id, c.pipeline_stage_id, c.currency)
        total = func.coalesce(func.sum(c.amount), literal(Decimal("0.00"), Money), type_=Money).label("amount")
        sums = (
            select(*group, func.count().label("count"), total)
            .where(c[ORGANIZATION_ID] == bindparam(ORGANIZATION_ID), c.deleted_at.is_(None))
            .where(*(c[name] == bindparam(name) for name in filters))
            .group_by(*group)
            .order_by(*group)
        )
        return await self.database.execute(sums, {ORGANIZATION_ID: params.scope[ORGANIZATION_ID][0], **filters})


async def place_in_pipeline(context: Context) -> None:
    """Set the pipeline of a deal to that of its stage, and lock the stage until the transaction ends.

    Runs before create and patch, before the deals are locked. Raises BadRequest if the caller names another pipeline.
    """
    stage_ids = {row["pipeline_stage_id"] for row in context.items if row.get("pipeline_stage_id") is not None}
    stages = await _lock_stages(context, stage_ids)
    for row in context.items:
        stage_id, pipeline_id = row.get("pipeline_stage_id"), row.get("pipeline_id")
        if stage_id is not None and stage_id not in stages:
            # For a call from outside, ``refers_within`` names all wrong references together.
            if not context.params.provider:
                raise _wrong(pipeline_stage_id=MISSING)
            continue
        stage = stages.get(stage_id, {})
        if pipeline_id not in (None, stage.get("pipeline_id")):
            raise _wrong(pipeline_stage_id=f"Must be a stage of pipeline {pipeline_id}")
        if stage:
            row["pipeline_id"] = stage["pipeline_id"]


async def _lock_stages(context: Context, ids: Collection[int]) -> dict[int, Row]:
    """Return the existing stages by id. Nobody can remove them until the transaction ends."""
    if not ids:
        return {}
    scope = {name: value for name, value in context.params.scope.items() if name == ORGANIZATION_ID} | {
        "deleted_at": None
    }
    query = Query(where=Compare("id", "$in", sorted(ids)), select=("pipeline_id",))
    params = Params({"query": query, "scope": scope, "paginate": False, "adapter": {"lock": "share"}})
    return {stage["id"]: stage for stage in await context.app.service("pipeline-stages").service.find(params)}


async def set_status_dates(context: Context) -> None:
    """Set the date on which a deal is won or lost. A patch with the same status keeps the date.

    Runs before create and patch.
    """
    if context.method == "create":
        context.items = [row | _status_dates(row.get("status")) for row in context.items]
        return
    status = context.data.get("status")
    others = [row["id"] for row in items(None, context.params.before) if row["status"] != status]
    if status is None or not others:
        return
    if context.id is not None:
        context.data = context.data | _status_dates(status)
        return
    # Deals that already have the status keep their dates, so a statement of its own changes the other ones.
    query = Query(where=Compare("id", "$in", others), select=("id",))
    await context.service.service.patch(None, _status_dates(status), Params({"query": query}))


def _status_dates(status: str | None) -> Row:
    return {} if status is None else {f"{one}_date": now() if status == one else None for one in ("won", "lost")}


async def require_stage(context: Context) -> None:
    """Refuse to open or restore a deal whose stage is removed. Raises Conflict.

    Runs before patch and restore, after ``stash_before``.
    """
    restores = context.method == "restore"
    data = {} if restores else context.data
    moves = not restores and any(new.get("pipeline_stage_id") for new in changed_fields(context, "pipeline_stage_id"))
    if moves or not (restores or data.get("status") == "open"):
        return
    deals = [row for row in items(None, context.params.before) if restores == (row["status"] == "open")]
    stages = {row["pipeline_stage_id"] for row in deals}
    removed = sorted(stages - (await _lock_stages(context, stages)).keys())
    if removed:
        remedy = "restore that first" if restores else "name another stage"
        raise Conflict(
            f"The pipeline stage {removed[0]} is removed: {remedy}", errors={"pipeline_stage_id": "Is removed"}
        )


async def protect_sum(context: Context) -> None:
    """Refuse to change the amount of a deal with products, which is their sum. Raises BadRequest.

    Runs before patch.
    """
    if context.params.provider and "amount" in context.data:
        amount = context.data["amount"]
        ids = [row["id"] for row in items(None, context.params.before) if row["amount"] != amount]
        query = Query(where=Compare("deal_id", "$in", ids), limit=1, select=("deal_id",))
        found = await context.app.service("deal-products").find({"query": query, "paginate": False})
        if found:
            which = " of the deal" if context.id is not None else f" of deal {found[0]['deal_id']}"
            raise _wrong(amount=f"Is the sum of the products{which}: change those")


def _wrong(**errors: str) -> BadRequest:
    return BadRequest("Invalid deal data", errors=errors)


def register(app: Apex) -> None:
    """Register the service ``deals``."""
    serve(
        app,
        "deals",
        Deals,
        checks={"search": [parse_search]},
        locks={"create": [place_in_pipeline], "patch": [place_in_pipeline]},
        on_write=[set_status_dates, search_lines(name="name_search")],
        hooks={"before": {"patch": [protect_sum, require_stage], "restore": [require_stage]}},
    )
