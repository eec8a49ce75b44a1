"""The fenced blocks of a page, and the comparison of their output with the page."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from tests.docs.languages import FILE, LANGUAGES, NotRun

FENCE = re.compile(r"^( *)(```|~~~)([^\n]*)\n(.*?)^\1\2$", re.M | re.S)
SHOWN = ("json", "text")
PROSE = ("text", "{toctree}", "{eval-rst}")
"""Languages of drawings, and of blocks that Sphinx reads."""

CHANGING = {
    r'"(?!0{8})[0-9a-f]{8}-[0-9a-f-]{27}"': '"an id"',
    r'"(?!2023)\d{4}-\d\d-\d\dT[0-9:.]+Z"': '"a moment"',
    r'"id":\d+,("created_at":)': r'"id":0,\1',
    r'("ms":)[0-9.]+': r"\1 0",
    r'("duration":)\d+': r"\1 0",
    r'("retryAfter":)\d+': r"\1 0",
    r'("next":|"previous":)"[\w-]{40,}"': r'\1"a cursor"',
    r'("next":)"\w+(\.[\w-]+)+"': r'\1"a position"',
}
"""Patterns of values that differ each time, with their replacements in a comparison."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its page and line, its language and text, and the block with its output."""

    page: Path
    line: int
    lang: str
    text: str
    shown: Block | None = None

    @property
    def head(self) -> str:
        return self.text.partition("\n")[0]

    @property
    def comments(self) -> list[str]:
        """The output that comments among commands show."""
        return re.findall(r"^# (.*)$", self.text, re.M) if self.lang == "bash" else []

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line} ```{self.lang}"


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page. A block of output belongs to the program right before it."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    end = 0
    for match in FENCE.finditer(text):
        block = Block(page, text.count("\n", 0, match.start()) + 1, match[3], textwrap.dedent(match[4]))
        if found and block.lang in SHOWN and found[-1].lang in LANGUAGES and not text[end : match.start()].strip():
            found[-1] = replace(found[-1], shown=block)
        else:
            found.append(block)
        end = match.end()
    return found


def programs_of(page: Path, not_run: Collection[str] = ()) -> list[Block]:
    """Return the blocks of a page to run. Raises NotRun for a block that no test runs."""
    blocks = blocks_of(page)
    for block in blocks:
        excepted = block.lang in PROSE or (block.lang == "console" and block.head in not_run)
        if block.lang not in LANGUAGES and not excepted:
            raise NotRun(f"{block}: no test runs it")
    programs = [block for block in blocks if block.lang in LANGUAGES]
    if programs and FILE.match(programs[-1].text):
        raise NotRun(f"{programs[-1]}: nothing uses this file")
    return programs


def differences(block: Block, printed: str) -> list[str]:
    """Return a line for each output that the page shows and the block did not print."""
    found = normalised(printed).strip().splitlines()
    if block.shown is not None and not is_shown(block.shown, found):
        return [f"{block} printed {printed}"]
    left = iter(found)  # Each must come after the one before.
    return [f"{block} has not printed {line}, but {printed}" for line in block.comments if normalised(line) not in left]


def is_shown(shown: Block, found: list[str]) -> bool:
    """Return True if the output is the one that the page shows. Of JSON only the last line counts."""
    wanted = normalised(shown.text).strip()
    if shown.lang != "json":
        return wanted.splitlines() == found
    if not found:
        return False
    try:
        return bool(json.loads(wanted) == json.loads(found[-1]))
    except ValueError:
        return False


def normalised(text: str) -> str:
    for pattern, name in CHANGING.items():
        text = re.sub(pattern, name, text)
    return text
