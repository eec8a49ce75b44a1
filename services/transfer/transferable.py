"""The base class of services with the methods ``import`` and ``export``."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from itertools import islice
from typing import Any, ClassVar

from marshmallow import validates_schema

from apex import Apex, Params, Schema
from apex.describe import describe
from apex.encoding import Stream
from apex.errors import BadRequest, FeathersError
from apex.permissions import Rule, can
from apex.query import Compare, Query
from apex.schema import BooleanField, IdField, ValidationError, fields, validate
from apex.service import BodyLimit, BodyLimits
from apex.tenant import current_tenants, tenant_context
from apex.transports import public_error
from apex.types import Row
from services.shared.search import Searchable
from services.transfer.checkpoints import Checkpoint
from services.transfer.columns import Columns
from services.transfer.formats import FORMATS, NumberedRow, number_records, read_rows, write_pages
from services.transfer.imports import Import

MOST_ROWS = 10_000
BODY_LIMIT = BodyLimit(8 * 1024 * 1024, "Send several calls, or import the file with `apex import`")
TOO_MANY = f"Must have at most {MOST_ROWS:,} rows: send several calls, or use `apex import`"
BATCH = 100
"""Number of rows that a call stores at once. It is small, so that an import does not delay other calls."""
PAGE = 1_000
"""Number of records that an export reads at once."""

LINE_ERROR = {
    "type": "object",
    "properties": {"line": {"type": "integer"}, "message": {"type": "string"}},
    "required": ["line", "message"],
}
COUNTS = ("rows", "skipped", "created", "updated", "refused", "refused_before")
IMPORT_RESULT = {
    "title": "Imported",
    "type": "object",
    "properties": {
        **{name: {"type": "integer", "minimum": 0} for name in COUNTS},
        "errors": {"type": "array", "items": LINE_ERROR},
    },
    "required": ["rows", "created", "updated", "refused", "errors"],
    "additionalProperties": False,
}
EXPORT_RESULT = {"type": "array", "items": {"type": "object"}}


class Rows(fields.Field[Any]):
    """A list of at most ``MOST_ROWS`` items. The items themselves are checked later, row by row."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValidationError("Must be a list")
        if len(value) > MOST_ROWS:
            raise ValidationError(TOO_MANY)
        return value


class ExportSchema(Schema):
    """The data of ``export``."""

    organization_id = IdField(required=True)
    format = fields.String(load_default="json", validate=validate.OneOf(tuple(FORMATS)))


class ImportSchema(ExportSchema):
    """The data of ``import``: ``rows``, or the ``text`` of a file."""

    keywords = {"oneOf": [{"required": ["rows"]}, {"required": ["text"]}]}

    rows = Rows(metadata={"type": "array", "items": {}, "maxItems": MOST_ROWS, "example": []})
    text = fields.String()
    upsert = fields.String(allow_none=True)
    dry_run = BooleanField(load_default=False)
    again = BooleanField(load_default=False)

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_source(self, data: Row, original: Row, **_: Any) -> None:
        """Require either ``rows`` or ``text``."""
        if ("rows" in original) == ("text" in original):
            raise ValidationError("Give either rows (a list of objects) or text (CSV or JSON)", "rows")
        if "rows" in data and data.get("format") == "csv":
            raise ValidationError("Must be text for the format csv", "rows")


