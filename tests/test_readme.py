"""What the README and the AgentVoice page show is what happens: their calls are run as they are printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.databases import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

VOICE = (ROOT / "docs" / "agentvoice.md").read_text(encoding="utf-8")

SHOWN = r"```bash\n(curl [^`]+)```\n\n```json\n([^`]+)```"
CALLS, VOICE_CALLS = re.findall(SHOWN, README), re.findall(SHOWN, VOICE)
SETTINGS = dict(re.findall(r"^([A-Z]+)='?([^'\n]+)'?$", VOICE, re.M)[:5])
SERVICE = re.findall(r"```python\n([^`]+)```", README)[0]
SERVICE_CALLS = re.findall(r"^(curl .*)\n# (.*)$", README, re.M)


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
    done = subprocess.run(["bash", "-c", command], capture_output=True, env={**os.environ, **environ}, check=True)
    return json.loads(done.stdout)


def test_the_readme_shows_five_calls_and_a_service() -> None:
    assert len(CALLS) == 5
    assert len(SERVICE_CALLS) == 3
    assert len([line for line in SERVICE.splitlines() if line]) <= 30


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


def test_the_calls_of_agentvoice_answer_as_printed(sqlite_url: str) -> None:
    with running("-m", "apex", "demo", "--serve", folder=ROOT, DATABASE_URL=sqlite_url, PORT="0") as server:
        url = wait_for(server, "Serving at").split()[-1]
        assert len(VOICE_CALLS) == 7
        for call, expected in VOICE_CALLS:
            found = answer(call, **SETTINGS | {"API": f"{url}/api"})
            assert unique(json.dumps(found)) == unique(json.dumps(json.loads(expected)))


def unique(text: str) -> str:
    """Without what is another each time: ids that were made, and the moment."""
    text = re.sub(r'"(?!0{8})[0-9a-f]{8}-[0-9a-f-]{27}"', '"id"', text)
    return re.sub(r'"(?!2023)\d{4}-\d\d-\d\dT[0-9:]{8}Z"', '"now"', text)


@pytest.mark.parametrize("pasted", [SERVICE])
def test_the_service_runs_when_it_is_pasted(pasted: str, tmp_path: Path) -> None:
    port = str(free_port())
    (tmp_path / "messages.py").write_text(pasted.replace("3031", port), encoding="utf-8")
    with running("messages.py", folder=tmp_path) as server:
        wait_for(server, "Uvicorn running")
        for call, expected in SERVICE_CALLS:
            assert answer(call.replace("localhost:3031", f"127.0.0.1:{port}")) == json.loads(expected)
