"""Pipelines and their stages, through which deals move."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, UniqueConstraint

from apex import Apex, Context, Params
from apex.common import default_sort
from apex.describe import describe
from apex.errors import BadRequest, Conflict
from apex.query import Compare, Junction, Predicate, Query, every
from apex.query.coercion import integer
from apex.relations import belongs_to, has_many
from apex.schema import IdField, Schema, TextField, fields, validate
from apex.types import Row, items
from hooks.tenancy import MISSING, ORGANIZATION_ID
from services.shared.examples import examples_of
from services.shared.tenant import ADMINS_WRITE, OWNER, TenantSchema, TenantService, serve
from services.tables import Identifier, tenant_table, within

pipelines = tenant_table(
    "pipelines",
    Column("name", String(200), nullable=False),
    Column("position", Integer, nullable=False, default=0),
)
pipeline_stages = tenant_table(
    "pipeline_stages",
    Column("name", String(200), nullable=False),
    Column("pipeline_id", Identifier, nullable=False),
    Column("position", Integer, nullable=False, default=0),
    within("pipeline_id", "pipelines"),
    UniqueConstraint("organization_id", "pipeline_id", "id"),
)

Position = fields.Integer(strict=True, validate=validate.Range(0, 10_000))


class PipelineSchema(TenantSchema):
    """A pipeline as callers write it."""

    name = TextField(required=True, max=200)
    position = Position


class Pipelines(TenantService):
    """Pipelines, each with its stages."""

    table, schema, noun = pipelines, PipelineSchema, "pipeline"
    filters = {"move_to": integer}
    relations = {
        **OWNER,
        "stages": has_many(
            "pipeline-stages", "pipeline_id", fields=("id", "name", "position"), trusted=True, on_remove="cascade"
        ),
    }
    joins = ("stages",)
    permissions = ADMINS_WRITE
    examples = examples_of(1, {"name": "Sales"}, {"name": "Direct sales"})


class PipelineStageSchema(TenantSchema):
    """A stage as callers write it."""

    create_only = ("organization_id", "pipeline_id")

    name = TextField(required=True, max=200)
    pipeline_id = IdField(required=True)
    position = Position


class PipelineStages(TenantService):
    """The stages of pipelines. Each deal is in one."""

    table, schema, noun = pipeline_stages, PipelineStageSchema, "pipeline stage"
    relations = {**OWNER, "pipeline": belongs_to("pipelines")}
    filters = {"move_to": integer}
    permissions = ADMINS_WRITE
    examples = examples_of(1, {"name": "Qualified", "pipeline_id": 1}, {"position": 2})


class MoveQuery(Schema):
    """The query of ``remove``."""

    move_to = IdField(metadata={"description": "The stage to which open deals are moved first."})
    select = fields.List(fields.String(), data_key="$select")


@describe(methods=("remove",), query={"remove": MoveQuery}, errors=(409,))
async def lock_stages(context: Context) -> None:
    """Lock stages, so that nobody changes them or moves deals into them until the transaction ends.

    Runs before remove, before the records are locked. All calls lock stages in the order of their ids, so that none
    waits for another in a circle.
    """
    if context.params.parent:
        return
    of_pipeline = context.path == "pipelines"
    where: Predicate = Compare("pipeline_id" if of_pipeline else "id", "$eq", context.id)
    target = context.params.query.get("move_to")
    if target is not None:
        where = Junction("or", (where, Compare("id", "$eq", target)))
    scope = {name: value for name, value in context.params.scope.items() if name == ORGANIZATION_ID} | {
        "deleted_at": None
    }
    query = Query(where=where, select=("id",))
    params = Params({"query": query, "scope": scope, "paginate": False, "adapter": {"lock": True}})
    await context.app.service("pipeline-stages").service.find(params)


async def move_deals(context: Context) -> None:
    """Move the open deals of stages to the stage that ``move_to`` names.

    Runs before remove, after ``stash_before``. Raises Conflict if there are open deals and no stage is named, and
    BadRequest for a stage to which they cannot be moved.
    """
    stages: list[Row] = items(None, context.params.before)
    if not stages:
        return
    request = context.params.parent or context
    target = request.params.query.get("move_to")
    ids = [stage["id"] for stage in stages]
    open_deals = every(Compare("pipeline_stage_id", "$in", ids), Compare("status", "$eq", "open"))
    deals = context.app.service("deals")
    if target is not None:
        await _require_target(context, target, stages)
        data, adapter = {"pipeline_stage_id": target}, {"multi": ["patch"]}
        await deals.patch(None, data, {"query": Query(where=open_deals), "adapter": adapter})
        return
    page = await deals.find({"query": Query(where=open_deals, limit=0), "paginate": {"default": 0}})
    if count := page["total"]:
        what = f"{count:,} open deals are" if count > 1 else "1 open deal is"
        remedy = "move them with ?move_to=<id of a stage>" if count > 1 else "move it with ?move_to=<id of a stage>"
        raise Conflict(f"{what} in this {request.service.noun}: {remedy}", {"open_deals": count})


async def _require_target(context: Context, target: int, stages: list[Row]) -> None:
    """Raise BadRequest if deals of these stages cannot be moved to the target."""
    if target in [stage["id"] for stage in stages]:
        raise _wrong("Is removed itself: name another stage")
    query = {"id": target, ORGANIZATION_ID: stages[0][ORGANIZATION_ID], "$select": ["id"]}
    if not await context.service.find({"query": query, "paginate": False}):
        raise _wrong(MISSING)


def _wrong(rule: str) -> BadRequest:
    return BadRequest("The deals cannot be moved", errors={"move_to": rule})


def register(app: Apex) -> None:
    """Register the services ``pipelines`` and ``pipeline-stages``."""
    serve(
        app,
        "pipelines",
        Pipelines,
        locks={"remove": [lock_stages]},
        hooks={"before": {"find": [default_sort(position=1)]}},
    )
    serve(
        app,
        "pipeline-stages",
        PipelineStages,
        locks={"remove": [lock_stages]},
        hooks={"before": {"find": [default_sort(position=1)], "remove": [move_deals]}},
    )
