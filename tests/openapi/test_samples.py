"""The samples of all services run as they are printed, and bring the same in each language."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

from apex import Apex, load_config
from apex.openapi import document_of
from apex.webhooks import Webhooks
from services.app import CONFIG, create_app
from services.commands.demo_data import load_demo
from tests.docs.blocks import blocks_of
from tests.interop.node import FOLDER, needs_node
from tests.services.crm import Crm
from tests.services.test_curl import pytestmark as needs_curl
from tests.support.serving import serving

ROOT = Path(__file__).parent.parent.parent
SETUP = {block.lang: block.text for block in blocks_of(ROOT / "docs" / "services.md")}
FRESH = ("iat", "exp", "jti", "request_id", "next", "secret", "duration", *Webhooks.volatile)
VERBS = ("post", "get", "patch", "delete")


@cache
def document() -> dict[str, Any]:
    """Return the document of the CRM. Only the process that runs the tests makes it, not each that collects them."""
    return document_of(create_app(load_config(CONFIG, {"APEX_ENV": "test", "PORT": "3030"})))


def sources(lang: str) -> list[str]:
    """The samples of a language: what creates comes first, then what removes, children before parents, then what
    restores, then what erases, and the logout last. A change of the password would end the token of all others.
    """
    found = [
        (verb, sample["source"])
        for path in document()["paths"].values()
        for verb in VERBS
        for sample in path.get(verb, {}).get("x-codeSamples", ())
        if sample["lang"] == lang and "change_password" not in sample["source"]
    ]
    restored = [source for word in ("restore", "erase") for _, source in found if word in source]
    removed = [source for verb, source in found if verb == "delete"]
    logout = [source for source in removed if "authentication" in source]
    others = [source for _, source in found if source not in restored + removed]
    return [*others, *(source for source in reversed(removed) if source not in logout), *restored, *logout]


def shell() -> str:
    """Prints a list of what is answered."""
    calls = "\nprintf ,\n".join(source.replace("curl", "curl -s --fail-with-body", 1) for source in sources("Shell"))
    return f"set -e\n{SETUP['bash']}\nprintf '['\n{calls}\nprintf ']'\n"


def javascript() -> str:
    calls = "\n".join(re.sub(r"^await (.*)\Z", r"found.push(await \1)", source, flags=re.M | re.S)
                      for source in sources("JavaScript"))  # fmt: skip
    return f"{SETUP['javascript']}\nconst found = []\n{calls}\nconsole.log(JSON.stringify(found))\n"


def python() -> str:
    calls = [textwrap.indent(f"found.append({source})", " " * 8) for source in sources("Python")]
    lines = ["        found = []", *calls, "        print(encode(found).decode())"]
    setup = re.sub(r"^ *print.*$", lambda match: "\n".join(lines), SETUP["python"], flags=re.M)
    return f"from apex.encoding import encode\n{setup}"


async def answers(url: str, command: list[str], program: str, folder: Path) -> Any:
    """What a program prints, run against a CRM with the demo data."""
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": url}))
    async with serving(app) as http:
        await load_demo(app)
        program = await _with_entry(app, program)
        program = program.replace("http://localhost:3030", str(http.base_url).rstrip("/"))
        token = Crm(app, http).token(789)
        program = re.sub(r"\$\(.venv/bin/apex token .*\)", token, program)
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        output, errors = await process.communicate(program.encode())
    assert process.returncode == 0, errors.decode() + output.decode()
    return alike(json.loads(output))


async def _with_entry(app: Apex, program: str) -> str:
    """Change a record, and ask for its entry in the audit: messages between processes take ids of the log as well."""
    await app.service("contacts").patch(123, {"last_name": "Doe"})
    (entry,) = await app.service("audit").find({"query": {"record_id": 123}, "paginate": False})
    program = program.replace("/audit/1'", f"/audit/{entry['id']}'")
    return re.sub(r"""(service\(['"]audit['"]\)\.get\()1\)""", rf"\g<1>{entry['id']})", program)


def alike(value: Any) -> Any:
    """Without what is another each time."""
    if isinstance(value, dict):
        # Messages between processes take ids of the log at any time.
        fresh = (*FRESH, "id") if "record_id" in value else FRESH
        return {name: alike(child) for name, child in value.items() if name not in fresh}
    if isinstance(value, list):
        return [alike(child) for child in value]
    if isinstance(value, str) and not value.startswith("00000000-"):
        return re.sub(r"^(\d{4}-\d\d-\d\dT.*Z|eyJ.*|apex_.*|[0-9a-f-]{36})$", "...", value)
    return value


PROGRAMS = {
    "Shell": (["bash"], shell, ROOT),
    "JavaScript": (["node", "--input-type=module"], javascript, FOLDER),
    "Python": ([sys.executable, "-"], python, ROOT),
}


@needs_curl
@needs_node
async def test_the_samples_of_all_languages_bring_the_same(sqlite_template: Path, tmp_path: Path) -> None:
    found = {}
    for lang, (command, program, folder) in PROGRAMS.items():
        shutil.copyfile(sqlite_template, tmp_path / lang)
        found[lang] = await answers(f"sqlite:///{tmp_path / lang}", command, program(), folder)
    for place, source in enumerate(sources("Shell")):
        if "/webhook-deliveries" in source:
            continue  # Meanwhile more is delivered.
        assert found["Shell"][place] == found["JavaScript"][place] == found["Python"][place], source
    assert len(found["Shell"]) == len(found["JavaScript"]) == len(found["Python"]) == len(sources("Shell"))


@needs_curl
async def test_the_commands_run_on_postgresql(migrated_postgres_url: str) -> None:
    command, program, folder = PROGRAMS["Shell"]
    assert len(await answers(migrated_postgres_url, command, program(), folder)) == len(sources("Shell"))


def test_every_method_of_every_service_has_its_samples() -> None:
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test"}))
    exposed = {(path, method) for path, bound in app.services.items() for method in bound._options.methods}
    shown = {(path, name) for path, bound in app.services.items() for name in getattr(bound.service, "examples", {})}
    assert exposed == shown
