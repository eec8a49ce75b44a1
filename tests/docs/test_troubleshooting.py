"""The page of error texts: the code still has each of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.process.commands import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
TEXTS = re.findall(r"^\*\*`(.+)`\*\*$", PAGE.read_text(encoding="utf-8"), re.M)
ANY = "…"
"""The sign for the variable parts of a text."""


@cache
def literals() -> tuple[str, ...]:
    """Return all texts in the code of the framework."""
    return tuple(text for file in (ROOT / "apex").rglob("*.py") for text in texts_of(file.read_text(encoding="utf-8")))


def texts_of(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else ANY for part in node.values)


def test_the_page_has_error_texts() -> None:
    assert len(TEXTS) > 40


@pytest.mark.parametrize("text", TEXTS)
def test_an_error_text_is_in_the_code(text: str) -> None:
    parts = [part.strip() for part in text.split(ANY)]
    missing = [part for part in parts if len(part) > 3 and not any(part in literal for literal in literals())]
    assert missing == []
