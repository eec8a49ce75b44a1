"""PgBouncer in front of PostgreSQL: sessions work and stay sealed, anything else is refused."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import apex.adapters.base
from apex.errors import Unavailable
from apex.migrations.migrate import pending, upgrade
from apex.query.language import EVERYTHING
from apex.sql.drivers.executor import Plan
from apex.sql.drivers.postgres import PostgresExecutor
from apex.tenant import ROLE
from tests.services.crm import JANE, running
from tests.support.databases import free_port, unprivileged
from tests.support.waiting import SECONDS

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")

pytestmark = pytest.mark.skipif(
    PGBOUNCER is None and "CI" not in os.environ, reason="needs pgbouncer: apt install pgbouncer"
)

SETTINGS = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
"""
WHO = "SELECT current_user::text, current_setting('timezone')"


@contextmanager
def pgbouncer(url: str, mode: str) -> Iterator[str]:
    """The URL of a database behind PgBouncer."""
    assert PGBOUNCER is not None, "CI needs pgbouncer: apt install pgbouncer"
    front, _, database = url.rpartition("/")
    folder, port = Path(tempfile.mkdtemp(prefix="apex-pgbouncer-")), free_port()
    server = front.rpartition(":")[2]
    (folder / "users").write_text('"postgres" ""\n')
    (folder / "ini").write_text(SETTINGS.format(server=server, port=port, folder=folder, mode=mode))
    folder.chmod(0o755)
    with subprocess.Popen([PGBOUNCER, "-q", folder / "ini"], stderr=subprocess.DEVNULL, **unprivileged()) as process:
        try:
            wait_for(process, port)
            yield f"postgresql://postgres@127.0.0.1:{port}/{database}"
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(folder)


def wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    """Returns once the process listens; fails when it has ended, or after ``SECONDS``."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"PgBouncer has ended with code {process.wait(0.01)}")
    pytest.fail("PgBouncer does not listen")


async def who(executor: PostgresExecutor, plan: Plan = "kept") -> tuple[str, str]:
    user, timezone = (await executor.fetch(WHO, {}, plan=plan))[0]
    return user, timezone


async def test_with_sessions_the_crm_works_and_is_sealed(
    migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pgbouncer(migrated_postgres_url, "session") as url:
        async with running(url) as crm:
            executor = crm.app.get("database").executor
            assert executor.pipeline.metrics()["connections"] == executor.pipeline.size
            assert (await crm.call("POST /contacts", JANE))[0] == 201
            monkeypatch.setattr(apex.adapters.base, "scope_predicate", lambda *scope: EVERYTHING)
            for user, organization, total in ((790, 456, 3), (791, 457, 2)):
                query = f"organization_id={organization}&fastJoinForContactList=true"
                calls = (crm.call(f"GET /contacts?{query}", user=user) for _ in range(50))
                for _, page in await asyncio.gather(*calls):
                    assert {contact["organization_id"] for contact in page["data"]} == {organization}
                    assert page["total"] == total
            assert (await crm.call("PATCH /contacts/123", {"first_name": "Mine"}, 791))[0] == 403


@pytest.mark.parametrize("pipeline_size", [0, 2])
async def test_statements_run_as_the_role(migrated_postgres_url: str, pipeline_size: int) -> None:
    with pgbouncer(migrated_postgres_url, "session") as url:
        executor = PostgresExecutor(url, 3, role=ROLE, pipeline_size=pipeline_size)
        await executor.open()
        assert set(await asyncio.gather(*(who(executor, "kept" if n % 2 else "anew") for n in range(50)))) == {
            (ROLE, "UTC")
        }
        async with executor.transaction():
            assert await who(executor) == (ROLE, "UTC")
        await executor.close()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_without_sessions_the_app_does_not_start(migrated_postgres_url: str, mode: str) -> None:
    refused = pytest.raises(Unavailable, match="set pool_mode = session in PgBouncer")
    with pgbouncer(migrated_postgres_url, mode) as url, refused:
        await PostgresExecutor(url, role=ROLE).open()


def test_migrations_need_sessions(postgres_url: str) -> None:
    with pgbouncer(postgres_url, "transaction") as url, pytest.raises(Unavailable, match="pool_mode = session"):
        upgrade(url)
    with pgbouncer(postgres_url, "session") as url:
        upgrade(url)
        assert pending(url) == []


async def test_a_proxy_that_changes_its_mind_unseals_nothing(
    migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def yes(*_: object) -> bool:
        return True

    monkeypatch.setattr("apex.sql.drivers.postgres._are_sessions", yes)
    with pgbouncer(migrated_postgres_url, "transaction") as url:
        executor = PostgresExecutor(url, 5, role=ROLE, pipeline_size=0)
        await executor.open()
        monkeypatch.setattr("apex.sql.drivers.postgres._settings", lambda *_: "SELECT 1")
        found = await asyncio.gather(*(who(executor, "anew") for _ in range(50)))
        assert {user for user, _ in found} == {ROLE}
        await executor.close()
