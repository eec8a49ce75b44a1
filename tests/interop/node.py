"""Node's test runner, for programs that call a server of this process, the compiler of TypeScript, and pyright."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from tests.support.waiting import SECONDS

FOLDER = Path(__file__).parent
NODE = shutil.which("node")
STRICT = (
    "--strict", "--exactOptionalPropertyTypes", "--noEmitOnError", "--target", "es2022", "--module", "esnext",
    "--moduleResolution", "bundler", "--types", "node",
)  # fmt: skip

needs_node = pytest.mark.skipif(
    (NODE is None or not (FOLDER / "node_modules").exists()) and "CI" not in os.environ,
    reason="needs Node with npm, and what `make test` installs with them",
)


async def passes(program: str, **variables: str) -> None:
    """Run a program until it ends or its time is over. Fail with its output. Its processes are ended."""
    assert NODE is not None, "Node is not installed"
    with TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            NODE, "--test", "--test-reporter=spec", str(FOLDER / program), env={**os.environ, **variables},
            stdout=output, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        output.seek(0)
        assert process.returncode == 0, output.read().decode()


def compile_programs(folder: Path, **programs: str) -> str:
    """Compile TypeScript files in a folder for Node. Return the errors.

    ``services`` are declarations; what is made of the others is beside them.
    """
    assert NODE is not None, "Node is not installed"
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (folder / "node_modules").symlink_to(FOLDER / "node_modules")
    for name, text in programs.items():
        (folder / f"{name}{'.d' if name == 'services' else ''}.ts").write_text(text, encoding="utf-8")
    compiler = str(FOLDER / "node_modules" / "typescript" / "bin" / "tsc")
    files = sorted(str(file.name) for file in folder.glob("*.ts"))
    return subprocess.run([NODE, compiler, *STRICT, *files], cwd=folder, capture_output=True, text=True).stdout


def check_types(folder: Path, *projects: str, **others: dict[str, bool]) -> list[str]:
    """Return the errors that pyright finds in a folder in its strict mode, each as file, line, rule and message.

    ``projects`` names those in the folder that import their own packages, and ``others`` such with rules of their own.
    """
    assert NODE is not None, "Node is not installed"
    environment = Path(sys.prefix)
    config = {
        "typeCheckingMode": "strict",
        "venvPath": str(environment.parent),
        "venv": environment.name,
        "executionEnvironments": [
            *({"root": project} for project in projects),
            *({"root": project, **rules} for project, rules in others.items()),
        ],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(config), encoding="utf-8")
    command = [NODE, str(FOLDER / "node_modules" / "pyright" / "index.js"), "--outputjson"]
    printed = subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout
    found: list[dict[str, Any]] = json.loads(printed)["generalDiagnostics"]
    return [
        f"{Path(one['file']).name}:{one['range']['start']['line'] + 1} {one.get('rule')}: {one['message']}"
        for one in found
        if one["severity"] == "error"
    ]
