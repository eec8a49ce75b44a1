"""Search in deals, activities and tickets, lists of tickets by tags, and sums of deals."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from apex.tenant import tenant_context
from tests.services.crm import OURS, SEARCH, Crm, make, make_deal, refused, running

SUMMARY = {"X-Service-Method": "summary"}


async def found(crm: Crm, path: str, term: str, where: str | None = None, **more: Any) -> list[int]:
    data = OURS | {"searchTerm": term} | ({} if where is None else {"searchIn": where}) | more
    status, page = await crm.call(f"POST /{path}", data, headers=SEARCH)
    assert status == 200, page
    return [record["id"] for record in page["data"]]


async def test_deals_are_found_by_their_name(crm: Crm) -> None:
    big = await make_deal(crm, amount="5")
    small = await make(crm, "deals", name="Größere Bühne", pipeline_stage_id=big["pipeline_stage_id"])
    assert await found(crm, "deals", "BUHN") == await found(crm, "deals", "üh") == [small["id"]]
    assert await found(crm, "deals", "big", "name") == [big["id"]]
    await crm.call(f"PATCH /deals/{small['id']}", {"name": "Bigger"})
    assert await found(crm, "deals", "big") == [big["id"], small["id"]]
    assert await found(crm, "deals", "buhne") == []
    await crm.call(f"DELETE /deals/{big['id']}")
    assert await found(crm, "deals", "big") == [small["id"]]


async def test_activities_are_found_by_subject_and_note(crm: Crm) -> None:
    first = await make(crm, "activities", subject="Call José", note="About the\n50% offer", activity_type="call")
    second = await make(crm, "activities", subject="Call Ann", activity_type="call")
    assert await found(crm, "activities", "jose") == [first["id"]]
    assert await found(crm, "activities", "call", "subject") == [second["id"], first["id"]]
    assert await found(crm, "activities", "the 50% off", "note") == await found(crm, "activities", "0%", "note")
    assert await found(crm, "activities", "the 50% off", "note") == [first["id"]]
    await crm.call(f"PATCH /activities/{first['id']}", {"note": None})
    assert await found(crm, "activities", "offer", "note") == []


async def test_tickets_are_found_by_subject_and_reference(crm: Crm) -> None:
    first, second = [await make(crm, "support-tickets", subject=f"Où est {name}?") for name in ("Ann", "Bob")]
    assert await found(crm, "support-tickets", "ou est") == [second["id"], first["id"]]
    number = second["reference_number"]
    assert await found(crm, "support-tickets", number.lower(), "reference_number") == [second["id"]]
    assert await found(crm, "support-tickets", number[-3:], "reference_number") == [second["id"]]


@pytest.mark.parametrize("path", ["deals", "activities", "support-tickets"])
async def test_a_search_stays_in_its_organization(crm: Crm, path: str) -> None:
    term = OURS | {"searchTerm": "call"}
    refused(await crm.call(f"POST /{path}", term, 791, headers=SEARCH), 403)
    refused(await crm.call(f"POST /{path}", term | {"searchIn": "phone"}, headers=SEARCH), 400, "searchIn")
    refused(await crm.call(f"POST /{path}", OURS | {"searchTerm": "c"}, headers=SEARCH), 400, "searchTerm")


async def test_search_forms_are_not_shown(crm: Crm) -> None:
    ticket = await make(crm, "support-tickets", subject="Where?")
    assert not [name for name in ticket if name.endswith("_search")]
    refused(await crm.call("GET /support-tickets?organization_id=456&subject_search=x"), 400)
    entry = (await crm.call("GET /audit?organization_id=456&service=support-tickets"))[1]["data"][0]
    assert not [name for name in entry["after"] if name.endswith("_search")]


async def tagged(crm: Crm, query: str) -> list[str]:
    status, page = await crm.call(f"GET /support-tickets?organization_id=456&$sort[id]=1&{query}")
    assert status == 200, page
    return [ticket["subject"] for ticket in page["data"]]


async def test_tickets_are_listed_by_their_tags(crm: Crm) -> None:
    for subject, tags in (("one", ["login"]), ("two", ["login", "urgent"]), ("three", ["log"]), ("four", [])):
        await make(crm, "support-tickets", subject=subject, tags=tags)
    assert await tagged(crm, "tags=login") == ["one", "two"]
    assert await tagged(crm, "tags[$in][]=urgent&tags[$in][]=log") == ["two", "three"]
    assert await tagged(crm, "tags[$ne]=login") == ["three", "four"]
    assert await tagged(crm, "tags[$nin][]=login&tags[$nin][]=log") == ["four"]
    assert await tagged(crm, "$and[0][tags]=login&$and[1][tags]=urgent") == ["two"]
    refused(await crm.call("GET /support-tickets?organization_id=456&tags[$like]=l"), 400)
    refused(await crm.call("GET /support-tickets?organization_id=456&$sort[tags]=1"), 400)


MANY_TICKETS = """
    INSERT INTO organizations (id, uuid, name, subscription_status, created_at, updated_at)
    VALUES (1, gen_random_uuid(), 'Old', 'active', now(), now());
    INSERT INTO support_tickets (uuid, organization_id, created_at, updated_at, reference_number, subject, status,
        priority, tags)
    SELECT gen_random_uuid(), 1, now(), now(), n, 'x', 'open', 'low', jsonb_build_array('all', n::text)
    FROM generate_series(1, 3000) AS n;
    ANALYZE support_tickets
