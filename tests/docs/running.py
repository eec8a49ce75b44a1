"""Runs the blocks of a page as one bash script, in a copy of the checkout, at free ports."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.docs.blocks import Block
from tests.docs.languages import PRELUDE, bash, command_of
from tests.interop.node import FOLDER as INTEROP
from tests.process.commands import ROOT, environment
from tests.support.databases import free_port
from tests.support.redis_server import redis_server
from tests.support.waiting import SECONDS

PORTS = ("3030", "3031", "3032", "8080")
REDIS = "6379"
COPIED = ("services", "hooks", "config", "migrations", "deploy")
LINKED = ("Makefile", "README.md", "apex", "benchmarks", "console", "docs", "pyproject.toml", "requirements", "tests")
"""Other files that pages use. A database that is left in the checkout is not among them."""
PROGRAMS = ("curl", "node", "nginx", "openssl")
"""Programs that a machine may lack."""
PATHS = f"{os.environ['PATH']}:/usr/sbin"
LONGEST = 5 * SECONDS
"""A page starts a dozen processes, one after the other."""
STAMPS = ("venv", "run", "test", "npm")
STRICT = "set -e; export CURL_HOME=$HERE/strict"
SHOWING = "set +e; export CURL_HOME=$HERE/showing"
STARTED = f"{bash('make run # serves')} # before the page"
CURL = 'silent\nshow-error\nwrite-out = "\\n"\n'


def run_page(blocks: list[Block], folder: Path, demo: Path | None = None) -> list[str]:
    """Return the output of each block. If a command fails against expectation, fail with the whole output.

    A page that calls the demo without starting it finds one. It starts with a copy of the database ``demo``.
    """
    script = script_of(blocks)
    require(script)
    with ExitStack() as stack:
        ports = {port: str(free_port()) for port in PORTS}
        if REDIS in script:
            ports[REDIS] = str(stack.enter_context(redis_server(folder)).port)
        checkout(folder, ports)
        if demo is not None and STARTED in script:
            (folder / "var").mkdir()
            shutil.copyfile(demo, folder / "var" / "apex.db")
        (folder / "page.sh").write_text(moved(numbered(script), ports), encoding="utf-8")
        here = {"HERE": str(folder), "HOME": str(folder), "PATH": f"{folder}/.venv/bin:{PATHS}"}
        printed = printed_by("page.sh", folder, environment(PORT=ports["3030"], **here))
    return [moved(text, {new: old for old, new in ports.items()}) for text in printed.split("\0")[:-1]]


def script_of(blocks: list[Block]) -> str:
    """Return the script of a page. A zero byte ends the output of a block. A block that shows its output may fail."""
    steps = []
    for block in blocks:
        strict = block.shown is None and not block.comments
        steps += [STRICT if strict else SHOWING, command_of(block.lang, block.text), r"printf '\0'"]
    script = "\n".join(steps)
    demo = "localhost:3030" in script.partition("\nserve ")[0]
    return "\n".join([PRELUDE, STARTED if demo else "", script, "stop"])


def printed_by(script: str, folder: Path, variables: dict[str, str]) -> str:
    """Return the output of a script, and end all processes that it has started."""
    with subprocess.Popen(
        ["bash", script], cwd=folder, env=variables, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            printed, _ = process.communicate(timeout=LONGEST)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    logs = "\n".join(log.read_text() for log in sorted(folder.rglob("server-*.log")))
    assert process.returncode == 0, f"{printed[-3000:]}\n{logs[-3000:]}"
    return printed


def numbered(script: str) -> str:
    """Return a script in which a migration of the CRM has the next number, whatever the page says."""
    match = re.search(r"migrations/versions/(\d{4})_.*?from migrations\.tables import", script, re.S)
    if match is None:
        return script
    own, newest = match[1], max(file.name[:4] for file in (ROOT / "migrations" / "versions").glob("0*.py"))
    script = script.replace(f'down_revision = "{int(own) - 1:04}"', f'down_revision = "{newest}"')
    following = f"{int(newest) + 1:04}"
    return script.replace(f'\nrevision = "{own}"', f'\nrevision = "{following}"').replace(f"/{own}_", f"/{following}_")


def moved(text: str, ports: dict[str, str]) -> str:
    """Return a text with other ports."""
    return re.sub(rf"\b({'|'.join(ports)})\b", lambda port: ports[port[0]], text)


def checkout(folder: Path, ports: dict[str, str]) -> None:
    """Make a checkout with everything installed: copies of files that a page may change, and links to the others."""
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("local.json"))
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    for path in (folder / "deploy").iterdir():
        path.write_text(moved(path.read_text(encoding="utf-8"), ports), encoding="utf-8")
    (folder / "node_modules").symlink_to(INTEROP / "node_modules")
    install(folder / ".venv")
    for name, option in {"showing": "", "strict": "fail-with-body\n"}.items():
        (folder / name).mkdir()
        (folder / name / ".curlrc").write_text(f"{CURL}{option}")


def install(venv: Path) -> None:
    """Link the environment of this process. ``make`` finds nothing left to do in it."""
    venv.mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.suffix != ".stamp":
            (venv / path.name).symlink_to(path)
    for stamp in STAMPS:
        (venv / f"{stamp}.stamp").touch()


def require(script: str) -> None:
    """Skip the test if a program is missing, except on CI."""
    needed = [program for program in PROGRAMS if f"{program} " in script]
    missing = [program for program in needed if shutil.which(program, path=PATHS) is None]
    if "node" in needed and not (INTEROP / "node_modules").exists():
        missing.append("the packages of npm")
    if missing and "CI" not in os.environ:
        pytest.skip(f"needs {', '.join(missing)}")
