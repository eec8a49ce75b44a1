"""Programs for Node's test runner, run against a server of this process."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
NODE = shutil.which("node")
SECONDS = 60

needs_node = pytest.mark.skipif(
    (NODE is None or not (FOLDER / "node_modules").exists()) and "CI" not in os.environ,
    reason="needs Node with npm, and what `make test` installs with them",
)


async def passes(program: str, **variables: str) -> None:
    """Runs a program to its end; fails with what it has printed."""
    assert NODE is not None, "Node is not installed"
    process = await asyncio.create_subprocess_exec(
        NODE, "--test", "--test-reporter=spec", str(FOLDER / program), env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    assert process.returncode == 0, output.decode()
