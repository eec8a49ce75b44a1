"""Estimated totals on PostgreSQL, whose planner does not know the policies that separate organizations."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.services.crm import LIST, Crm, running

ORGANIZATIONS, CONTACTS = 300, 2_000

ROWS = f"""
    INSERT INTO organizations (id, uuid, name, subscription_status, created_at, updated_at)
    SELECT 1000 + n, gen_random_uuid(), 'Other', 'active', now(), now() FROM generate_series(1, {ORGANIZATIONS}) n;
    INSERT INTO contacts (uuid, organization_id, first_name, system_type, custom_fields_by_name, created_at, updated_at)
    SELECT gen_random_uuid(), organization, 'F' || n % 4, 'contact', '{{}}', now(), now()
        FROM generate_series(1, {CONTACTS}) n, unnest(ARRAY[456, 1001 + n % {ORGANIZATIONS}]) organization;
    ANALYZE contacts;
"""


CONDITIONS = (
    "first_name=Theirs", "first_name=Nobody", "deleted_at[$lt]=2030-01-01", "$and[0][organization_id]=1001",
    "$and[0][organization_id][$gt]=456", "$or[0][organization_id]=1001",
)  # fmt: skip
"""No contact of the organization is like these, and many others are."""


async def estimated(crm: Crm, query: str = "") -> Any:
    status, page = await crm.call(f"{LIST}{query}&$total=estimated")
    assert (status, page["estimated"]) == (200, True), page
    return page["total"]


async def test_an_estimate_is_about_the_callers_own_rows(migrated_postgres_url: str) -> None:
    async with running(migrated_postgres_url) as crm:
        with psycopg.connect(migrated_postgres_url, autocommit=True) as connection:
            connection.execute(ROWS)
        crm.statements.clear()
        assert await estimated(crm) == pytest.approx(CONTACTS, rel=0.1)
        assert await estimated(crm, "&$limit=0") == pytest.approx(CONTACTS, rel=0.1)
        assert await estimated(crm, "&$after=") == pytest.approx(CONTACTS, rel=0.1)
        assert not [statement for statement in crm.statements if "count(" in statement]


async def test_a_condition_reveals_nothing_about_rows_of_others(migrated_postgres_url: str) -> None:
    async with running(migrated_postgres_url) as crm:
        with psycopg.connect(migrated_postgres_url, autocommit=True) as connection:
            connection.execute(ROWS.replace("'F' || n % 4", "CASE organization WHEN 456 THEN 'Mine' ELSE 'Theirs' END"))
        for condition in CONDITIONS:
            page = (await crm.call(f"{LIST}&{condition}&$limit=0&$total=estimated"))[1]
            assert (page["total"], page["estimated"]) == (0, False), condition


async def test_an_estimate_is_at_least_the_number_of_records_seen(migrated_postgres_url: str) -> None:
    async with running(migrated_postgres_url) as crm:
        for _ in range(3):
            await crm.create()
        page = (await crm.call(f"{LIST}&$total=estimated&$limit=2&$skip=2"))[1]
        assert page["total"] >= 4
