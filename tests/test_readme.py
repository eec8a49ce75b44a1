"""What the README and the pages of the CRM show is what happens: their calls are run as they are printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.demo import KEY
from tests.databases import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

CALLS = re.findall(r"```bash\n(curl [^`]+)```\n\n```json\n([^`]+)```", README)
BLOCKS = r"```bash\n([^`]+)```(?:\n\n```json\n([^`]+)```)?"
SERVICE = re.findall(r"```python\n([^`]+)```", README)[0]
SERVICE_CALLS = re.findall(r"^(curl .*)\n# (.*)$", README, re.M)

needs_curl = pytest.mark.skipif(
    shutil.which("curl") is None and "CI" not in os.environ, reason="needs curl: apt install curl"
)


@contextmanager
def running(*command: str, folder: Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, *command], cwd=folder, env={**os.environ, **environ}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    return next(line for line in process.stdout if text in line)


def answer(command: str, **environ: str) -> object:
    return json.loads(output(command, **environ))


def output(command: str, **environ: str) -> str:
    env = {**os.environ, **environ}
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def test_the_readme_shows_five_calls_and_a_service() -> None:
    assert len(CALLS) == 5
    assert len(SERVICE_CALLS) == 3
    assert len([line for line in SERVICE.splitlines() if line]) <= 30


@needs_curl
def test_the_curl_calls_answer_as_printed(sqlite_url: str) -> None:
    with running("-m", "apex", "demo", "--serve", folder=ROOT, DATABASE_URL=sqlite_url, PORT="0") as server:
        url = wait_for(server, "Serving at").split()[-1]
        command = [sys.executable, "-m", "apex", "token", "admin@example.com"]
        environ = {**os.environ, "DATABASE_URL": sqlite_url}
        token = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True
        ).stdout.strip()
        for call, expected in CALLS:
            assert answer(call.replace("http://localhost:3030", url), TOKEN=token) == json.loads(expected)


@needs_curl
@pytest.mark.parametrize(("page", "shown"), [("agentvoice.md", 8), ("crm.md", 1)])
def test_a_page_answers_as_printed_from_top_to_bottom(page: str, shown: int, sqlite_url: str) -> None:
    blocks = re.findall(BLOCKS, (ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert len([expected for _, expected in blocks if expected]) == shown
    with running("-m", "apex", "demo", "--serve", folder=ROOT, DATABASE_URL=sqlite_url, PORT="0") as server:
        url = wait_for(server, "Serving at").split()[-1]
        script = "printf '\\0'\n".join(command for command, _ in blocks)
        script = script.replace("http://localhost:3030", url).replace(".venv/bin/apex", f"{sys.executable} -m apex")
        printed = output(script, DATABASE_URL=sqlite_url).split("\0")
    for (command, expected), found in zip(blocks, printed, strict=True):
        if expected:
            assert unique(found) == unique(expected.strip()), command


def test_the_demo_shows_its_key_only_while_it_is_one(sqlite_url: str) -> None:
    def served() -> str:
        with running("-m", "apex", "demo", "--serve", folder=ROOT, DATABASE_URL=sqlite_url, PORT="0") as server:
            return wait_for(server, "Demo API key")

    assert KEY in served()
    output(f"{sys.executable} -m apex key rotate 1", DATABASE_URL=sqlite_url)
    assert "rotated or revoked" in served()


def unique(text: str) -> str:
    """Without what is another each time: ids that were made, and the moment."""
    text = re.sub(r'"(?!0{8})[0-9a-f]{8}-[0-9a-f-]{27}"', '"id"', text)
    return re.sub(r'"(?!2023)\d{4}-\d\d-\d\dT[0-9:.]+Z"', '"now"', text)


@needs_curl
@pytest.mark.parametrize("pasted", [SERVICE])
def test_the_service_runs_when_it_is_pasted(pasted: str, tmp_path: Path) -> None:
    port = str(free_port())
    (tmp_path / "messages.py").write_text(pasted.replace("3031", port), encoding="utf-8")
    with running("messages.py", folder=tmp_path) as server:
        wait_for(server, "Uvicorn running")
        for call, expected in SERVICE_CALLS:
            assert answer(call.replace("localhost:3031", f"127.0.0.1:{port}")) == json.loads(expected)
