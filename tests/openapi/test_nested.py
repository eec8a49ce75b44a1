"""Related records in the data of services, in the document and in TypeScript."""

from __future__ import annotations

from apex import Apex, MemoryService, Schema, validate_data
from apex.openapi.declarations import declarations
from apex.openapi.document import document
from apex.query.coercion import anything, integer, text
from apex.relations import belongs_to, has_many, many_to_many
from apex.schema import IdField, TextField


class IssueSchema(Schema):
    title = TextField(required=True)
    board_id = IdField(required=True)


class CommentSchema(Schema):
    text = TextField(required=True)
    issue_id = IdField(required=True)


def tracker() -> Apex:
    app = Apex()
    relations = {
        "board": belongs_to("boards", write=True),
        "comments": has_many("comments", "issue_id", write=True),
        "labels": many_to_many("labels", through="links", key="issue_id", other_key="label_id", write=True),
        "children": has_many("issues", "board_id", write=True),
    }
    for path, schema in (("issues", IssueSchema), ("comments", CommentSchema), ("boards", None), ("labels", None)):
        fields = {"id": integer} if schema is None else dict.fromkeys(("id", *schema().fields), integer)
        own = relations if path == "issues" else {}
        hooks = (
            None
            if schema is None
            else {"before": {"create": [validate_data(schema)], "patch": [validate_data(schema)]}}
        )
        app.use(path, MemoryService(fields=fields, relations=own), hooks=hooks)
    return app


def test_create_takes_related_records_and_patch_only_ids() -> None:
    schemas = document(tracker())["components"]["schemas"]
    created, patched = schemas["IssuesCreate"], schemas["IssuesPatch"]
    assert created["properties"]["labels"]["items"] == {"type": "integer"}
    assert created["properties"]["comments"]["items"] == {"$ref": "#/components/schemas/IssuesCommentsCreate"}
    assert created["required"] == ["title"]
    assert set(patched["properties"]) == {"title", "board_id", "labels"}
    comment = schemas["IssuesCommentsCreate"]
    assert (set(comment["properties"]), comment["required"]) == ({"text"}, ["text"])


def test_records_inside_of_records_of_their_own_kind_refer_to_themselves() -> None:
    schemas = document(tracker())["components"]["schemas"]
    child = schemas["IssuesChildrenCreate"]["properties"]
    assert child["children"]["items"] == {"$ref": "#/components/schemas/IssuesChildrenCreate"}


def test_typescript_knows_related_records() -> None:
    (_, created) = declarations(tracker()).split("export interface IssuesCreate ")
    members = created[: created.index("\n}")]
    assert "  comments?: IssuesCommentsCreate[]\n" in members
    assert "  labels?: number[]\n" in members


def test_typescript_takes_the_queries_of_relations_and_lists() -> None:
    written = declarations(tracker())
    assert "  $populate?: Apex.Populate<'board' | 'comments' | 'labels' | 'children'>\n" in written
    across = "Apex.Where<string | number | boolean | null, Apex.Ordered | '$contains'>"
    assert f"  [key: `labels.${{string}}`]: {across}\n" in written


def test_lists_of_all_types_take_contains() -> None:
    app = Apex()
    kinds = {"tags": text, "sizes": integer}
    app.use("notes", MemoryService(fields={"id": integer, **dict.fromkeys(kinds, anything)}, lists=kinds))
    found = document(app)
    operators = [name for name in found["components"]["schemas"] if name.endswith("Operators")]
    assert operators == ["IntegerOperators", "TextContainsOperators", "IntegerContainsOperators"]
    assert "  sizes?: Apex.Where<number, Apex.Equal | '$contains'>\n" in declarations(app)


def test_the_document_says_how_to_ask_across_a_relation() -> None:
    listed = document(tracker())["paths"]["/issues"]["get"]["parameters"]
    (described,) = (one["description"] for one in listed if one.get("name") == "$and")
    assert described.endswith("`board.id` is the `id` of the related `board`.")