"""
ASKED = "SELECT id FROM support_tickets WHERE deleted_at IS NULL AND tags @> ANY (ARRAY['\"7\"', '\"9\"']::jsonb[])"


def test_tags_are_found_in_an_index(migrated_postgres_url: str) -> None:
    with psycopg.connect(migrated_postgres_url) as connection:
        connection.execute(MANY_TICKETS)
        assert "ix_support_tickets_tags" in str(connection.execute(f"EXPLAIN {ASKED}".encode()).fetchall())
        assert len(connection.execute(ASKED.encode()).fetchall()) == 2


async def test_deals_are_summed_by_stage_and_currency(crm: Crm) -> None:
    deal = await make_deal(crm, amount="0.10")
    stage, pipeline = deal["pipeline_stage_id"], deal["pipeline_id"]
    for more in ({"amount": "0.20"}, {"amount": "999999999999.99", "currency": "EUR"}, {"status": "won"}):
        await make(crm, "deals", name="More", pipeline_stage_id=stage, **more)
    other = await make_deal(crm, amount="5.00", owned_by_user_id=790)
    gone = await make(crm, "deals", name="Gone", pipeline_stage_id=stage, amount="7.00")
    await crm.call(f"DELETE /deals/{gone['id']}")
    place = {"pipeline_id": pipeline, "pipeline_stage_id": stage}
    there = {name: other[name] for name in place}
    crm.statements.clear()
    assert await crm.call("POST /deals", OURS, headers=SUMMARY) == (200, [
        place | {"currency": "EUR", "count": 1, "amount": "999999999999.99"},
        place | {"currency": "USD", "count": 3, "amount": "0.30"},
        there | {"currency": "USD", "count": 1, "amount": "5.00"},
    ])  # fmt: skip
    assert len([sql for sql in crm.statements if "sum(" in sql.lower()]) == 1

    async def summed(**asked: Any) -> list[tuple[int, str]]:
        status, sums = await crm.call("POST /deals", OURS | asked, headers=SUMMARY)
        assert status == 200, sums
        return [(each["count"], each["amount"]) for each in sums]

    assert await summed(status="won") == [(1, "0.00")]
    assert await summed(owned_by_user_id=790) == await summed(pipeline_id=there["pipeline_id"]) == [(1, "5.00")]
    assert await summed(status="lost") == []


async def test_the_sums_of_others_are_forbidden(crm: Crm) -> None:
    await make_deal(crm, amount="5.00")
    refused(await crm.call("POST /deals", OURS, 791, headers=SUMMARY), 403)
    assert await crm.call("POST /deals", {"organization_id": 457}, 791, headers=SUMMARY) == (200, [])
    refused(await crm.call("POST /deals", {}, headers=SUMMARY), 400, "organization_id")
    refused(await crm.call("POST /deals", OURS | {"status": "x"}, headers=SUMMARY), 400, "status")


async def test_postgresql_itself_keeps_tags_to_the_reach(migrated_postgres_url: str) -> None:
    async with running(migrated_postgres_url) as crm:
        ticket = await make(crm, "support-tickets", subject="Where is it?", tags=["login"])
        tickets = crm.app.service("support-tickets")
        for reach, ids in (("457", []), ("456", [ticket["id"]])):
            with tenant_context(reach):
                rows = await tickets.find({"query": {"tags": "login"}, "paginate": False})
            assert [row["id"] for row in rows] == ids


async def test_companies_are_searched_and_joined(crm: Crm) -> None:
    await make(crm, "companies", name="Møller & Söhne")
    data = OURS | {"searchTerm": "moller"}
    status, page = await crm.call("POST /companies", data, headers={"X-Service-Method": "search"})
    assert (status, [company["name"] for company in page["data"]]) == (200, ["Møller & Söhne"])
    _, page = await crm.call("GET /companies?organization_id=456&fastJoinForCompanyList=true&id=101")
    admin = {"id": 789, "first_name": "Admin", "last_name": "User"}
    assert (page["data"][0]["creator"], page["data"][0]["owner"]) == (admin, admin)
