"""The OpenAPI document in the tools of others: a linter, generated clients, and a collection of Postman.

They work with a running server of the CRM, and with one of a new project. ``tools`` has the programs that use what is
generated: each lists with a filter and an order, creates, changes, searches, removes and reads an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from services.commands.demo_data import KEY
from services.shared.examples import DEMO_EMAIL, DEMO_PASSWORD
from tests.process.commands import apex_in, server, server_in

TOOLS = Path(__file__).parent / "tools"
BIN = TOOLS / "node_modules" / ".bin"
STRICT = (
    "--strict", "--target", "es2022", "--module", "commonjs", "--moduleResolution", "node10", "--esModuleInterop",
    "--skipLibCheck", "--types", "node",
)  # fmt: skip
CRM = (
    "Create=201", "Receive an event of another system=201", "GET=200", "Search contacts=200", "Change a contact=200",
    "Remove a contact=200", "Get a contact=404",
)  # fmt: skip
PROJECT = ("Create a message=201", "GET=200", "Change a message=200", "Remove a message=200", "Get a message=404")

pytestmark = pytest.mark.skipif(
    not BIN.exists() and "CI" not in os.environ, reason="needs Node with npm, and what `make test` installs with them"
)


class Tools:
    """The tools, which work with the document of a server in a folder."""

    def __init__(self, folder: Path, url: str, email: str, password: str) -> None:
        self.folder, self.document = folder, folder / "openapi.json"
        self.document.write_bytes(httpx2.get(f"{url}/openapi.json").content)
        login = {"strategy": "local", "email": email, "password": password}
        token = httpx2.post(f"{url}/authentication", json=login).json()["accessToken"]
        quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
        self.environment = {**os.environ, **quiet, "URL": url, "TOKEN": token, "KEY": KEY, "PYTHONPATH": str(folder)}
        (folder / "node_modules").symlink_to(TOOLS / "node_modules")

    def use(self, programs: Path, requests: Sequence[str]) -> None:
        """Lint the document, generate clients, run the programs with them, and send the requests of a collection."""
        shutil.copytree(programs, self.folder, dirs_exist_ok=True)
        with ThreadPoolExecutor() as pool:
            for job in [pool.submit(job) for job in (self.lint, self.run_typescript, self.run_python)]:
                job.result()
        self.run("node", TOOLS / "postman.cjs", self.document, *requests)

    def lint(self) -> None:
        assert "You have" not in self.run(BIN / "redocly", "lint", "--extends", "recommended", self.document)

    def run_typescript(self) -> None:
        self.run(BIN / "openapi-typescript", self.document, "--output", "schema.d.ts")
        self.run(BIN / "openapi-ts", "--input", self.document, "--output", "hey")
        self.run(BIN / "orval", "--input", self.document, "--output", "orval/client.ts")
        programs = [self.folder / f"{name}.ts" for name in ("openapi-fetch", "hey-api", "orval")]
        self.run(BIN / "tsc", *STRICT, "--outDir", "made", *programs)
        for program in programs:
            self.run("node", self.folder / "made" / f"{program.stem}.js")

    def run_python(self) -> None:
        command = Path(sys.executable).parent / "openapi-python-client"
        made = self.run(command, "generate", "--path", self.document, "--output-path", "generated", "--meta", "none")
        assert "will not be generated" not in made, made
        self.run(sys.executable, "client.py")

    def run(self, *command: str | Path) -> str:
        """Return what a command prints. Fail with it if the command fails."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, f"{command[0]}: {done.stdout}"
        return done.stdout


def test_they_work_with_the_crm(demo_file: Path, tmp_path: Path) -> None:
    shutil.copyfile(demo_file, tmp_path / "crm.db")
    with server("serve", DATABASE_URL=f"sqlite:///{tmp_path / 'crm.db'}") as (_, url):
        Tools(tmp_path, url, DEMO_EMAIL, DEMO_PASSWORD).use(TOOLS / "crm", CRM)


def test_they_work_with_a_new_project(tmp_path: Path) -> None:
    ann = {"email": "ann@example.com", "password": "correct horse battery"}
    assert apex_in(tmp_path, "new", "blog").returncode == 0
    project, database = tmp_path / "blog", f"sqlite:///{tmp_path / 'blog.db'}"
    assert apex_in(project, "migrate", DATABASE_URL=database, PYTHONPATH=str(project)).returncode == 0
    with server_in(project, "serve", DATABASE_URL=database) as (_, url):
        assert httpx2.post(f"{url}/users", json=ann).status_code == 201
        Tools(tmp_path, url, **ann).use(TOOLS / "project", PROJECT)
