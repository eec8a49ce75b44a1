"""Search, as services of a tenant offer it: a term in one of their searchable forms, best match first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from marshmallow import post_load

from apex import Apex, Context, Hook, Params, Schema
from apex.describe import describe
from apex.query import Compare, Junction, Predicate, Rank
from apex.schema import Id, Text, ValidationError, fields, validate
from apex.types import Row
from hooks.search_forms import digits, normalise
from services.shared.tenant import MethodHooks, MethodLists, TenantService, serve

SHORTEST = 2
FOR_LISTS = ("$total", "$after", "$before")
ASKED = ("limit", "skip", "sort", "select", *(name[1:] for name in FOR_LISTS))


class SearchSchema(Schema):
    """The data of a search in names. A service that is searched in other fields has a schema of its own."""

    searchTerm = Text(required=True, max=200)
    organization_id = Id(required=True)
    searchIn = fields.String(load_default="name", validate=validate.OneOf(["name"]))
    limit = fields.Raw(data_key="$limit", allow_none=True, metadata={"type": "integer"})
    skip = fields.Raw(data_key="$skip", metadata={"type": "integer", "minimum": 0})
    sort = fields.Raw(data_key="$sort", metadata={"type": "object", "additionalProperties": {"enum": [1, -1]}})
    select = fields.Raw(data_key="$select", metadata={"type": "array", "items": {"type": "string"}})
    total, after, before = (fields.Raw(data_key=name, metadata={"hidden": True}, allow_none=True) for name in FOR_LISTS)

    @post_load
    def normalise_term(self, data: Row, **_: Any) -> Row:
        """The term as the stored forms have it. What is left of it must be long enough."""
        in_phones = data["searchIn"] == "phone"
        term = digits(data["searchTerm"]) if in_phones else normalise(data["searchTerm"])
        if len(term) < SHORTEST:
            kind = "digits" if in_phones else "characters"
            raise ValidationError(f"Must have at least {SHORTEST} {kind}", "searchTerm")
        return {**data, "searchTerm": term}


class Searchable(TenantService):
    """A service with ``search``. ``search_in`` maps what callers search in to the column with its form of lines."""

    methods: Sequence[str] = ("find", "get", "create", "patch", "remove", "search")
    search_in: ClassVar[Mapping[str, str]] = {}
    custom: ClassVar[Mapping[str, type[Schema]]] = {"search": SearchSchema}
    reads: ClassVar[Sequence[str]] = (*TenantService.reads, "search")

    @describe(result="page")
    async def search(self, data: Row, params: Params) -> Any:
        """A page of the records that hold the term, exact matches first, then prefixes, then the rest, newest first."""
        query = self.syntax.parse(params.query)
        form, term = self.search_in[data["searchIn"]], data["searchTerm"]
        narrowed = query.narrow(Compare(form, "$contains", term), *_in_country(data))
        if not query.sort:
            narrowed = replace(narrowed, rank=Rank(form, term), sort=(("created_at", -1),))
        return await self.find(Params({**params, "query": narrowed}))


def serve_searchable(
    app: Apex,
    path: str,
    service: type[Searchable],
    *,
    on_write: Sequence[Hook],
    hooks: MethodHooks | None = None,
    locks: MethodLists | None = None,
) -> None:
    """Registers a tenant's service with ``search``."""
    serve(app, path, service, checks={"search": [search_query]}, locks=locks, on_write=on_write, hooks=hooks)


def search_query(context: Context) -> None:
    """Before all methods, for search: ``$limit``, ``$skip``, ``$sort`` and ``$select`` become a parsed query. What else
    a list can be asked for is refused: a search has to read and rank all its matches, wherever its page begins.
    """
    if context.method == "search":
        data = dict(context.data)
        asked = {f"${name}": data.pop(name) for name in ASKED if name in data}
        context.data = data
        context.params.query = context.service.syntax.parse(asked).plain()


def _in_country(data: Row) -> list[Predicate]:
    """A phone number counts in its country, or where no country is stored."""
    if data["searchIn"] != "phone":
        return []
    field = "phone_country_code"
    return [Junction("or", (Compare(field, "$eq", data[field]), Compare(field, "$eq", None)))]
