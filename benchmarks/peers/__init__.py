"""The servers of the comparison, and the commands that start them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.servers import QUIET, Server, started
from benchmarks.tenants import SETTINGS

FEATHERS = Path(__file__).parent / "feathers"
COMMANDS: Mapping[str, list[str]] = {
    "apex": [sys.executable, "-m", "apex", "serve", "--port", "0"],
    "Feathers": ["node", str(FEATHERS / "app.js")],
    "FastAPI": [sys.executable, "-m", "benchmarks.peers.fastapi_app"],
    "bare ASGI": [sys.executable, "-m", "benchmarks.peers.bare"],
}
NAMES = {name.lower().partition(" ")[0]: name for name in COMMANDS}
"""The servers by their names on the command line."""


@contextmanager
def serving(names: list[str], url: str, **more: str) -> Iterator[dict[str, Server]]:
    """Start the named servers on one database, with ``more`` in their environment."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as settings, ExitStack() as stack:
        json.dump({"secret": SETTINGS["secret"], "jwtOptions": SETTINGS["jwtOptions"]}, settings, default=dict)
        settings.flush()
        environ = {**QUIET, "DATABASE_URL": url, "SETTINGS": settings.name, "NODE_ENV": "production", **more}
        yield {name: stack.enter_context(started(COMMANDS[name], environ)) for name in names}


def install() -> None:
    """Install Feathers in the versions of its lock file."""
    if shutil.which("npm") is None:
        raise SystemExit("npm not found: apex is measured beside Feathers, which needs Node")
    lock, installed = FEATHERS / "package-lock.json", FEATHERS / "node_modules/.package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run(["npm", "ci", "--silent", "--ignore-scripts"], cwd=FEATHERS, check=True)


def install_sqlite() -> None:
    """Build better-sqlite3 with the headers of the installed Node, which takes a minute."""
    if (FEATHERS / "node_modules/better-sqlite3/build/Release/better_sqlite3.node").exists():
        return
    node = Path(shutil.which("node") or "node").resolve().parent.parent
    headers = {"npm_config_nodedir": str(node)} if (node / "include/node").exists() else {}
    command = ["npm", "rebuild", "--silent", "better-sqlite3"]
    subprocess.run(command, cwd=FEATHERS, check=True, env={**os.environ, **headers})
