"""The declarations for TypeScript, as they are written; whether they are right is seen where they are compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from apex import Apex, MemoryService
from apex.cli.commands import apex
from apex.openapi.declarations import declarations
from apex.query.coercion import decimal, integer, text, timestamp
from tests.openapi.test_document import app

ROOT = Path(__file__).parents[2]
NAMED = ["--app", "tests.openapi.test_document:app", "openapi", "--typescript"]


def test_a_record_is_an_interface_without_private_fields() -> None:
    assert (
        "export interface Note {\n  readonly id: number\n  text: string\n  color: string | null\n}\n"
        in declarations(app())
    )


def test_what_is_written_differs_by_method() -> None:
    written = declarations(app())
    assert "export interface NoteCreate {\n  text: string\n  color?: string | null\n}\n" in written
    assert "export interface NotePatch {\n  text?: string\n}\n" in written


def test_exposed_methods_are_there_and_no_others() -> None:
    (_, services) = declarations(app()).split("export interface ServiceTypes ")
    assert "  /** What is to be remembered. */\n  notes: Apex.Events<Note> & {\n" in services
    assert "    shout(data: NoteShout, params?: Feathers.Params): Promise<unknown>\n" in services
    assert [name for name in ("find", "get", "create", "update", "patch", "remove") if f" {name}<" in services] == [
        "find", "get", "create", "patch",
    ]  # fmt: skip


def test_moments_and_decimals_are_strings() -> None:
    app = Apex()
    fields = {"id": integer, "at": timestamp, "price": decimal, "text": text}
    app.use("things", MemoryService(fields=fields))
    written = declarations(app)
    assert "  at: string | null\n  price: string | null\n  text: string | null\n" in written
    assert (
        "  price?: Apex.Where<string | null, Apex.Ordered>\n  text?: Apex.Where<string | null, Apex.Equal>\n" in written
    )


def test_a_path_with_placeholders_is_a_pattern() -> None:
    app = Apex()
    app.use("rooms/:room/people", MemoryService())
    assert "  [path: `rooms/${string}/people`]: " in declarations(app)


def test_the_command_writes_the_same_each_time(tmp_path: Path) -> None:
    file = tmp_path / "services.d.ts"
    assert CliRunner().invoke(apex, [*NAMED, "--output", str(file)]).output == ""
    environ = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-m", "apex", *NAMED]
    again = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert again.stdout == file.read_text(encoding="utf-8") == declarations(app())
