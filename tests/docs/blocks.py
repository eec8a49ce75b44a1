"""The fenced blocks of a page, and whether they show what happens."""

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
"""What is no program: drawings, and what Sphinx reads."""

CHANGING = {
    r'"(?!0{8})[0-9a-f]{8}-[0-9a-f-]{27}"': '"an id"',
    r'"(?!2023)\d{4}-\d\d-\d\dT[0-9:.]+Z"': '"a moment"',
    r'("ms":)[0-9.]+': r"\1 0",
    r'("retryAfter":)\d+': r"\1 0",
    r'("next":|"previous":)"[\w-]{40,}"': r'\1"a cursor"',
}
"""What is another each time, and what stands for it in a comparison."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, its line in the page, and what a reader is shown that it prints."""

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
        """What the comments among commands say that they print."""
        return re.findall(r"^# (.*)$", self.text, re.M) if self.lang == "bash" else []

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line} ```{self.lang}"


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, each with the one right behind it where that shows what it prints."""
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
    """The blocks of a page that are run. Raises NotRun for one that should be, and is not."""
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
    """What a reader is shown that was not printed."""
    found = normalised(printed).strip().splitlines()
    if block.shown is not None and not is_shown(block.shown, found):
        return [f"{block} printed {printed}"]
    left = iter(found)  # Each is looked for behind the one before.
    return [f"{block} has not printed {line}, but {printed}" for line in block.comments if normalised(line) not in left]


def is_shown(shown: Block, found: list[str]) -> bool:
    """Of what is JSON, the last line counts."""
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
