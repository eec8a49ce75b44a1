"""``apex new`` and ``apex generate``: what they write passes lint, types and its own tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from secrets import token_hex
from urllib.request import urlopen

import pytest
import yaml

from tests.process.commands import COMMAND, ROOT, apex_here_for, apex_here_in, environment, server_in

MINUTES = 180
KINDS = {
    "default": (),
    "postgresql": ("--database", "postgresql"),
    "tenants": ("--tenants",),
    "tenants_postgresql": ("--tenants", "--database", "postgresql"),
    "bare": ("--bare",),
    "bare_sqlite": ("--bare", "--database", "sqlite"),
    "bare_postgresql": ("--bare", "--database", "postgresql"),
}
"""The options of ``apex new``, by a name."""


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with this apex."""
    paths = {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        command, cwd=folder, env=environment(**paths), capture_output=True, text=True, timeout=MINUTES
    )


def apex(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, *COMMAND, *arguments)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    done = apex_here_in(tmp_path, "new", "blog")
    assert (done.returncode, done.stderr) == (0, "")
    return tmp_path / "blog"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_project_passes_lint_types_and_its_tests(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    assert apex_here_in(tmp_path, "new", "blog", *KINDS[kind]).returncode == 0
    variables = {"PYTEST_ADDOPTS": "-W error"}
    if kind.endswith("postgresql"):
        variables["TEST_DATABASE_URL"] = f"{request.getfixturevalue('postgres_server')}/{kind}_test"
    done = run(tmp_path / "blog", "make", "lint", "test", f"BIN={sys.prefix}/bin", **variables)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--database", "memory"), "users are kept in a database"),
        (("--bare", "--tenants"), "tenants are organizations of users"),
    ],
)
def test_options_that_exclude_each_other_are_refused(tmp_path: Path, options: tuple[str, ...], problem: str) -> None:
    done = apex_here_in(tmp_path, "new", "blog", *options)
    assert (done.returncode, problem in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["default", "postgresql"])
def test_the_files_for_containers_name_what_there_is(kind: str, tmp_path: Path) -> None:
    assert apex_here_in(tmp_path, "new", "blog", *KINDS[kind]).returncode == 0
    texts = {name: (tmp_path / "blog" / name).read_text() for name in ("compose.yaml", ".env.example", "Dockerfile")}
    services = yaml.safe_load(texts["compose.yaml"])["services"]
    settings = {line.partition("=")[0] for line in texts[".env.example"].splitlines() if "=" in line}
    assert set(re.findall(r"\$\{(\w+)", texts["compose.yaml"])) == settings
    assert {name for service in services.values() for name in service.get("depends_on", ())} == services.keys() - {
        "api"
    }
    assert {"DATABASE_URL", "APEX_SECRET"} <= services["api"]["environment"].keys()
    assert services["api"]["command"] == ["sh", "-c", "apex migrate && exec apex serve"]
    workflow = yaml.safe_load((tmp_path / "blog/.github/workflows/test.yaml").read_text())
    assert workflow["jobs"]["test"]["steps"][-1] == {"run": "make install lint test"}


def test_a_container_serves_with_its_variables(tmp_path: Path) -> None:
    """The commands and variables of ``Dockerfile`` and ``compose.yaml``, without Docker."""
    assert apex_here_in(tmp_path, "new", "blog").returncode == 0
    environment = yaml.safe_load((tmp_path / "blog/compose.yaml").read_text())["services"]["api"]["environment"]
    named = {name: value for name, value in environment.items() if not value.startswith("$")}
    variables = {"APEX_ENV": "production", "HOST": "127.0.0.1", "APEX_SECRET": token_hex(32), **named}
    assert run(tmp_path / "blog", *COMMAND, "migrate", **variables).returncode == 0
    with server_in(tmp_path / "blog", "serve", **variables) as (_, url), urlopen(f"{url}/readyz") as answer:
        assert json.load(answer) == {"status": "ok", "notReady": {}}


