"""Tests of ``apex serve --reload``: changes are served, and a version that does not start changes nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.process.commands import COMMAND, QUICK, ROOT, environment, lines, printed_url
from tests.process.test_serve import refusal
from tests.support.waiting import SECONDS

SOURCE = """
from apex import Apex, rest

class Words:
    async def find(self, params):
        return ["WORD"]

def create_app():
    return Apex({"port": 0}).configure(rest).use("words", Words())
"""
NEW = "All workers are replaced.\n"


@contextmanager
def reloading(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    (folder / "words.py").write_text(SOURCE)
    command = [*COMMAND, "--app", "words:create_app", "serve", "--reload"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(**QUICK, PYTHONPATH=str(ROOT)), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            yield process, printed_url(process)
        finally:
            process.terminate()
            process.wait(SECONDS)


def said(process: subprocess.Popen[str], line: str) -> bool:
    """Wait until the process has printed the text."""
    assert process.stdout is not None
    return any(one == line for one in lines(process.stdout))


def test_a_change_is_served(tmp_path: Path) -> None:
    with reloading(tmp_path) as (process, url):
        assert httpx2.get(f"{url}/words").json() == ["WORD"]
        (tmp_path / "words.py").write_text(SOURCE.replace("WORD", "changed"))
        assert said(process, NEW)
        assert httpx2.get(f"{url}/words").json() == ["changed"]
    assert process.returncode == 0


def test_a_new_version_that_does_not_start_leaves_the_old_one_running(tmp_path: Path) -> None:
    with reloading(tmp_path) as (process, url):
        (tmp_path / "words.py").write_text("this is no Python")
        assert said(process, "Changed: words.py\n")
        assert httpx2.get(f"{url}/words").json() == ["WORD"]
        (tmp_path / "words.py").write_text(SOURCE.replace("WORD", "mended"))
        assert said(process, NEW)
        assert httpx2.get(f"{url}/words").json() == ["mended"]


def test_it_is_not_for_production(migrated_sqlite_url: str) -> None:
    variables = {"APEX_ENV": "production", "APEX_SECRET": "a-secret-of-tests-that-nobody-knows"}
    assert "for development" in refusal("serve", "--reload", DATABASE_URL=migrated_sqlite_url, **variables)
