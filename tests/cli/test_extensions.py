"""Commands that an application adds with the table ``tool.apex.commands`` of its ``pyproject.toml``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.commands import apex_here_in

COMMAND = """
import click

@click.command()
@click.option("--to", default="you")
def greet(to):
    "Greet somebody."
    print(f"Hello {to}")
"""


def project(folder: Path, table: str) -> Path:
    (folder / "greetings.py").write_text(COMMAND, encoding="utf-8")
    (folder / "pyproject.toml").write_text(table, encoding="utf-8")
    return folder


def test_a_project_has_commands_of_its_own(tmp_path: Path) -> None:
    folder = project(tmp_path, '[tool.apex.commands]\ngreet = "greetings:greet"\n')
    assert "greet  Greet somebody." in apex_here_in(folder, "--help").stdout
    assert apex_here_in(folder, "greet", "--to", "Ann").stdout == "Hello Ann\n"


def test_a_folder_has_no_commands_of_another_project(tmp_path: Path) -> None:
    assert "demo" not in apex_here_in(tmp_path, "--help").stdout


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("[tool.apex\n", "cannot read pyproject.toml: "),
        ("[tool.apex.commands]\ngreet = 5\n", "'greet' must name a function, such as "),
        ('[tool.apex.commands]\ngreet = "greet ings"\n', "'greet' must name a function, such as "),
        ("[tool.apex]\ncommands = []\n", "'commands' must name a function, such as "),
        ('[tool.apex.commands]\ngreet = "greetings:nobody"\n', "cannot load the command 'greet': "),
    ],
)
def test_a_wrong_table_is_one_line(table: str, problem: str, tmp_path: Path) -> None:
    done = apex_here_in(project(tmp_path, table), "greet")
    assert (done.returncode, len(done.stderr.splitlines()), problem in done.stderr) == (1, 1, True), done.stderr
