"""The files of ``deploy/`` hold together, as far as that shows without a machine of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
import yaml

from apex.cli.commands import apex
from tests.process.commands import ROOT, environment, server
from tests.support.databases import Server, start_server

DEPLOY = ROOT / "deploy"
PAGE = ROOT / "docs" / "deployment.md"
COMMANDS = set(apex.commands)

# Commands that would need a machine of their own do nothing. A user of the system is one of the database.
MACHINE = """
set -euo pipefail
docker() { :; }; useradd() { :; }; git() { :; }; make() { :; }; systemctl() { :; }
sudo() {
    [ "$1" != -E ] || shift
    [ "$1" = -u ] && local user=$2 && shift 2
    env PGUSER="$user" "$@"
}
"""

HEAD = max(file.name[:4] for file in (ROOT / "migrations" / "versions").glob("0*.py"))
LATER = f"{int(HEAD) + 1:04}"
NEXT = f"""
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{LATER}", "{HEAD}"
def upgrade(): op.add_column("contacts", sa.Column("nickname", sa.Text))
def downgrade(): op.drop_column("contacts", "nickname")
"""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None and "CI" not in os.environ, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "apex.service").read_text(encoding="utf-8").replace("/opt/apex/.venv/bin/apex", sys.executable)
    (tmp_path / "apex.service").write_text(unit, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", tmp_path / "apex.service"], capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if "apex.service" in line] == []


def test_the_containers_wait_for_services_that_there_are_and_run_commands_that_there_are() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert {name for service in services.values() for name in service.get("depends_on", ())} <= set(services)
    for service in services.values():
        program, command, *_ = service.get("command", ["apex", "serve"])
        assert program != "apex" or command in COMMANDS


class Machine:
    """A folder that stands for the root of a machine with a PostgreSQL server, on which the page's commands are run."""

    def __init__(self, folder: Path, postgres: Server, template: Path) -> None:
        self.folder, self.postgres = folder, postgres
        for name in ("etc/systemd/system", "var/backups", "opt/apex-next/migrations", "var"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(template, folder / "var" / "apex.db")
        shutil.copytree(ROOT / "migrations", folder / "opt/apex-next/migrations", dirs_exist_ok=True)
        (folder / f"opt/apex-next/migrations/versions/{LATER}_nickname.py").write_text(NEXT)

    def run(self, commands: str) -> str:
        """Return what commands print; those of ``/opt/apex`` are run in the checkout."""
        for path in ("/etc", "/var/backups", "/opt/apex-next"):
            commands = commands.replace(path, f"{self.folder}{path}")
        commands = re.sub(
            r"/opt/apex(?!-)",
            str(ROOT),
            commands.replace("<your repository>", "there").replace("<noted revision>", HEAD),
        )
        commands = commands.replace(".venv/bin/apex", f"{sys.executable} -m apex")
        server = {"PGHOST": "127.0.0.1", "PGPORT": str(self.postgres.port)}
        path = f"{self.postgres.binaries}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", MACHINE + commands], cwd=self.folder, capture_output=True, text=True,
            env=environment(APEX_ENV="production", PATH=path, PYTHONPATH=str(ROOT), **server),
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def serving(self, database: str) -> Iterator[str]:
        """The server with the settings of the page, on a database of this machine."""
        settings = dict(line.split("=", 1) for line in (self.folder / "etc/apex.env").read_text().splitlines())
        url = f"postgresql://apex@127.0.0.1:{self.postgres.port}/{database}"
        variables = {"APEX_ENV": "production", "APEX_SECRET": settings["APEX_SECRET"], "DATABASE_URL": url}
        with server("serve", **variables) as (_, address):
            yield address


def blocks(heading: str) -> list[str]:
    """Return the blocks of commands below a heading of the page."""
    section = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M)
    (found,) = [part for part in section if part.startswith(heading)]
    return [match[1] for match in re.finditer(r"```console\n(.*?)```", found, re.S)]


@pytest.fixture
def machines(tmp_path: Path, sqlite_template: Path) -> Iterator[list[Machine]]:
    """Two machines: where the page is followed, and where its backup is restored."""
    with ExitStack() as stack:
        servers = [start_server() for _ in "ab"]
        for one in servers:
            stack.callback(one.stop)
        yield [Machine(tmp_path / str(one.port), one, sqlite_template) for one in servers]


def test_the_commands_of_the_page_work(machines: list[Machine]) -> None:
    here, there = machines
    for block in (*blocks("In containers"), *blocks("With systemd")):
        here.run(block)
    migrate = "set -a && . /etc/apex.env && set +a && cd /opt/apex && sudo -E -u apex_owner .venv/bin/apex migrate"
    here.run(migrate)  # As the unit does.
    row = "('Ours', gen_random_uuid(), 'active', now(), now())"
    insert = f"INSERT INTO organizations (name, uuid, subscription_status, created_at, updated_at) VALUES {row}"
    here.run(f'psql -U postgres apex --command "{insert}"')

    (prune,) = blocks("Retention")
    assert "deleted" in here.run(prune)

    dump, restore, sqlite = blocks("Backup")
    here.run(dump)
    here.run(restore)
    (there.folder / "etc/apex.env").write_bytes((here.folder / "etc/apex.env").read_bytes())
    shutil.copyfile(here.folder / "var/backups/apex.dump", there.folder / "var/backups/apex.dump")
    there.run(restore)
    for machine in machines:
        assert "Ours" in machine.run("psql -U postgres restored --command 'SELECT name FROM organizations'")
        with machine.serving("restored") as url:
            assert httpx2.get(f"{url}/readyz").json() == {"status": "ok", "notReady": {}}
    here.run(sqlite)
    assert HEAD in here.run("sqlite3 copy.db 'SELECT version_num FROM alembic_version'")

    status, upgrade, back = blocks("Upgrade")
    settings = status.splitlines()[0]
    assert f"The database is at {HEAD}." in here.run(status)
    here.run(f"{settings}\n{upgrade}")
    with here.serving("apex") as url:  # The old version, started anew.
        assert httpx2.get(f"{url}/readyz").json() == {
            "status": "ok", "notReady": {}, "ahead": f"A later version has migrated the database to {LATER}"
        }  # fmt: skip
        assert httpx2.get(f"{url}/contacts").status_code == 401
    assert f"A later version has migrated the database to {LATER}" in here.run(migrate)
    here.run(f"{settings}\n{back}")
    assert "The database is up to date." in here.run(status)
    with here.serving("apex") as url:
        assert httpx2.get(f"{url}/readyz").json() == {"status": "ok", "notReady": {}}


def test_the_proxy_of_the_containers_leads_to_them() -> None:
    command = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["nginx"]["command"][-1]
    nginx = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    for old, new in re.findall(r"s/([^/]+)/([^/]+)/", command):
        assert old in nginx
        nginx = nginx.replace(old, new)
    assert set(re.findall(r"server (\S+);", nginx)) == {"one:3030", "two:3030"}