class Transferable(Searchable):
    """A service with the methods ``import`` and ``export``.

    ``import_keys`` maps each key that callers may name to its fields. A row changes the record that has the same value
    in the first field. If a row and a record both have a value in one of the further fields, these must be equal too.
    """

    methods: Sequence[str] = (*Searchable.methods, "import", "export")
    permissions: ClassVar[Mapping[str, Rule]] = {
        "viewer": can("find", "get", "search", "export"),
        "member": can("create", "patch", "remove", "import"),
        "admin": can("restore"),
    }
    custom: ClassVar[Mapping[str, type[Schema]]] = {**Searchable.custom, "import": ImportSchema, "export": ExportSchema}
    reads: ClassVar[Sequence[str]] = (*Searchable.reads, "export")
    body_limits: BodyLimits = {"import": BODY_LIMIT}
    resumable: ClassVar[Sequence[str]] = ("import",)
    import_keys: ClassVar[Mapping[str, Sequence[str]]] = {}

    app: Apex
    path: str

    async def setup(self, app: Apex, path: str) -> None:
        """Keep the app and the path, for imports and exports."""
        await super().setup(app, path)
        self.app, self.path = app, path

    @describe(result=IMPORT_RESULT)
    async def _import(self, data: Row, params: Params) -> Row:
        """Store rows. Rows that are wrong are listed in `errors`, and all others are stored."""
        errors: list[Row] = []
        organization = data["organization_id"]
        user, upsert = (params.user or {}).get("id"), data.get("upsert")
        # Parsing a large text takes long, so a thread does it.
        digest, numbered = await asyncio.to_thread(_read, data, await self.file_columns(organization))
        checkpoint = await self.checkpoint(organization, digest, format=data["format"], user=user, upsert=upsert)
        run = Import(
            self.app, self.path, organization, lambda line, error: errors.append(refused_row(line, error)), user=user,
            upsert=upsert, dry_run=data["dry_run"], again=data["again"], checkpoint=checkpoint, batch=BATCH,
        )  # fmt: skip
        async for _ in run.run(numbered):
            pass
        return {"rows": run.progress.rows, **asdict(run.progress), "errors": errors}

    @describe(result=EXPORT_RESULT, content_types=("application/json", "text/csv"))
    async def export(self, data: Row, params: Params) -> Stream:
        """Return all records of an organization as a file."""
        return await self.export_file(data["organization_id"], data["format"])

    async def export_file(self, organization: int, format: str, on_page: Callable[[int], None] | None = None) -> Stream:
        """Return a CSV or JSON file with the records of an organization, in the order of their ids.

        ``on_page`` is called with the number of records in each page that is written. Each page is a query of its own,
        which keeps memory and transactions small. Changes that are stored meanwhile may be in the file.
        """
        columns = await self.file_columns(organization)
        # The file is written when the call is over, so its tenants are kept for the pages.
        pages = self._pages(organization, columns.stored, on_page, current_tenants.get())
        return Stream(write_pages(pages, format, columns), FORMATS[format])

    async def _pages(
        self, organization: int, fields: Sequence[str], on_page: Callable[[int], None] | None, tenants: str
    ) -> AsyncIterator[list[Row]]:
        service, last_id = self.app.service(self.path), 0
        params = {"scope": {"organization_id": organization}, "paginate": False}
        while True:
            query = Query(where=Compare("id", "$gt", last_id), limit=PAGE, sort=(("id", 1),), select=tuple(fields))
            with tenant_context(tenants):
                page: list[Row] = await service.find({**params, "query": query})
            if not page:
                return
            yield page
            if on_page is not None:
                on_page(len(page))
            last_id = page[-1]["id"]

    def complete_key(self, row: Row) -> Row:
        """Return a row with the values of its key that follow from its other values."""
        return row

    async def file_columns(self, organization: int) -> Columns:
        """Return the columns of an organization's files."""
        return Columns(self, {field["name"]: field["type"] for field in await self._custom_fields(organization)})

    async def checkpoint(self, organization: int, digest: str, **options: Any) -> Checkpoint:
        """Return the checkpoint of an import with the same content, options and custom fields."""
        identity = [digest, options, await self._custom_fields(organization)]
        name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return Checkpoint(self.database, organization, f"import:{self.path}:{name}")

    async def _custom_fields(self, organization: int) -> list[Row]:
        """Return the definitions of the records' custom fields, oldest first."""
        query = {
            "organization_id": organization, "entity": self.path, "$select": ["name", "type", "options"],
            "$sort": {"id": 1},
        }  # fmt: skip
        found = await self.app.service("custom-fields").find({"query": query, "paginate": False})
        return [{name: field[name] for name in ("name", "type", "options")} for field in found]


# ``import`` is a keyword, so no method can be defined with this name.
setattr(Transferable, "import", Transferable._import)


def refused_row(line: int, error: FeathersError) -> Row:
    """Return a refused row as callers see it: its line, and an error that names at most 100 fields."""
    return {"line": line, **public_error(error, f"Line {line} of an import").to_dict()}


def _read(data: Row, columns: Columns) -> tuple[str, list[NumberedRow]]:
    """Return the digest of the content and its rows. Raises BadRequest for too many rows or a malformed text."""
    if "rows" in data:
        content, rows = json.dumps(data["rows"]), number_records(enumerate(data["rows"], 1), columns)
    else:
        content, rows = data["text"], read_rows(BytesIO(data["text"].encode()), data["format"], columns)
    numbered = list(islice(rows, MOST_ROWS + 1))
    if len(numbered) > MOST_ROWS:
        raise BadRequest("Too many rows", errors={"text": TOO_MANY})
    return hashlib.sha256(content.encode()).hexdigest(), numbered
