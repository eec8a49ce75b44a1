"""The wheel: what is in it is enough, away from the checkout and without what the extras install."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.request import urlopen
from zipfile import ZipFile

import pytest

from tests.process.commands import environment, printed_url
from tests.support.waiting import SECONDS

ROOT = Path(__file__).parents[2]
NOTES = """
import asyncio, apex
from apex import *
notes = apex.Apex().use("notes", apex.MemoryService()).service("notes")
asyncio.run(notes.create({"text": "hi"}))
print(apex.__file__, asyncio.run(notes.find()))
"""
APP = """
from apex import Apex, MemoryService, rest

def create_app():
    return Apex({"host": "127.0.0.1", "port": 0}).configure(rest).use("notes", MemoryService())
"""
OPTIONAL = (
    "aiohttp", "engineio", "httpx2", "opentelemetry", "prometheus_client", "psycopg", "psycopg_pool", "redis",
    "requests", "socketio", "websockets",
)  # fmt: skip
NEEDING = [
    ("sockets", "Apex().configure(rest).configure(sockets)"),
    ("redis", "Apex({'redis': 'redis://localhost'}).configure(bus)"),
    ("redis", "from apex.limits import rates; Apex({'redis': 'redis://localhost'}).configure(rates)"),
    ("postgres", "Apex().configure(database('postgresql://localhost/name'))"),
    ("postgres", "from apex.migrations.migrate import current; current('postgresql://localhost/name')"),
    ("client", "import apex.client"),
    ("metrics", "from apex.observability.metrics import metrics; metrics(Apex({'metrics': True}))"),
    ("tracing", "from apex.observability.tracing import tracing; Apex({'tracing': True}).configure(tracing)"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("apex", "services", "hooks"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(folder)], check=True)
    return next(folder.glob("apex-*.whl"))


def test_it_holds_types_and_licence_and_no_tests(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert "apex/py.typed" in names
    assert any(name.endswith("/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "migrations", "docs"))]


@pytest.fixture(scope="module")
def core(wheel: Path) -> dict[str, str]:
    """The environment of a Python that has the wheel, and nothing of its extras."""
    installed = wheel.parent / "installed"
    with ZipFile(wheel) as packed:
        packed.extractall(installed)
    (installed / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({OPTIONAL}))\n")
    (installed / "notes.py").write_text(APP)
    return environment(PYTHONPATH=str(installed), APEX_APP="notes:create_app")


def run(core: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=core, cwd=folder, capture_output=True, text=True, timeout=SECONDS
    )


def test_it_works_away_from_the_checkout(core: dict[str, str], tmp_path: Path) -> None:
    done = run(core, tmp_path, "-c", NOTES)
    assert (done.stdout, done.stderr) == (f"{core['PYTHONPATH']}/apex/__init__.py [{{'text': 'hi', 'id': 0}}]\n", "")


def test_the_command_works_without_extras(core: dict[str, str], tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert run(core, tmp_path, "-m", "apex", "--version").stdout == f"apex, version {version}\n"
    assert run(core, tmp_path, "-c", "import apex; print(apex.__version__)").stdout == f"{version}\n"
    assert "serve" in run(core, tmp_path, "-m", "apex", "--help").stdout
    assert "/notes" in json.loads(run(core, tmp_path, "-m", "apex", "openapi").stdout)["paths"]
    assert "Project blog made" in run(core, tmp_path, "-m", "apex", "new", "blog").stdout


def test_rest_is_served_without_extras(core: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "apex", "serve"]
    with subprocess.Popen(
        command, env=core, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            with urlopen(f"{printed_url(process)}/notes") as answer:
                assert json.load(answer) == []
        finally:
            process.kill()


@pytest.mark.parametrize(("extra", "code"), NEEDING, ids=[code for _, code in NEEDING])
def test_what_is_missing_is_named(extra: str, code: str, core: dict[str, str], tmp_path: Path) -> None:
    done = run(core, tmp_path, "-c", f"from apex import *\n{code}")
    assert re.search(rf"ConfigError: .* needs \w+: pip install 'apex\[{extra}\]'\n\Z", done.stderr), done.stderr


def test_each_extra_is_in_all_of_them() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["all"] == [f"apex[{','.join(sorted(extras.keys() - {'all', 'bench', 'mutants', 'test'}))}]"]
