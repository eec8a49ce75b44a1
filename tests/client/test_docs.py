"""What docs/client.md shows is what happens: its examples are run as they are printed."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.test_readme import ROOT, running, wait_for

PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n([^`]+)```\n\n```text\n([^`]+)```", PAGE)


def test_every_example_shows_what_it_prints() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") == 3


def test_the_examples_print_what_is_shown(sqlite_url: str) -> None:
    with running("-m", "apex", "demo", "--serve", folder=ROOT, DATABASE_URL=sqlite_url, PORT="0") as server:
        url = wait_for(server, "Serving at").split()[-1]
        for code, expected in EXAMPLES:
            pasted = [sys.executable, "-W", "error", "-c", code.replace("http://localhost:3030", url)]
            done = subprocess.run(pasted, cwd=ROOT, capture_output=True, text=True, check=False)
            assert (done.stdout, done.stderr) == (expected, "")
