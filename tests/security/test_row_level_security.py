"""The floor: PostgreSQL holds the app to the organizations of its caller, whatever the app asks for."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

import apex.adapter
from apex import Params
from apex.errors import ConfigError, Forbidden
from apex.migrate import pending, upgrade
from apex.predicates import EVERYTHING
from apex.revisions import connect
from apex.tenant import EVERYONE, NOBODY, ROLE, reaching
from services import contacts
from tests.databases import execute, new_database
from tests.services.crm import SEARCH, Crm, running

OPEN = {"users", "revoked_tokens", "idempotent_answers", "alembic_version"}
"""A user may belong to several organizations and a token to none; both are behind internal services."""

UNSEALED = text(f"""
    SELECT relname FROM pg_class
    WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace AND NOT (
        relrowsecurity AND EXISTS (
            SELECT FROM pg_policy WHERE polrelid = pg_class.oid AND '{ROLE}'::regrole = ANY (polroles)
            AND polcmd = '*' AND pg_get_expr(polqual, polrelid) LIKE '%apex_tenants()%'
        )
    )
""")


@pytest.fixture
async def crm(migrated_postgres_url: str) -> AsyncIterator[Crm]:
    async with running(migrated_postgres_url) as crm:
        yield crm


def test_every_table_of_tenants_has_a_policy(migrated_postgres_url: str) -> None:
    with connect(migrated_postgres_url) as connection:
        assert set(connection.scalars(UNSEALED)) == OPEN
        connection.execute(text("CREATE TABLE notes (id bigint PRIMARY KEY, organization_id bigint)"))
        assert set(connection.scalars(UNSEALED)) == {*OPEN, "notes"}


async def test_the_app_acts_as_a_role_that_cannot_get_around_it(crm: Crm) -> None:
    owns = "EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid)"
    rows = await crm.app.get("database").executor.fetch(
        f"SELECT rolname, rolsuper, rolbypassrls, {owns} FROM pg_roles WHERE rolname = current_user", {}
    )
    assert [tuple(row) for row in rows] == [(ROLE, False, False, False)]


async def test_it_holds_with_the_applications_filter_switched_off(crm: Crm, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await crm.rows()
    monkeypatch.setattr(apex.adapter, "scope_predicate", lambda *scope: EVERYTHING)
    _, page = await crm.call("GET /contacts?organization_id=457&fastJoinForContactList=true", user=791)
    assert [contact["id"] for contact in page["data"]] == [201, 202]
    assert (await crm.call("GET /contacts?organization_id=456", user=790))[1]["total"] == 2
    for request, data in (("GET", None), ("PATCH", {"first_name": "Mine"}), ("DELETE", None)):
        status, _ = await crm.call(f"{request} /contacts/123", data, 791)
        assert status == 403
    search = {"searchTerm": "john", "searchIn": "name", "organization_id": 457}
    status, page = await crm.call("POST /contacts", search, 791, headers=SEARCH)
    assert (status, page["data"]) == (200, [])
    assert await crm.rows() == before


async def test_a_call_from_outside_reaches_nothing_before_it_is_known_who_calls(crm: Crm) -> None:
    service = crm.app.service("contacts").service
    with reaching(NOBODY):
        assert await service.find(Params()) == {"total": 0, "limit": 10, "skip": 0, "data": []}
    with reaching("457"):
        assert (await service.find(Params()))["total"] == 2
        with reaching(EVERYONE):
            assert (await service.find(Params()))["total"] == 4


async def test_nothing_is_written_outside_of_it(crm: Crm) -> None:
    row = {"organization_id": 456, "first_name": "Spy", "created_at": "2026-01-01", "updated_at": "2026-01-01"}
    before = await crm.rows()
    with reaching("457"):
        with pytest.raises(Forbidden):
            await crm.app.service("contacts").service.create(row, Params())
        with pytest.raises(Forbidden):
            async with crm.app.get("database").transaction():
                await crm.app.service("contacts").service.patch(201, {"organization_id": 456}, Params())
    assert await crm.rows(contacts.contacts) == before


async def test_a_unit_of_work_follows_what_may_be_reached(crm: Crm) -> None:
    service = crm.app.service("contacts").service
    async with crm.app.get("database").transaction():
        for reach, total in (("457", 2), (NOBODY, 0), ("456,457", 4), (EVERYONE, 4)):
            with reaching(reach):
                assert (await service.find(Params()))["total"] == total


def test_a_user_that_may_not_make_roles_migrates_once_it_has_the_role(
    postgres_server: str, postgres_template: str
) -> None:
    user = f"plain_{secrets.token_hex(4)}"
    execute(postgres_server, "CREATE ROLE {} LOGIN", user)
    with new_database(postgres_server) as url:
        database = url.rpartition("/")[2]
        execute(postgres_server, "ALTER DATABASE {} OWNER TO {}", database, user)
        theirs = url.replace("postgres@", f"{user}@")
        upgrade(theirs, "0002")
        with pytest.raises(ConfigError, match=f"an administrator has to run: .*GRANT {ROLE} TO {user}"):
            upgrade(theirs)
        execute(postgres_server, "GRANT {} TO {}", ROLE, user)
        upgrade(theirs)
        assert pending(theirs) == []
    execute(postgres_server, "DROP ROLE {}", user)
