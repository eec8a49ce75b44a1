"""What the OpenAPI document does not allow in a query or a body, the CRM refuses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from tests.openapi.test_truth import DOCUMENT, FEW, Caller


def strict(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document without ``$limit``, as in Feathers a wrong one is the default, and without headers.

    The caller puts in the right proof, and sends no header that is not one of HTTP.
    """
    document = deepcopy(document)
    for path in document["paths"].values():
        for operation in (value for value in path.values() if isinstance(value, dict)):
            parameters = [one for one in operation["parameters"] if one["name"] != "$limit" and one["in"] != "header"]
            operation |= {"parameters": parameters, "security": []}
    return document


SCHEMA = schemathesis.openapi.from_dict(strict(DOCUMENT))
OPERATIONS: list[Any] = [found.ok() for found in SCHEMA.get_all_operations()]  # type: ignore[union-attr]
REFUSED: list[Any] = CHECKS.get_by_names(["not_a_server_error", "negative_data_rejection"])
REFUSING = [operation for operation in OPERATIONS if operation.label != "DELETE /authentication"]
"""All but logging out, of which nothing but the token can be wrong."""


@pytest.fixture(scope="module")
def caller(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    path = tmp_path_factory.mktemp("refusals") / "test.db"
    shutil.copyfile(sqlite_template, path)
    caller = Caller(f"sqlite:///{path}")
    yield caller
    caller.close()


@pytest.mark.parametrize("operation", REFUSING, ids=lambda operation: operation.label)
def test_what_is_wrong_is_refused(operation: Any, caller: Caller) -> None:
    @settings(FEW, max_examples=5)
    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def check(case: Any) -> None:
        case.validate_response(caller.call(case), checks=REFUSED)

    check()
