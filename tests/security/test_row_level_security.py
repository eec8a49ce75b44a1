"""Row-level security: PostgreSQL limits the app to the organizations of its caller, whatever it asks for."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Table, select, text
from sqlalchemy.exc import ProgrammingError

import apex.adapters.base
from apex import Params
from apex.errors import ConfigError, Forbidden
from apex.migrations.migrate import pending, upgrade
from apex.migrations.revisions import connect
from apex.query.language import EVERYTHING
from apex.tenant import ALL_TENANTS, NO_TENANTS, ROLE, SETTING, tenant_context
from services import contacts, tables
from services.shared.examples import DEMO_EMAIL, DEMO_PASSWORD
from tests.process.commands import ROOT
from tests.services.crm import JANE, SEARCH, Crm, running
from tests.support.databases import execute, find_binaries, new_database

OPEN = {"alembic_version", "webhook_progress"}

UNSEALED = text(f"""
    SELECT relname FROM pg_class
    WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace AND NOT (
        relrowsecurity AND EXISTS (
            SELECT FROM pg_policy WHERE polrelid = pg_class.oid AND '{ROLE}'::regrole = ANY (polroles)
            AND polcmd = '*' AND pg_get_expr(polqual, polrelid) LIKE '%current_setting(''{SETTING}''%'
        )
    )
""")

WITH_OPEN_PATHS = text("""
    SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace = current_schema()::regnamespace
    AND NOT EXISTS (SELECT FROM unnest(proconfig) AS setting WHERE setting = 'search_path=public, pg_temp')
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


def test_functions_that_run_as_their_owner_look_for_names_in_one_schema(migrated_postgres_url: str) -> None:
    with connect(migrated_postgres_url) as connection:
        assert set(connection.scalars(WITH_OPEN_PATHS)) == set()
        made = "CREATE FUNCTION open_path() RETURNS int LANGUAGE sql SECURITY DEFINER"
        connection.execute(text(f"{made} SET search_path = public AS 'SELECT 1'"))
        assert set(connection.scalars(WITH_OPEN_PATHS)) == {"open_path"}


async def test_the_app_acts_as_a_role_that_cannot_get_around_it(crm: Crm) -> None:
    owns = "EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid)"
    rows = await crm.app.get("database").executor.fetch(
        f"SELECT rolname, rolsuper, rolbypassrls, {owns} FROM pg_roles WHERE rolname = current_user", {}
    )
    assert [tuple(row) for row in rows] == [(ROLE, False, False, False)]


async def test_it_holds_with_the_applications_filter_switched_off(crm: Crm, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await crm.rows()
    monkeypatch.setattr(apex.adapters.base, "scope_predicate", lambda *scope: EVERYTHING)
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
    with tenant_context(NO_TENANTS):
        assert await service.find(Params()) == {"total": 0, "limit": 10, "skip": 0, "data": []}
    with tenant_context("457"):
        assert (await service.find(Params()))["total"] == 2
        with tenant_context(ALL_TENANTS):
            assert (await service.find(Params()))["total"] == 4


async def test_a_call_reaches_the_users_of_its_organizations_and_nobodys_answers_or_tokens(crm: Crm) -> None:
    assert (await crm.call("POST /contacts", JANE, headers={"Idempotency-Key": "a"}))[0] == 201
    assert (await crm.call("DELETE /authentication"))[0] == 200

    async def ids(table: Table) -> list[object]:
        rows = await crm.app.get("database").execute(select(table))
        return sorted(row.get("id", 0) for row in rows)

    for reach, users in ((ALL_TENANTS, [789, 790, 791]), ("456", [789, 790]), ("457", [791]), (NO_TENANTS, [])):
        with tenant_context(reach):
            assert await ids(tables.users) == users
            others = [0] if reach == ALL_TENANTS else []
            assert (await ids(tables.answers), await ids(tables.revoked_tokens)) == (others, others)


async def test_an_owner_who_has_left_is_still_shown(crm: Crm) -> None:
    _, made = await crm.call("POST /contacts", JANE | {"owned_by_user_id": 790})
    (mine,) = await crm.app.service("memberships").find({"query": {"user_id": 790}, "paginate": False})
    await crm.app.service("memberships").remove(mine["id"])
    url = f"GET /contacts?organization_id=456&fastJoinForContactList=true&id={made['id']}"
    assert (await crm.call(url))[1]["data"][0]["owner"]["id"] == 790


async def test_nothing_is_written_outside_of_it(crm: Crm) -> None:
    row = {"organization_id": 456, "first_name": "Spy", "created_at": "2026-01-01", "updated_at": "2026-01-01"}
    before = await crm.rows()
    with tenant_context("457"):
        with pytest.raises(Forbidden):
            await crm.app.service("contacts").service.create(row, Params())
        with pytest.raises(Forbidden):
            async with crm.app.get("database").transaction():
                await crm.app.service("contacts").service.patch(201, {"organization_id": 456}, Params())
    assert await crm.rows(contacts.contacts) == before


async def test_a_unit_of_work_follows_what_may_be_reached(crm: Crm) -> None:
    service = crm.app.service("contacts").service
    async with crm.app.get("database").transaction():
        for reach, total in (("457", 2), (NO_TENANTS, 0), ("456,457", 4), (ALL_TENANTS, 4)):
            with tenant_context(reach):
                assert (await service.find(Params()))["total"] == total


async def test_the_roles_of_the_deployment_page_suffice(postgres_server: str, postgres_template: str) -> None:
    """The owner migrates, and the user that serves owns nothing and may change nothing by itself."""
    with new_database(postgres_server) as url:
        psql(url, "--file=deploy/roles.sql")
        psql(url, "--file=deploy/roles.sql")
        owners, users = (url.replace("postgres@", f"{user}@") for user in ("apex_owner", "apex"))
        upgrade(owners)
        assert pending(users) == []
        async with running(users) as crm:
            assert (await crm.call("GET /contacts?organization_id=456"))[1]["total"] == 2
            assert (await crm.call("POST /contacts", JANE, headers={"Idempotency-Key": "a"}))[0] == 201
            login = {"strategy": "local", "email": DEMO_EMAIL, "password": DEMO_PASSWORD}
            assert (await crm.call("POST /authentication", login, None))[0] == 201
        with connect(users) as connection:
            powers = "rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls"
            asked = f"SELECT rolname, {powers} FROM pg_roles WHERE rolname LIKE 'apex%' ORDER BY 1"
            assert connection.execute(text(asked)).all() == [
                ("apex", False), ("apex_owner", False), ("apex_tenant", False),
            ]  # fmt: skip
            owned = "SELECT count(*) FROM pg_class WHERE relowner <> 'apex_owner'::regrole"
            public = f"{owned} AND relnamespace = 'public'::regnamespace"
            assert connection.execute(text(public)).scalar() == 0
            assert connection.execute(text("SELECT count(*) FROM contacts")).scalar() == 0
            for refused in ("CREATE TABLE own (id int)", "UPDATE alembic_version SET version_num = '0001'"):
                with pytest.raises(ProgrammingError, match="permission denied"), connection.begin_nested():
                    connection.execute(text(refused))


def psql(url: str, *arguments: str) -> None:
    folder = find_binaries()
    done = subprocess.run(
        [folder / "psql" if folder else "psql", url, "--quiet", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


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
