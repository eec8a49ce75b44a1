"""Pipelines and their stages: the way of a deal."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, UniqueConstraint

from apex import Apex
from apex.schema import Id, Text, fields, validate
from hooks.children import remove_children
from services.examples import examples_of
from services.tables import Identifier, tenant_table, within
from services.tenant import Join, TenantSchema, TenantService, serve

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
    name = Text(required=True, max=200)
    position = Position


class Pipelines(TenantService):
    """Pipelines, each with its stages."""

    table, schema, noun = pipelines, PipelineSchema, "pipeline"
    joins = (Join("stages", "pipeline-stages", "pipeline_id", ("id", "name", "position"), many=True),)
    writers = "admin"
    examples = examples_of(1, {"name": "Sales"}, {"name": "Direct sales"})


class PipelineStageSchema(TenantSchema):
    create_only = ("organization_id", "pipeline_id")

    name = Text(required=True, max=200)
    pipeline_id = Id(required=True)
    position = Position


class PipelineStages(TenantService):
    """The stages of pipelines: where a deal may be."""

    table, schema, noun = pipeline_stages, PipelineStageSchema, "pipeline stage"
    writers = "admin"
    examples = examples_of(1, {"name": "Qualified", "pipeline_id": 1}, {"position": 2})


def register(app: Apex) -> None:
    stages = remove_children("pipeline-stages", "pipeline_id")
    serve(app, "pipelines", Pipelines, hooks={"before": {"remove": [stages]}})
    serve(app, "pipeline-stages", PipelineStages)
