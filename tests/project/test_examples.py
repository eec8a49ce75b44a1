"""The examples pass their own lint, types and tests, on SQLite and PostgreSQL."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.commands import ROOT, environment

TRACKER = ROOT / "examples" / "tracker"
LEFT_OUT = shutil.ignore_patterns(".venv", "var", "__pycache__", ".*_cache")


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_tracker_passes_lint_types_and_its_tests(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = shutil.copytree(TRACKER, tmp_path / "tracker", ignore=LEFT_OUT)
    variables = {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "-W error"}
    if database == "postgresql":
        variables["TEST_DATABASE_URL"] = f"{request.getfixturevalue('postgres_server')}/tracker_test"
    command = ["make", "lint", "test", f"BIN={sys.prefix}/bin"]
    done = subprocess.run(
        command, cwd=folder, env=environment(**variables), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


def code_lines(source: str) -> int:
    """Return the number of lines with code: without blank lines, comments and docstrings."""
    lines = {number for number, line in enumerate(source.splitlines(), 1) if line.strip() and line.lstrip()[0] != "#"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_the_tracker_is_small() -> None:
    assert sum(code_lines(file.read_text(encoding="utf-8")) for file in (TRACKER / "services").rglob("*.py")) < 300


def test_the_tutorial_shows_the_files_of_the_tracker() -> None:
    page = (ROOT / "docs" / "tracker.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    assert {"services/tables.py", "services/users.py", "services/projects.py", "services/issues.py"} <= shown.keys()
    assert {name: (TRACKER / name).read_text(encoding="utf-8") for name in shown} == shown
