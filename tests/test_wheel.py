"""The wheel: what is in it is enough, away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
NOTES = """
import asyncio, apex
notes = apex.Apex().use("notes", apex.MemoryService()).service("notes")
asyncio.run(notes.create({"text": "hi"}))
print(apex.__file__, asyncio.run(notes.find()))
"""


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


def test_it_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "installed")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    command = [sys.executable, "-c", NOTES]
    told = subprocess.run(command, env=environ, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert told == f"{tmp_path}/installed/apex/__init__.py [{{'text': 'hi', 'id': 0}}]\n"
