"""The schemas of the CRM: their fast path gives the same results as marshmallow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apex.schema.fast_path import NOT_LOADED, fast_load
from apex.schema.validation import Id, Schema, fields, validate
from services.app import create_app
from services.contacts import ContactSchema
from tests.schema.test_fast_path import VALUES, agree

__all__ = ["create_app"]  # Its module has imported all services with their schemas.


def descendants(kind: type[Schema]) -> Iterator[type[Schema]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


KINDS = sorted({kind for kind in descendants(Schema) if kind.__module__.startswith("services.")}, key=repr)
SCHEMAS = [
    made
    for kind in KINDS
    for made in (kind(), kind(partial=tuple(kind().fields), exclude=kind.create_only))  # For create, and for patch.
]

EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "15"))
"""Examples for each of the schemas. Set it higher for a longer run."""
USUAL = st.sampled_from(["x", " Jane ", "+1", "US", "jane@example.com", "Jane@Exämple.com", "2025550143", "7", "vip"])


def suiting(field: fields.Field[Any]) -> st.SearchStrategy[Any]:
    """Return values for a field."""
    choices = [choice for check in field.validators if isinstance(check, validate.OneOf) for choice in check.choices]
    if choices:
        return st.sampled_from(choices)
    if isinstance(field, fields.Nested):
        return written(field.schema)
    if isinstance(field, fields.List):
        return st.lists(suiting(field.inner), min_size=1, max_size=2)
    if isinstance(field, fields.Dict):
        return st.dictionaries(USUAL, st.one_of(USUAL, st.sampled_from([None, True, 1, 1.5])), max_size=2)
    if isinstance(field, Id | fields.Number):
        return st.sampled_from([1, 7, 100, 0.5, 12.25, "19.99"])
    if isinstance(field, fields.Boolean):
        return st.booleans()
    if isinstance(field, fields.DateTime | fields.Date):
        return st.sampled_from(["2023-01-31", "2023-01-31T10:00:00Z", "2023-01-31T10:00:00.123+02:00"])
    return USUAL


def written(schema: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return data that callers might send, with some wrong and some missing values."""
    all_of_them = {field.data_key or name: field for name, field in schema.load_fields.items()}
    required = {key: suiting(field) for key, field in all_of_them.items() if field.required}
    optional = {key: suiting(field) for key, field in all_of_them.items() if not field.required}
    return st.fixed_dictionaries(required, optional=optional)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: f"{type(schema).__name__}-{bool(schema.partial)}")
def test_both_ways_through_a_schema_agree(schema: Schema) -> None:
    names = st.sampled_from([*schema.fields, "other"])

    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
    @given(good=written(schema), bad=st.dictionaries(names, VALUES, max_size=2))
    def check(good: dict[str, Any], bad: dict[str, Any]) -> None:
        agree(schema, good)
        agree(schema, good | bad)
        agree(schema, [good, good | bad], many=True)

    check()


JANE = {"first_name": "Jane", "last_name": "Doe", "email": "jane.doe@example.com", "organization_id": 456}
PHONE = {"phone": "(202) 555-0143", "phone_country_code": "+1", "phone_country_iso": "US"}
MORE = {"custom_fields_by_name": {"Industry": "Technology", "Size": 7, "VIP": True}, "company_id": None}


@pytest.mark.parametrize("kind", [ContactSchema])
@pytest.mark.parametrize("data", [JANE, JANE | PHONE, JANE | PHONE | MORE])
def test_a_usual_contact_takes_the_short_way(kind: type[Schema], data: dict[str, Any]) -> None:
    assert fast_load(kind())(data, False) is not NOT_LOADED
    assert agree(kind(), data) == "loaded"
