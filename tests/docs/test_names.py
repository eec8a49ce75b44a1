"""The names of apex in the pages: they are there, and the programs import public ones alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of
from tests.docs.test_pages import PAGES, name
from tests.process.commands import ROOT
from tests.project.test_public_names import PUBLIC

OTHERS = {"apex.commands", "apex.hook", "apex.method", "apex.provider", "apex.request_id", "apex.tenants"}
"""Names that are not of Python: a group of entry points, and attributes of traces."""

HISTORY = ("CHANGELOG.md", "CONTRIBUTING.md")


def dotted(page: Path) -> set[str]:
    """Return the dotted names in the text of a page."""
    return set(re.findall(r"`(apex(?:\.\w+)+)", page.read_text(encoding="utf-8"))) - OTHERS


def is_there(full: str) -> bool:
    """Return True if a module, or a name in one, has this dotted name."""
    parts = full.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


def imported(page: Path) -> Iterator[str]:
    """Yield what the programs of a page import from apex, as ``module name``."""
    for block in blocks_of(page):
        if block.lang == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "apex":
                    yield from (f"{node.module} {alias.name}" for alias in node.names)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in HISTORY], ids=name)
def test_names_of_apex_are_there(page: Path) -> None:
    assert [full for full in sorted(dotted(page)) if not is_there(full)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_programs_import_public_names(page: Path) -> None:
    public = {f"{module} {name}" for module, names in PUBLIC.items() for name in names.split()}
    assert [one for one in imported(page) if one not in public] == []


def test_the_reference_has_every_public_module() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    assert PUBLIC.keys() - set(re.findall(r"automodule:: (\S+)", pages)) == {"apex"}, "apex has its classes there"
