"""The OpenAPI document: what it says of an app, where it is served, and that it is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner
from openapi_spec_validator import validate
from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import (
    Apex,
    AuthenticationService,
    MemoryService,
    Params,
    Schema,
    SQLService,
    load_config,
    rest,
    validate_data,
)
from apex.cli.commands import apex
from apex.describe import Example, describe
from apex.errors import ConfigError
from apex.openapi import document_of, openapi
from apex.query.coercion import integer, text
from apex.relations import belongs_to, has_many
from apex.schema.validation import Text, fields
from services.app import CONFIG, create_app

notes = Table(
    "notes",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("text", String(100), nullable=False),
    Column("color", String(10)),
    Column("secret", String(10)),
)


class NoteSchema(Schema):
    create_only = ("color",)

    text = Text(required=True, max=100)
    color = fields.String(allow_none=True)
    id = fields.Integer(dump_only=True)


class ShoutSchema(Schema):
    loud = Text(required=True, max=10)


class Notes(SQLService):
    """What is to be remembered."""

    table, noun = notes, "note"
    private = ("secret",)
    methods = ("find", "get", "create", "patch", "shout")
    summaries = {"shout": "Say it louder"}
    body_limits = {"shout": 5_000_000}
    examples = {"create": Example(data={"text": "Milk"})}

    async def shout(self, data: Any, params: Params) -> Any:
        """Louder."""
        return data


def app() -> Apex:
    app = Apex({"openapi": {"title": "Notes", "version": "7"}})
    app.configure(rest).configure(openapi)
    checked = validate_data({"create": NoteSchema, "patch": NoteSchema, "shout": ShoutSchema})
    app.use("notes", Notes(paginate={"default": 10, "max": 50}), hooks={"before": {"all": [checked]}})
    return app


def schema(name: str) -> dict[str, Any]:
    return dict(document_of(app())["components"]["schemas"][name])


def operation(verb: str, path: str) -> dict[str, Any]:
    return dict(document_of(app())["paths"][path][verb])


def test_it_is_valid_and_says_whose_it_is() -> None:
    document = document_of(app())
    validate(document)
    assert (document["openapi"], document["info"]) == ("3.1.0", {"title": "Notes", "version": "7"})
    assert document["tags"] == [{"name": "notes", "description": "What is to be remembered."}]


def test_exposed_methods_have_operations_and_no_others() -> None:
    paths = document_of(app())["paths"]
    assert {path: set(item) - {"parameters"} for path, item in paths.items()} == {
        "/notes": {"get", "post"},
        "/notes/shout": {"post"},
        "/notes/{id}": {"get", "patch"},
    }


def test_what_is_read_has_no_private_field() -> None:
    assert set(schema("Note")["properties"]) == {"id", "text", "color"}
    assert schema("Note")["properties"]["color"] == {"type": ["string", "null"]}
    assert schema("Note")["additionalProperties"] is False


def test_what_is_written_differs_by_method() -> None:
    create, patch = schema("NoteCreate"), schema("NotePatch")
    assert (set(create["properties"]), create["required"]) == ({"text", "color"}, ["text"])
    assert (set(patch["properties"]), patch.get("required")) == ({"text"}, None)


def test_a_custom_method_is_an_operation_of_its_own() -> None:
    create, shout = operation("post", "/notes"), operation("post", "/notes/shout")
    content = [one["requestBody"]["content"]["application/json"] for one in (create, shout)]
    assert content == [
        {"schema": {"$ref": "#/components/schemas/NoteCreate"}, "example": {"text": "Milk"}},
        {"schema": {"$ref": "#/components/schemas/NoteShout"}},
    ]
    assert shout["description"] == "Louder.\n\nThe body may have up to 5,000,000 bytes."
    assert (create["operationId"], shout["operationId"]) == ("notesCreate", "notesShout")
    assert set(create["responses"]) - set(shout["responses"]) == {"201"}


def test_a_custom_method_on_the_path_of_another_service_is_left_out() -> None:
    app = Apex().configure(rest)
    app.use("notes", Notes())
    app.use("notes/shout", MemoryService())
    assert "get" in document_of(app)["paths"]["/notes/shout"]


def test_a_hook_that_checks_data_says_more_than_the_method() -> None:
    app = Apex().configure(rest)
    checked = validate_data({"restore": ShoutSchema})
    app.use("notes", MemoryService(methods=["restore"], trash="gone"), hooks={"before": {"restore": [checked]}})
    body = document_of(app)["paths"]["/notes/restore"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/MemoryServiceRestore"}


def test_a_method_for_everybody_says_so() -> None:
    assert operation("get", "/notes")["security"] == []


def test_a_list_says_which_keys_of_json_it_can_be_asked_for() -> None:
    described = document_of(create_app(load_config(CONFIG, {"APEX_ENV": "test"})))["paths"]["/contacts"]["get"][
        "description"
    ]
    assert "`custom_fields_by_name.KEY`" in described


def test_a_list_has_its_fields_operators_and_words() -> None:
    names = [parameter["name"] for parameter in operation("get", "/notes")["parameters"] if parameter["in"] == "query"]
    words = ["$or", "$and", "$sort", "$limit", "$skip", "$total", "$after", "$before", "$select"]
    assert names == ["id", "text", "color", *words]


def test_a_list_of_an_app_with_a_log_has_its_position() -> None:
    crm = document_of(create_app(load_config(CONFIG, {"APEX_ENV": "test"})))
    listed = crm["paths"]["/contacts"]["get"]
    assert "Position" in listed["responses"]["200"]["headers"]
    assert [one["schema"] for one in listed["parameters"] if one["name"] == "$position"] == [{"type": "boolean"}]
    assert crm["components"]["schemas"]["ContactPage"]["properties"]["position"]["type"] == ["string", "null"]
    # A page of events has a position of its own.
    assert "$position" not in {one["name"] for one in crm["paths"]["/events"]["get"]["parameters"]}


def test_events_have_the_field_of_their_tenant_and_the_limits_of_their_service() -> None:
    crm = document_of(create_app(load_config(CONFIG, {"APEX_ENV": "test"})))
    assert crm["components"]["schemas"]["Event"]["properties"]["organization_id"] == {"type": ["integer", "null"]}
    limit = next(one for one in crm["paths"]["/events"]["get"]["parameters"] if one["name"] == "$limit")
    assert limit["schema"] == {"type": "integer", "minimum": 1, "default": 100, "maximum": 1_000}
    assert crm["components"]["responses"]["Error410"]["description"].startswith("The log cannot go on")


def test_a_field_is_one_parameter_with_its_operators() -> None:
    number, text = operation("get", "/notes")["parameters"][:2]
    assert (number["style"], number["example"]) == ("deepObject", {})
    assert [one["schema"]["anyOf"] for one in (number, text)] == [
        [{"type": "integer"}, {"$ref": "#/components/schemas/IntegerOperators"}],
        [{"type": "string"}, {"$ref": "#/components/schemas/TextOperators"}],
    ]
    assert list(schema("IntegerOperators")["properties"]) == ["$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte"]
    assert list(schema("TextOperators")["properties"]) == ["$ne", "$in", "$nin"]


def test_fields_that_the_server_writes_are_read_only() -> None:
    assert [name for name, shape in schema("Note")["properties"].items() if shape.get("readOnly")] == ["id"]
    assert "id" not in schema("NoteCreate")["properties"]


def test_a_field_says_how_null_is_found() -> None:
    app = Apex().configure(rest)
    app.use("notes", MemoryService(fields={"id": integer, "size": integer, "text": text}))
    _, size, words = document_of(app)["paths"]["/notes"]["get"]["parameters"][:3]
    assert size["schema"]["anyOf"][:2] == [{"type": "integer"}, {"const": "null"}]
    assert (size["description"][-24:], words["description"][-31:]) == (
        " `size=null` finds null.", " `text[$in]=[null]` finds null."
    )  # fmt: skip


ROOM = {"room": 7}


def test_examples_of_calls_are_those_of_parameters() -> None:
    class Shelves(MemoryService):
        examples = {"find": Example(query={"size": 3, "$limit": 2}, route=ROOM), "get": Example(5, route=ROOM)}

    app = Apex().configure(rest)
    app.use("rooms/:room/shelves", Shelves(fields={"id": integer, "size": integer, "name": text}))
    place = document_of(app)["paths"]["/rooms/{room}/shelves/{id}"]
    found = document_of(app)["paths"]["/rooms/{room}/shelves"]["get"]["parameters"]
    assert [(one["name"], one["example"]) for one in place["parameters"]] == [("room", "7"), ("id", 5)]
    named = {one["name"]: one["example"] for one in found if "example" in one}
    assert (named["size"], named["name"], named["$limit"]) == (3, {}, 2)


def test_shapes_inside_of_shapes_are_components() -> None:
    class Boxes(MemoryService):
        @describe(result={"title": "Box", "type": "object", "properties": {"lid": {"title": "Lid", "type": "string"}}})
        async def open(self, data: Any, params: Params) -> Any:
            return data

    app = Apex().configure(rest)
    app.use("boxes", Boxes(methods=["open"]))
    schemas = document_of(app)["components"]["schemas"]
    assert schemas["Box"]["properties"] == {"lid": {"$ref": "#/components/schemas/Lid"}}


def test_what_changes_many_records_says_which() -> None:
    app = Apex().configure(rest)
    app.use("notes", MemoryService(fields={"id": integer, "text": text}, multi=["remove"]))
    remove = document_of(app)["paths"]["/notes"]["delete"]
    names = {parameter["name"] for parameter in remove["parameters"]}
    assert ({"text", "$or", "$select"} <= names, names & {"$limit", "$sort"}) == (True, set())


def test_services_of_one_class_are_told_apart_by_their_paths() -> None:
    app = Apex().configure(rest)
    app.use("old-notes", MemoryService(fields={"id": integer, "text": text}))
    app.use("new-notes", MemoryService(fields={"id": integer, "title": text}))
    schemas = document_of(app)["components"]["schemas"]
    assert schemas["OldNotes"]["properties"] == {"id": {"type": "integer"}, "text": {"type": ["string", "null"]}}
    assert list(schemas["NewNotes"]["properties"]) == ["id", "title"]


def test_two_shapes_of_one_name_are_refused() -> None:
    class One(MemoryService):
        noun = "note"

    class Other(MemoryService):
        noun = "note"

    app = Apex().configure(rest)
    app.use("one", One(fields={"id": integer, "text": text}))
    app.use("other", Other(fields={"id": integer, "title": text}))
    with pytest.raises(ConfigError, match="are called 'Note': give a service another noun"):
        document_of(app)


def test_a_service_without_a_schema_is_described_too() -> None:
    app = Apex()
    app.use("things", MemoryService(multi=True))
    document = document_of(app)
    validate(document)
    assert set(document["paths"]["/things"]) >= {"get", "post", "patch", "delete"}


def test_a_service_of_apex_is_described_without_its_code() -> None:
    app = Apex({"authentication": {"secret": "s" * 32, "authStrategies": ["jwt"]}})
    (tag,) = document_of(app.use("authentication", AuthenticationService(app)))["tags"]
    assert tag["description"] == "The service that logs callers in (`create`) and out (`remove`)."


def test_it_names_no_errors_of_the_program() -> None:
    """Callers read the docstrings of methods, and never meet a TypeError."""
    assert "TypeError" not in json.dumps(document_of(create_app(load_config(CONFIG))))


def test_its_server_is_this_machine_or_what_the_settings_say() -> None:
    assert document_of(app())["servers"] == [{"url": "http://127.0.0.1:3030"}]
    servers = [{"url": "https://api.example.org"}]
    assert document_of(Apex({"openapi": {"servers": servers}}))["servers"] == servers


async def test_it_is_served_with_the_url_that_it_was_asked_at() -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app())) as http:
        hosts = ["localhost:3030", *(f"a{number}.example.org" for number in range(9))]
        servers = [(await http.get(f"http://{host}/openapi.json")).json()["servers"] for host in hosts]
    assert servers[:2] == [[{"url": "http://127.0.0.1:3030"}], [{"url": "http://a0.example.org"}]]
    assert servers[-1] == [{"url": "/"}]


async def test_it_is_served_with_a_tag() -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app()), base_url="http://app") as http:
        first = await http.get("/openapi.json")
        again = await http.get("/openapi.json", headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, first.headers["content-type"]) == (200, "application/json")
    assert first.json() == {**document_of(app()), "servers": [{"url": "http://app"}]}
    assert (again.status_code, again.content) == (304, b"")


def test_the_command_writes_it(tmp_path: Path) -> None:
    named = ["--app", f"{__name__}:app", "openapi"]
    printed = CliRunner().invoke(apex, named)
    assert json.loads(printed.output) == document_of(app())
    file = tmp_path / "openapi.json"
    assert CliRunner().invoke(apex, [*named, "--output", str(file)]).output == ""
    assert json.loads(file.read_text()) == document_of(app())


def test_operations_have_titles_that_people_read() -> None:
    paths = document_of(app())["paths"]
    assert paths["/notes"]["get"]["summary"] == "List notes"
    assert paths["/notes"]["post"]["summary"] == "Create a note"
    assert paths["/notes/shout"]["post"]["summary"] == "Say it louder"
    assert paths["/notes/{id}"]["patch"]["summary"] == "Change a note"
    crm = document_of(create_app(load_config(CONFIG, {"APEX_ENV": "test"})))["paths"]
    assert crm["/authentication"]["post"]["summary"] == "Log in"
    assert crm["/authentication"]["delete"]["summary"] == "Log out"
    assert crm["/users/{id}"]["get"]["summary"] == "Get your profile"
    assert crm["/api-keys/{id}"]["get"]["summary"] == "Get an API key"
    assert crm["/companies"]["get"]["summary"] == "List companies"
    assert crm["/organizations/{organization_id}/users"]["get"]["summary"] == "List members"


@pytest.mark.parametrize(
    ("path", "get"),
    [
        ("boxes", "Get a box"),
        ("entries", "Get an entry"),
        ("status", "Get a status"),
        ("old/news-items", "Get a news item"),
    ],
)
def test_a_service_without_a_noun_is_called_by_its_path(path: str, get: str) -> None:
    app = Apex()
    app.use(path, MemoryService())
    assert document_of(app)["paths"][f"/{path}/{{id}}"]["get"]["summary"] == get


def test_related_records_are_in_the_document() -> None:
    fields = {"id": integer, "parent_id": integer}
    relations = {"parent": belongs_to("notes"), "children": has_many("notes", "parent_id", fields=("id",))}
    app = Apex()
    app.use("notes", MemoryService(fields=fields, relations=relations))
    document = document_of(app)
    properties = document["components"]["schemas"]["MemoryService"]["properties"]
    assert properties["parent"]["anyOf"] == [{"$ref": "#/components/schemas/MemoryService"}, {"type": "null"}]
    assert properties["children"]["items"]["properties"].keys() == {"id"}
    for path, method in (("/notes", "get"), ("/notes", "post"), ("/notes/{id}", "get"), ("/notes/{id}", "patch")):
        assert "$populate" in {parameter.get("name") for parameter in document["paths"][path][method]["parameters"]}
