"""The pages of a reference: operations, samples and data of each service."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from apex import Apex, MemoryService, Params, rest
from apex.cli.commands import apex
from apex.describe import Example, describe
from apex.openapi import document_of
from apex.openapi.markdown import pages, write_pages
from apex.query.coercion import integer, text


class Notes(MemoryService):
    """What is to be remembered."""

    noun = "note"
    columns = {"id": integer, "text": text}
    methods = ("find", "shout")
    examples = {"shout": Example(data={"text": "it's"}, route={"group": 3})}

    @describe(result={"type": "object"})
    async def shout(self, data: dict[str, str], params: Params) -> dict[str, str]:
        return {"text": data["text"].upper()}


def app_with_notes() -> Apex:
    app = Apex().configure(rest)
    app.use("groups/:group/notes", Notes())
    return app


def test_a_page_has_the_operations_and_data_of_a_service() -> None:
    ((name, page),) = pages(document_of(app_with_notes())).items()
    assert name == "groups-group-notes"
    assert page.startswith("# groups/:group/notes\n\nWhat is to be remembered.\n\n## `GET /groups/{group}/notes`\n")
    assert "- Query: each field of the record, with operators in brackets, `$or`, `$and`, `$sort`, `$limit`" in page
    assert page.endswith("\n- `text`: string or null")


def test_samples_fill_the_path_and_quote_the_data() -> None:
    ((_, page),) = pages(document_of(app_with_notes())).items()
    assert "curl 'http://localhost:3030/groups/3/notes/shout' \\\n  -H 'Content-Type: application/json'" in page
    assert "-d '{\"text\": \"it'\\''s\"}'" in page
    assert "await app.service('groups/3/notes').shout({ text: 'it\\'s' })" in page
    assert 'await client.service("groups/3/notes").shout({"text": "it\'s"})' in page


def test_the_command_prints_them() -> None:
    printed = CliRunner().invoke(apex, ["--app", f"{__name__}:app_with_notes", "openapi", "--markdown"])
    assert (printed.exit_code, printed.output.splitlines()[0]) == (0, "# groups/:group/notes")


def test_pages_are_written_to_a_folder(tmp_path: Path) -> None:
    write_pages(document_of(app_with_notes()), tmp_path / "services")
    assert [file.name for file in (tmp_path / "services").iterdir()] == ["groups-group-notes.md"]
