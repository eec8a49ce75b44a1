"""The wheel and the source distribution: what is in them is enough, away from the checkout and without extras."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from email import message_from_bytes
from pathlib import Path
from urllib.request import urlopen
from zipfile import ZipFile

import pytest

from tests.process.commands import environment, printed_url
from tests.support.waiting import SECONDS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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
    "aiohttp", "engineio", "httpcore2", "httpx2", "opentelemetry", "prometheus_client", "psycopg", "psycopg_pool",
    "redis", "requests", "socketio", "websockets",
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
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of a checkout."""
    folder, built = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("sdist")
    for name in ("apex", "docs", "services", "hooks"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    run_python(folder, "-c", f"from setuptools import build_meta; build_meta.build_sdist({str(built)!r})")
    return next(built.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel that is built from the source distribution."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(sdist.parent)]
    run_python(sdist.parent, "-m", "pip", "wheel", *options, str(sdist))
    return next(sdist.parent.glob("*.whl"))


def run_python(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def test_both_have_the_name_and_version_of_the_project(sdist: Path, wheel: Path) -> None:
    name = f"feathers_apex-{PROJECT['version']}"
    assert (sdist.name, wheel.name) == (f"{name}.tar.gz", f"{name}-py3-none-any.whl")


def test_the_wheel_installs_apex_alone(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"apex", f"feathers_apex-{PROJECT['version']}.dist-info"}
    assert "apex/py.typed" in names
    assert any(name.endswith("/LICENSE") for name in names)


def test_the_source_distribution_has_the_documentation_and_no_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as packed:
        parts = {name.split("/", 2)[1] for name in packed.getnames() if "/" in name}
    assert {"apex", "docs", "CHANGELOG.md", "LICENSE"} <= parts
    assert parts.isdisjoint({"tests", "services", "hooks", "migrations", "benchmarks"})


def test_an_index_is_told_all_that_it_shows(wheel: Path) -> None:
    with ZipFile(wheel) as packed:
        found = message_from_bytes(packed.read(f"feathers_apex-{PROJECT['version']}.dist-info/METADATA"))
    names = "Author-Email Classifier Keywords License-Expression Project-URL Requires-Python Summary"
    assert [field for field in names.split() if not found[field]] == []
    assert found["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"\]\(([^)]+)\)", str(found.get_payload()))
    assert links
    assert [link for link in links if not link.startswith("https://")] == []


@pytest.fixture(scope="module")
def core(wheel: Path) -> dict[str, str]:
    """The environment of a Python that has the wheel, and nothing of its extras."""
    installed = wheel.parent / "installed"
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(installed)]
    run_python(wheel.parent, "-m", "pip", "install", *options, str(wheel))
    alone = f"sys.path.remove({str(ROOT)!r})\nsys.modules.update(dict.fromkeys({OPTIONAL}))"
    (installed / "sitecustomize.py").write_text(f"import sys\n{alone}\n")
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
    version = PROJECT["version"]
    assert run(core, tmp_path, "-m", "apex", "--version").stdout == f"apex, version {version}\n"
    assert run(core, tmp_path, "-c", "import apex; print(apex.__version__)").stdout == f"{version}\n"
    assert "serve" in run(core, tmp_path, "-m", "apex", "--help").stdout
    assert "/notes" in json.loads(run(core, tmp_path, "-m", "apex", "openapi").stdout)["paths"]
    assert "Project blog made" in run(core, tmp_path, "-m", "apex", "new", "blog").stdout


def test_an_empty_folder_is_no_project(core: dict[str, str], tmp_path: Path) -> None:
    elsewhere = {name: value for name, value in core.items() if name != "APEX_APP"}
    done = run(elsewhere, tmp_path, "-m", "apex", "serve")
    error = "there is no application here: make a project with 'apex new', or name an application with --app"
    assert (done.returncode, done.stderr) == (1, f"apex: {error}\n")


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
    error = rf"ConfigError: .* needs \w+: pip install 'feathers-apex\[{extra}\]'\n\Z"
    assert re.search(error, done.stderr), done.stderr


def test_each_extra_is_in_all_of_them() -> None:
    extras = PROJECT["optional-dependencies"]
    assert extras["all"] == [f"feathers-apex[{','.join(sorted(extras.keys() - {'all', 'bench', 'mutants', 'test'}))}]"]


def test_the_example_of_the_description_runs(core: dict[str, str], tmp_path: Path) -> None:
    source = (ROOT / "apex" / "README.md").read_text(encoding="utf-8")
    example = source.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "messages.py").write_text(example, encoding="utf-8")
    code = "import asyncio, messages; print(asyncio.run(messages.app.service('messages').create({'text': 'hello'})))"
    with_extras = {name: value for name, value in core.items() if name != "PYTHONPATH"}
    done = run(with_extras, tmp_path, "-c", code)
    assert (done.stdout, done.stderr) == ("{'text': 'HELLO', 'id': 0}\n", "")
