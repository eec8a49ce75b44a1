"""Import and export as methods of a service: what goes in or out as CSV or JSON."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from itertools import islice
from typing import Any, ClassVar

from marshmallow import validates_schema

from apex import Apex, Params, Schema
from apex.describe import describe
from apex.encoding import Stream
from apex.errors import BadRequest, FeathersError
from apex.schema import Boolean, Id, ValidationError, fields, validate
from apex.service import BodyLimit, BodyLimits
from apex.transports import public_error
from apex.types import Row
from services.shared.search import Searchable
from services.transfer.checkpoints import Checkpoint
from services.transfer.columns import Columns
from services.transfer.exports import pages
from services.transfer.formats import FORMATS, Numbered, records, rows, written
from services.transfer.imports import Import

MOST_ROWS = 10_000
BODY = BodyLimit(8 * 1024 * 1024, "Send several calls, or import the file with `apex import`")
TOO_MANY = f"Must have at most {MOST_ROWS:,} rows: send several calls, or use `apex import`"
BATCH = 100
"""Rows that a call stores at once: an import must not hold up what else the process serves."""


COUNTS = ("rows", "skipped", "created", "updated", "refused", "refused_before")
IMPORTED = {
    "title": "Imported",
    "type": "object",
    "properties": {
        **{name: {"type": "integer", "minimum": 0} for name in COUNTS},
        "errors": {"type": "array", "items": {"type": "object", "required": ["line", "message"]}},
    },
    "required": ["rows", "created", "updated", "refused", "errors"],
    "additionalProperties": False,
}
EXPORTED = {"type": "array", "items": {"type": "object"}}


class Rows(fields.Field[Any]):
    """A list, which is not looked at before it is known to be short enough."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValidationError("Must be a list")
        if len(value) > MOST_ROWS:
            raise ValidationError(TOO_MANY)
        return value


class ExportSchema(Schema):
    organization_id = Id(required=True)
    format = fields.String(load_default="json", validate=validate.OneOf(tuple(FORMATS)))


class ImportSchema(ExportSchema):
    keywords = {"oneOf": [{"required": ["rows"]}, {"required": ["text"]}]}

    rows = Rows(metadata={"type": "array", "items": {}, "maxItems": MOST_ROWS, "example": []})
    text = fields.String()
    upsert = fields.String(allow_none=True)
    dry_run = Boolean(load_default=False)
    again = Boolean(load_default=False)

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_source(self, data: Row, original: Row, **_: Any) -> None:
        if ("rows" in original) == ("text" in original):
            raise ValidationError("Give either rows (a list of objects) or text (CSV or JSON)", "rows")
        if "rows" in data and data.get("format") == "csv":
            raise ValidationError("Must be text for the format csv", "rows")


class Transferable(Searchable):
    """A service with ``import`` and ``export``. ``upsert`` names the keys by which a row finds the record that it
    changes: the field that is looked up, then those that must not differ where both have one.
    """

    methods: Sequence[str] = (*Searchable.methods, "import", "export")
    custom: ClassVar[Mapping[str, type[Schema]]] = {**Searchable.custom, "import": ImportSchema, "export": ExportSchema}
    reads: ClassVar[Sequence[str]] = (*Searchable.reads, "export")
    body_limits: BodyLimits = {"import": BODY}
    resumable: ClassVar[Sequence[str]] = ("import",)
    upsert: ClassVar[Mapping[str, Sequence[str]]] = {}

    async def setup(self, app: Apex, path: str) -> None:
        await super().setup(app, path)
        self.app, self.path = app, path

    @describe(result=IMPORTED)
    async def _import(self, data: Row, params: Params) -> Row:
        """Stores rows; those that are wrong are listed as ``errors``, and the others stored."""
        errors: list[Row] = []
        organization = data["organization_id"]
        user, upsert = (params.user or {}).get("id"), data.get("upsert")
        # What is large is read in a thread, so that other calls go on meanwhile.
        digest, numbered = await asyncio.to_thread(_read, data, await self.file_columns(organization))
        checkpoint = await self.checkpoint(organization, digest, format=data["format"], user=user, upsert=upsert)
        run = Import(
            self.app, self.path, organization, lambda line, error: errors.append(refused_row(line, error)), user=user,
            upsert=upsert, dry_run=data["dry_run"], again=data["again"], checkpoint=checkpoint, batch=BATCH,
        )  # fmt: skip
        async for _ in run.run(numbered):
            pass
        return {"rows": run.progress.rows, **asdict(run.progress), "errors": errors}

    @describe(result=EXPORTED, content_types=("application/json", "text/csv"))
    async def export(self, data: Row, params: Params) -> Stream:
        """All records of an organization as a file."""
        return await self.exported(data["organization_id"], data["format"])

    async def exported(self, organization: int, format: str, done: Callable[[int], Any] = lambda rows: None) -> Stream:
        """The file of an organization's records; ``done`` is told how many more of them are in it."""
        columns = await self.file_columns(organization)
        found = pages(self.app.service(self.path), organization, columns.stored, done)
        return Stream(written(found, format, columns), FORMATS[format])

    def completed(self, row: Row) -> Row:
        """Return a row of an import with what its values say beside: its record is found by that, too."""
        return row

    async def file_columns(self, organization: int) -> Columns:
        return Columns(self, {field["name"]: field["type"] for field in await self._defined(organization)})

    async def checkpoint(self, organization: int, digest: str, **options: Any) -> Checkpoint:
        """Return the checkpoint of an import of the same content, with the same options and definitions."""
        decisive = [digest, options, await self._defined(organization)]
        name = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
        return Checkpoint(self.database, organization, f"import:{self.path}:{name}")

    async def _defined(self, organization: int) -> list[Row]:
        """Return the definitions of the records' custom fields, in their order."""
        query = {
            "organization_id": organization, "entity": self.path, "$select": ["name", "type", "options"],
            "$sort": {"id": 1},
        }  # fmt: skip
        found = await self.app.service("custom-fields").find({"query": query, "paginate": False})
        return [{name: field[name] for name in ("name", "type", "options")} for field in found]


# A word of Python's own, so it cannot be written as a method.
setattr(Transferable, "import", Transferable._import)


def refused_row(line: int, error: FeathersError) -> Row:
    """Return a row that was refused, in the shape of validation errors. At most 100 of its fields are named."""
    return {"line": line, **public_error(error, f"Line {line} of an import").to_dict()}


def _read(data: Row, columns: Columns) -> tuple[str, list[Numbered]]:
    """Return the digest and the rows of a call. Raises BadRequest if there are too many, or the text is broken."""
    if "rows" in data:
        content, found = json.dumps(data["rows"]), records(enumerate(data["rows"], 1), columns)
    else:
        content, found = data["text"], rows(BytesIO(data["text"].encode()), data["format"], columns)
    numbered = list(islice(found, MOST_ROWS + 1))
    if len(numbered) > MOST_ROWS:
        raise BadRequest("Too many rows", errors={"text": TOO_MANY})
    return hashlib.sha256(content.encode()).hexdigest(), numbered
