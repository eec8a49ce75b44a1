"""Search for a term in the records of an organization, best match first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from marshmallow import post_load

from apex import Context, Params, Schema
from apex.describe import describe
from apex.permissions import Rule, can
from apex.query import Compare, Junction, Predicate, Rank
from apex.schema import IdField, TextField, ValidationError, fields, validate
from apex.types import Row
from hooks.search_forms import digits, normalise
from services.shared.tenant import TenantService

SHORTEST = 2
LIST_FIELDS = ("$total", "$after", "$before")
QUERY_FIELDS = ("limit", "skip", "sort", "select", *(name[1:] for name in LIST_FIELDS))


class SearchSchema(Schema):
    """The data of a search in names. A service that searches in other fields has a schema of its own."""

    searchTerm = TextField(required=True, max=200)
    organization_id = IdField(required=True)
    searchIn = fields.String(load_default="name", validate=validate.OneOf(["name"]))
    limit = fields.Raw(data_key="$limit", allow_none=True, metadata={"type": "integer"})
    skip = fields.Raw(data_key="$skip", metadata={"type": "integer", "minimum": 0})
    sort = fields.Raw(data_key="$sort", metadata={"type": "object", "additionalProperties": {"enum": [1, -1]}})
    select = fields.Raw(data_key="$select", metadata={"type": "array", "items": {"type": "string"}})
    total, after, before = (
        fields.Raw(data_key=name, metadata={"hidden": True}, allow_none=True) for name in LIST_FIELDS
    )

    @post_load
    def normalise_term(self, data: Row, **_: Any) -> Row:
        """Normalise the term like the stored forms. Raises ValidationError if the result is too short."""
        in_phones = data["searchIn"] == "phone"
        term = digits(data["searchTerm"]) if in_phones else normalise(data["searchTerm"])
        if len(term) < SHORTEST:
            kind = "digits" if in_phones else "characters"
            raise ValidationError(f"Must have at least {SHORTEST} {kind}", "searchTerm")
        return {**data, "searchTerm": term}


class Searchable(TenantService):
    """A service with the method ``search``.

    ``search_in`` maps each value of ``searchIn`` to the column with the searched form, which has a text in each line.
    """

    methods: Sequence[str] = ("find", "get", "create", "patch", "remove", "search")
    permissions: ClassVar[Mapping[str, Rule]] = {**TenantService.permissions, "viewer": can("find", "get", "search")}
    search_in: ClassVar[Mapping[str, str]] = {}
    custom: ClassVar[Mapping[str, type[Schema]]] = {"search": SearchSchema}
    reads: ClassVar[Sequence[str]] = (*TenantService.reads, "search")

    @describe(result="page")
    async def search(self, data: Row, params: Params) -> Any:
        """Return a page of the records that contain the term.

        Exact matches come first, then prefixes, then all others. Equal matches are sorted from new to old.
        """
        query = self.syntax.parse(params.query)
        form, term = self.search_in[data["searchIn"]], data["searchTerm"]
        narrowed = query.narrow(Compare(form, "$contains", term), *_in_country(data))
        if not query.sort:
            narrowed = replace(narrowed, rank=Rank(form, term), sort=(("created_at", -1),))
        return await self.find(Params({**params, "query": narrowed}))


def parse_search(context: Context) -> None:
    """Make ``$limit``, ``$skip``, ``$sort`` and ``$select`` in the data of a search its query. Runs before search.

    Raises BadRequest for cursors and other parameters of lists, because a search must rank all its matches for each
    page.
    """
    data = dict(context.data)
    given = {f"${name}": data.pop(name) for name in QUERY_FIELDS if name in data}
    context.data = data
    context.params.query = context.service.syntax.parse(given).plain()


def _in_country(data: Row) -> list[Predicate]:
    """Return the condition that a phone number has the given calling code, or none."""
    if data["searchIn"] != "phone":
        return []
    field = "phone_country_code"
    return [Junction("or", (Compare(field, "$eq", data[field]), Compare(field, "$eq", None)))]