def test_what_is_generated_passes_lint_types_and_its_tests(project: Path) -> None:
    hooks = [("hook", f"{kind}_calls", "--type", kind) for kind in ("before", "after", "error")]
    names = (("service", "blog-posts"), ("webhooks",), ("hook", "count_calls"), *hooks)
    for arguments in (*names, ("migration", "Index of names")):
        done = apex_here_in(project, "generate", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    for tool in (("ruff", "check"), ("ruff", "format", "--check"), ("mypy",), ("pytest", "-q", "-W", "error")):
        done = run(project, sys.executable, "-m", *tool)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_project_requires_the_versions_like_the_one_that_made_it(project: Path) -> None:
    written = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert written["dependencies"] == ["feathers-apex[metrics,sockets]>=0.2.0,<0.3"]
    assert written["optional-dependencies"]["test"][0] == "feathers-apex[client]>=0.2.0,<0.3"


def test_what_a_new_project_installs_takes_the_place_of_nothing_of_apex(project: Path) -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    packages = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert folders.isdisjoint(packages), packages


def test_a_new_project_migrates_and_has_commands_of_its_own(project: Path) -> None:
    assert apex(project, "migrate").stdout == "The database is up to date.\n"
    assert apex_here_for(project, "check").stdout == "Nothing is wrong.\n"
    assert "/messages" in apex(project, "routes").stdout
    assert "demo" not in apex(project, "--help").stdout


def contents(folder: Path) -> dict[Path, bytes]:
    """Return the files of a folder, without the bytecode that Python writes beside them."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path: path.read_bytes() for path in files}


def test_nothing_is_overwritten(project: Path) -> None:
    assert apex_here_in(project, "generate", "hook", "count_calls").returncode == 0
    before = contents(project)
    for arguments in (("new", "blog"), ("generate", "service", "messages"), ("generate", "hook", "count_calls")):
        done = apex_here_in(project.parent if arguments[0] == "new" else project, *arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert contents(project) == before


def test_webhooks_are_generated_once_and_agree_with_their_migration(project: Path) -> None:
    assert apex_here_in(project, "generate", "webhooks").returncode == 0
    assert "[metrics,sockets,webhooks]" in (project / "pyproject.toml").read_text()
    settings = json.loads((project / "config/development.json").read_text())
    assert (settings["webhooks"], "database" in settings) == ({"networks": ["127.0.0.0/8"]}, True)
    assert apex_here_for(project, "migrate").returncode == 0
    assert apex_here_for(project, "check").stdout == "Nothing is wrong.\n"
    before = contents(project)
    again = apex_here_in(project, "generate", "webhooks")
    assert (again.returncode, "the project has webhooks already" in again.stderr) == (1, True)
    assert contents(project) == before


def test_a_service_cannot_have_a_name_that_the_app_uses(project: Path) -> None:
    for name in ("bus", "load-config", "create-app", "service"):
        done = apex_here_in(project, "generate", "service", name)
        assert (done.returncode, "has something of that name" in done.stderr) == (1, True)
    assert apex_here_for(project, "routes").returncode == 0


def test_a_project_is_no_apex_and_needs_a_folder_to_write_to(tmp_path: Path) -> None:
    assert "that of the framework" in apex_here_in(tmp_path, "new", "apex").stderr
    (tmp_path / "blog").symlink_to("/proc/nothing")
    done = apex_here_in(tmp_path, "new", "blog")
    assert (done.returncode, "cannot write" in done.stderr) == (1, True)


@pytest.mark.parametrize("name", ["app", "test", "test_calls"])
def test_a_hook_cannot_have_a_name_that_its_test_uses(project: Path, name: str) -> None:
    assert "has something of that name" in apex_here_in(project, "generate", "hook", name).stderr


@pytest.mark.parametrize("name", ["Blog", "../blog", "1st", "class", "a b", "x" * 41])
def test_a_name_that_cannot_be_is_refused(project: Path, name: str) -> None:
    done = apex_here_in(project, "generate", "service", name)
    assert (done.returncode, f"'{name}' cannot be the name" in done.stderr) == (1, True)


def test_a_folder_that_is_no_project_gets_nothing(tmp_path: Path) -> None:
    done = apex_here_in(tmp_path, "generate", "hook", "count_calls")
    assert (done.returncode, "go there first" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []
