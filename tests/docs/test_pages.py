"""Runs the blocks of the documentation, follows its links and builds it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apex.cli.scaffold import new_project
from tests.docs.blocks import PROSE, Block, blocks_of, differences, programs_of
from tests.docs.languages import NotRun
from tests.docs.running import run_page
from tests.process.commands import ROOT

DOCS = ROOT / "docs"
OUTER = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")
PAGES = sorted([*(ROOT / name for name in OUTER), *DOCS.glob("*.md"), *(DOCS / "guide").glob("*.md")])
"""All pages except those that ``make docs`` writes. ``openapi/test_samples.py`` runs their samples."""

LINK = r"\[[^\]]*\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)"

NOT_RUN = {
    "python -m pip install build pyroma twine": "needs an index; test_wheel.py builds and installs both distributions",
    "export APEX_SECRET=$(openssl rand -hex 32) POSTGRES_PASSWORD=$(openssl rand -hex 16)": "needs a Docker daemon",
    "useradd --system apex && useradd --system apex_owner": "needs a machine of its own, with systemd",
    **dict.fromkeys(
        (
            "sudo -u postgres pg_dump --format=custom --file=/var/backups/apex.dump apex",
            "sudo -u postgres createdb restored"
            " && sudo -u postgres psql --dbname=restored --file=/opt/apex/deploy/roles.sql",
            'sqlite3 var/apex.db ".backup copy.db"',
            "set -a && . /etc/apex.env && set +a",
            "cd /opt/apex-next && sudo -E -u apex_owner .venv/bin/apex migrate",
            "cd /opt/apex-next && sudo -E -u apex_owner .venv/bin/apex migrate --down <noted revision>",
        ),
        "test_deploy.py runs it, with a PostgreSQL server of its own",
    ),
    "python -m tests.oracle --seed 7 --minutes 2 --redis": "takes minutes; oracle/test_oracle.py runs it for seconds",
    "npm install \"$(.venv/bin/python -c 'import apex; print(apex.__path__[0])')/live\"": "needs a registry;"
    " test_live.py packs the package, and all tests use it",
    **dict.fromkeys(
        (
            "npm install @feathersjs/feathers @feathersjs/socketio-client socket.io-client",
            "npm install @feathersjs/client",
        ),
        "needs a registry; tests have the packages of a lock file",
    ),
    **dict.fromkeys(
        (
            "npm install openapi-fetch openapi-typescript typescript@5",
            "npx @hey-api/openapi-ts --input openapi.json --output client",
            "pip install openapi-python-client",
            "npx --package openapi-to-postmanv2 openapi2postmanv2 --spec openapi.json --output collection.json"
            " --options requestParametersResolution=Example,parametersResolution=Example",
        ),
        "test_tools.py runs it, with the versions of a lock file",
    ),
}
"""The first lines of ``console`` blocks, with the reason why their page does not run them."""

PROJECTS: dict[str, dict[str, Any]] = {
    "": {},
    "--tenants": {"tenants": True},
    "--bare": {"bare": True},
    "--bare --database sqlite": {"bare": True, "database": "sqlite"},
}
"""The projects whose pages are run, by the options of ``apex new``."""

RUN = [page for page in PAGES if {block.lang for block in blocks_of(page)} - {"console", *PROSE}]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", RUN, ids=name)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path, demo_file: Path) -> None:
    check(programs_of(page, NOT_RUN), tmp_path, demo_file)


@pytest.mark.parametrize(("arguments", "options"), PROJECTS.items())
def test_the_page_of_a_new_project_does_what_it_says(
    arguments: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = new_project("blog", **options) / "README.md"
    (folder := tmp_path / "checkout").mkdir()
    begin = f"apex new blog {arguments}\ncd blog\nln -s ../.venv .venv\ntouch .venv/installed\n"
    check([Block(page, 0, "bash", begin), *programs_of(page)], folder)


def check(blocks: list[Block], folder: Path, demo: Path | None = None) -> None:
    printed = run_page(blocks, folder, demo)
    wrong = [line for block, text in zip(blocks, printed, strict=True) for line in differences(block, text)]
    assert not wrong, "\n".join(wrong)


def test_the_exceptions_are_those_that_there_are() -> None:
    blocks = [block for page in PAGES for block in blocks_of(page)]
    assert {block.head for block in blocks if block.lang == "console"} == set(NOT_RUN)


@pytest.mark.parametrize(
    "block", ["```\n1\n```", "```sh\n1\n```", "~~~rust\n1\n~~~", "```json\n1\n```", "  ```console\n  ls\n  ```",
              "```python\n# file.py\n1\n```"]
)  # fmt: skip
def test_a_block_that_nothing_runs_is_found(block: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{block}\n", encoding="utf-8")
    with pytest.raises(NotRun):
        programs_of(page)


@pytest.mark.parametrize(
    ("block", "found"),
    [
        ("```bash\necho 1\n```\n\n```text\n1\n```", []),
        ("```bash\necho 1\n# 2\n```", ["page.md:1 ```bash has not printed 2, but 1\n"]),
        ("```bash\necho '[1]'\n```\n\n```json\n[2]\n```", ["page.md:1 ```bash printed [1]\n"]),
        ("```bash\ntrue\n```\n\n```json\n[2]\n```", ["page.md:1 ```bash printed "]),
        ("```bash\necho no\n```\n\n```json\n[2]\n```", ["page.md:1 ```bash printed no\n"]),
        ("```python\nprint(1)\n```\n\n```text\n2\n```", ["page.md:1 ```python printed 1\n"]),
    ],
)
def test_what_is_shown_but_not_printed_is_found(block: str, found: list[str], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(block, encoding="utf-8")
    (folder := tmp_path / "checkout").mkdir()
    (program,) = programs_of(page)
    assert differences(program, *run_page([program], folder)) == found


def test_a_command_that_fails_fails_the_page(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        run_page([Block(tmp_path / "page.md", 1, "bash", "false\ntrue\n")], tmp_path)


def test_the_first_example_takes_ten_lines() -> None:
    (service,) = [block for block in blocks_of(ROOT / "README.md") if block.lang == "python"]
    assert len([line for line in service.text.splitlines()[1:] if line]) <= 10


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    assert list(broken(page)) == []


def test_the_documentation_is_built_without_a_warning(tmp_path: Path) -> None:
    # Sphinx's plain theme has the same warnings. Most of the time for the pages goes to the sidebar of the other one.
    options = ["--fail-on-warning", "--keep-going", "--quiet", "--define", "html_theme=basic"]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, "")
    reference = {page.stem: page.read_text(encoding="utf-8") for page in (tmp_path / "reference").glob("*.html")}
    assert "class Apex" in re.sub("<[^>]*>", "", reference["core"])
    code = [block for page in reference.values() for block in re.findall(r"<pre>(.*?)</pre>", page, re.S)]
    assert [block for block in code if "``" in re.sub("<[^>]*>", "", block)] == []
    listed = re.findall(r"^- \[.+\]\((.+)\): \w", (tmp_path / "llms.txt").read_text(encoding="utf-8"), re.M)
    assert {"_sources/quickstart.md.txt", "_sources/services/contacts.md.txt"} < set(listed)
    assert all((tmp_path / page).exists() for page in listed)


def broken(page: Path) -> Iterator[str]:
    """Yield the links of a page that lead nowhere."""
    for path, anchor in re.findall(LINK, prose(page)):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield f"{path}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def prose(page: Path) -> str:
    """Return a page without its code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def test_the_architecture_names_each_package() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    packages = [init.parent.name for init in (ROOT / "apex").glob("*/__init__.py")]
    assert [name for name in packages if f"`{name}/`" not in page and f"`apex/{name}/`" not in page] == []
