"""Pipelines and stages: their order, and the deals of removed ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.sales.deals import deals
from services.sales.pipelines import pipeline_stages
from tests.services.crm import OURS, Crm, make, make_deal, refused


async def sales(crm: Crm, *stages: str) -> list[dict[str, Any]]:
    """Create a pipeline with an open, a won and a lost deal in its first stage. Return the stages."""
    pipeline = await make(crm, "pipelines", name="Sales")
    made = [await make(crm, "pipeline-stages", name=name, pipeline_id=pipeline["id"]) for name in stages]
    for status in ("open", "won", "lost"):
        await make(crm, "deals", name=status, status=status, pipeline_stage_id=made[0]["id"])
    return made


async def test_stages_and_pipelines_come_by_position(crm: Crm) -> None:
    first, second = (
        await make(crm, "pipelines", name="B", position=2),
        await make(crm, "pipelines", name="A", position=1),
    )
    for name, position in (("c", 3), ("a", 1), ("b", 3)):
        await make(crm, "pipeline-stages", name=name, position=position, pipeline_id=first["id"])
    _, page = await crm.call("GET /pipeline-stages?organization_id=456")
    assert [stage["name"] for stage in page["data"]] == ["a", "c", "b"]
    _, page = await crm.call("GET /pipelines?organization_id=456")
    assert [pipeline["id"] for pipeline in page["data"]] == [second["id"], first["id"]]
    assert [stage["name"] for stage in page["data"][1]["stages"]] == ["a", "c", "b"]
    _, page = await crm.call("GET /pipeline-stages?organization_id=456&$sort[id]=1")
    assert [stage["name"] for stage in page["data"]] == ["c", "a", "b"]


async def test_a_stage_with_open_deals_cannot_be_removed(crm: Crm) -> None:
    stage, _ = await sales(crm, "New", "Offer")
    error = refused(await crm.call(f"DELETE /pipeline-stages/{stage['id']}"), 409)
    assert (error["message"], error["data"]) == (
        "1 open deal is in this pipeline stage: move it with ?move_to=<id of a stage>",
        {"open_deals": 1},
    )
    await make(crm, "deals", name="Another", pipeline_stage_id=stage["id"])
    error = refused(await crm.call(f"DELETE /pipelines/{stage['pipeline_id']}"), 409)
    assert error["message"].startswith("2 open deals are in this pipeline: ")
    assert (await crm.call(f"GET /pipeline-stages/{stage['id']}"))[0] == 200


async def test_deals_are_moved_before_their_stage_goes(crm: Crm) -> None:
    stage, offer = await sales(crm, "New", "Offer")
    heard: list[Any] = []
    crm.app.service("deals").on(
        "patched", lambda deal, context: heard.append((deal["name"], deal["pipeline_stage_id"]))
    )
    status, removed = await crm.call(f"DELETE /pipeline-stages/{stage['id']}?move_to={offer['id']}")
    assert (status, removed["id"], bool(removed["deleted_at"])) == (200, stage["id"], True)
    _, page = await crm.call("GET /deals?organization_id=456")
    assert [(deal["name"], deal["pipelineStage"]["name"]) for deal in page["data"]] == [
        ("open", "Offer"),
        ("won", "New"),
        ("lost", "New"),
    ]
    assert heard == [("open", offer["id"])]
    _, page = await crm.call("GET /audit?organization_id=456&service=deals&method=patch")
    assert [(entry["before"]["pipeline_stage_id"], entry["user_id"]) for entry in page["data"]] == [(stage["id"], 789)]


async def test_deals_of_a_pipeline_are_moved_to_another_one(crm: Crm) -> None:
    stage, offer = await sales(crm, "New", "Offer")
    other = await make(crm, "pipelines", name="Other")
    target = await make(crm, "pipeline-stages", name="Start", pipeline_id=other["id"])
    gone, path = {"move_to": target["id"]}, f"DELETE /pipelines/{stage['pipeline_id']}"
    for wrong in (stage["id"], offer["id"], 9999):
        refused(await crm.call(path, params={"move_to": wrong}), 400, "move_to")
    refused(await crm.call(path, params={"move_to": "x"}), 400, "move_to")
    assert (await crm.call(path, params=gone))[0] == 200
    _, page = await crm.call("GET /deals?organization_id=456&status=open")
    assert [(deal["pipeline"]["name"], deal["pipelineStage"]["name"]) for deal in page["data"]] == [("Other", "Start")]
    assert (await crm.call("GET /pipeline-stages?organization_id=456"))[1]["total"] == 1


async def test_deals_are_not_moved_to_another_organization(crm: Crm) -> None:
    stage, _ = await sales(crm, "New", "Offer")
    theirs = {"organization_id": 457}
    _, pipeline = await crm.call("POST /pipelines", theirs | {"name": "Theirs"}, user=791)
    _, foreign = await crm.call(
        "POST /pipeline-stages", theirs | {"name": "x", "pipeline_id": pipeline["id"]}, user=791
    )
    refused(await crm.call(f"DELETE /pipeline-stages/{stage['id']}?move_to={foreign['id']}"), 400, "move_to")


@pytest.mark.parametrize("moved", [True, False])
async def test_no_open_deal_stays_in_a_removed_stage(crm: Crm, moved: bool) -> None:
    """Deals are created in a stage and moved to it while it is removed."""
    pipeline = await make(crm, "pipelines", name="Sales")
    old, new = [await make(crm, "pipeline-stages", name=name, pipeline_id=pipeline["id"]) for name in ("old", "new")]
    into = OURS | {"pipeline_stage_id": old["id"]}
    waiting = [await make(crm, "deals", name="Waiting", pipeline_stage_id=new["id"]) for _ in range(4)]
    query = f"?move_to={new['id']}" if moved else ""
    await asyncio.gather(
        *(crm.call("POST /deals", into | {"name": f"New {place}"}) for place in range(6)),
        *(crm.call(f"PATCH /deals/{deal['id']}", {"pipeline_stage_id": old["id"]}) for deal in waiting),
        *(crm.call(f"DELETE /pipeline-stages/{old['id']}{query}") for _ in range(2)),
    )
    stages = {stage["id"]: stage["deleted_at"] for stage in await crm.rows(pipeline_stages)}
    assert not any(stages[deal["pipeline_stage_id"]] for deal in await crm.rows(deals))
    assert not moved or stages[old["id"]]


async def test_a_deal_can_be_opened_again_only_in_an_existing_stage(crm: Crm) -> None:
    stage, offer = await sales(crm, "New", "Offer")
    await crm.call(f"DELETE /pipeline-stages/{stage['id']}?move_to={offer['id']}")
    _, page = await crm.call("GET /deals?organization_id=456&status=won")
    [won] = page["data"]
    refused(await crm.call(f"PATCH /deals/{won['id']}", {"status": "open"}), 409, "pipeline_stage_id")
    opened = {"status": "open", "pipeline_stage_id": offer["id"]}
    assert (await crm.call(f"PATCH /deals/{won['id']}", opened))[1]["status"] == "open"


async def test_a_removed_pipeline_removes_its_stages(crm: Crm) -> None:
    deal = await make_deal(crm, status="lost")
    stage = f"/pipeline-stages/{deal['pipeline_stage_id']}"
    assert (await crm.call(f"DELETE /pipelines/{deal['pipeline_id']}"))[0] == 200
    refused(await crm.call(f"GET {stage}"), 404)
    lost = OURS | {"name": "Lost", "pipeline_stage_id": deal["pipeline_stage_id"]}
    refused(await crm.call("POST /deals", lost), 400, "pipeline_stage_id")
    assert (await crm.call(f"PATCH /deals/{deal['id']}", {"status": "won"}))[0] == 200
