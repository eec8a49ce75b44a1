"""The CRM answers as its OpenAPI document says: schemathesis makes requests of it, and compares."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from schemathesis.checks import CHECKS

from apex import load_config
from apex.openapi import document_of
from services.app import CONFIG, create_app
from services.commands.demo_data import KEY
from services.shared.examples import DEMO_PASSWORD, uuid_of
from tests.services.crm import Crm, running
from tests.support.databases import new_database

DOCUMENT = document_of(create_app(load_config(CONFIG, {"APEX_ENV": "test"})))
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
FOUND: list[Any] = [found.ok() for found in SCHEMA.get_all_operations()]  # type: ignore[union-attr]
REMOVALS = [operation for operation in FOUND if operation.method == "delete"]
OPERATIONS = [*(operation for operation in FOUND if operation not in REMOVALS), *reversed(REMOVALS)]
"""Those that take records away come last, and before those that take away what the records are part of."""
WAYS = {operation.label: [name for way in operation.definition.raw["security"] for name in way] for operation in FOUND}
"""How the caller of an operation may prove who it is."""
HELD = CHECKS.get_by_names(
    [
        "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
        "response_schema_conformance",
    ]
)  # fmt: skip
EXAMPLES = int(os.environ.get("TRUTH_EXAMPLES", "12"))
"""Requests of each operation. More of them find more, and take longer."""
FEW = settings(derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
KNOWN = {
    "organization_id": 456, "contact_id": 203, "company_id": 101, "owned_by_user_id": 789, "user_id": 789,
    "assigned_to_user_id": 789, "assigned_user_id": 789, "pipeline_id": 1, "pipeline_stage_id": 1, "deal_id": 1,
    "product_id": 1, "parent_id": 1, "support_ticket_id": 1,
}  # fmt: skip
"""What refers to records that there are."""
# The examples in the document erase contact 123.
IDS = {
    "contacts": 203,
    "companies": 101,
    "organizations": 456,
    "custom-fields": 301,
    "api/contacts": uuid_of(124),
    "api-keys": 2,
    "memberships": 2,
    "users": "me",
}
UNLIKELY = (
    "GET /api/contacts/crm/lookup",
    "DELETE /pipelines/{id}",
    "DELETE /pipeline-stages/{id}",
    "POST /users/change_password",
    "POST /memberships",
    *(operation.label for operation in FOUND if operation.path.endswith("/restore")),
)
"""Requests that need luck, or records that are removed. ``test_samples.py`` shows that they succeed."""
OWN_ROLE = ("PATCH /memberships/{id}", "DELETE /memberships/{id}")
"""Requests that would by chance take the caller's own role away."""
ASKED = (*KNOWN, "$limit", "$skip", "$sort", "$select", "$total", "limit", "offset")
MADE: dict[str, dict[str, Any]] = {
    "contacts": {"first_name": "Jo"},
    "pipelines": {"name": "Sales"},
    "pipeline-stages": {"name": "New", "pipeline_id": 1},
    "products": {"name": "Book", "price": "12.00"},
    "deals": {"name": "Shelf", "pipeline_stage_id": 1, "contact_id": 203, "status": "won"},
    "deal-products": {"deal_id": 1, "product_id": 1},
    "activities": {"subject": "Call", "activity_type": "call", "contact_id": 203},
    "support-tickets": {"subject": "Help"},
    "support-ticket-messages": {"support_ticket_id": 1, "body": "Hello"},
    "api-keys": {"name": "Spare"},
    "webhooks": {"url": "https://webhooks.example/crm", "events": ["contacts *"]},
}
"""What there is besides, by path; its ids are 1, but for the key: the first one is that of the demo."""


class Caller:
    """Makes the requests of cases on a loop of its own, in which the CRM runs."""

    def __init__(self, url: str) -> None:
        self.seen: dict[str, set[int]] = {}
        self.runner = asyncio.Runner()
        self.crm_context = running(url)
        self.crm: Crm = self.runner.run(self.crm_context.__aenter__())
        for path, data in MADE.items():
            status, body = self.runner.run(self.crm.call(f"POST /{path}", {"organization_id": 456, **data}))
            assert (status, body["id"]) == (201, IDS.get(path, 1)), body
        # Messages between processes take ids of the log, too.
        entries = self.runner.run(self.crm.call("GET /audit?organization_id=456&$limit=1"))[1]["data"]
        self.entry: int = entries[0]["id"]

    def close(self) -> None:
        self.runner.run(self.crm_context.__aexit__(None, None, None))
        self.runner.close()

    def call(self, case: Any) -> schemathesis.Response:
        if case.operation.label in OWN_ROLE:
            case.path_parameters["id"] = IDS["memberships"]
        is_entry = case.operation.label == "GET /audit/{id}" and case.path_parameters["id"] == 1
        if is_entry:
            case.path_parameters["id"] = self.entry
        made = requests.Request(**case.as_transport_kwargs(base_url="http://crm")).prepare()
        if is_entry:  # In another database it has another id.
            case.path_parameters["id"] = 1
        body: Any = made.body
        headers = httpx2.Headers({name: str(value) for name, value in made.headers.items()})
        headers.update(self.proof(case.operation))
        sent = self.runner.run(self.crm.http.request(str(made.method), str(made.url), headers=headers, content=body))
        self.seen.setdefault(case.operation.label, set()).add(sent.status_code)
        return response_of(sent, made)

    def proof(self, operation: Any) -> dict[str, str]:
        """A token of its own for each request, as some of them log out; a changed password ends those of its user."""
        ways = WAYS[operation.label]
        if "jwt" in ways:
            user = 790 if operation.label == "POST /users/change_password" else 789
            return {"authorization": f"Bearer {self.crm.token(user)}"}
        return {"x-api-key": KEY, "x-organization-id": uuid_of(456)} if ways else {}


def response_of(sent: httpx2.Response, made: requests.PreparedRequest) -> schemathesis.Response:
    headers = {name: sent.headers.get_list(name) for name in sent.headers}
    return schemathesis.Response(
        status_code=sent.status_code, headers=headers, content=sent.content, request=made,
        elapsed=sent.elapsed / timedelta(seconds=1), verify=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def callers(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory, postgres_server: str, postgres_template: str
) -> Iterator[list[Caller]]:
    """A caller for each kind of database. They get the same requests, which take longer to generate than to answer."""
    path = tmp_path_factory.mktemp("truth") / "test.db"
    shutil.copyfile(sqlite_template, path)
    with new_database(postgres_server, postgres_template) as url, ExitStack() as closing:
        callers: list[Caller] = []
        for migrated in (f"sqlite:///{path}", url):
            callers.append(Caller(migrated))
            closing.callback(callers[-1].close)
        yield callers


def aimed(case: Any) -> Any:
    """The case with ids of records that there are and without what it takes luck for, so that it gets to the store."""
    path = case.operation.path.strip("/").partition("/{")[0]
    service, _, method = path.partition("/")
    if method in ("restore", "rotate") and isinstance(case.body, dict):
        case.body["id"] = IDS.get(service, 1)
    for name in case.path_parameters or {}:
        case.path_parameters[name] = IDS.get(path, 1)
    if case.query:
        case.query = {name: value for name, value in case.query.items() if name in ASKED}
    if case.operation.method in ("patch", "delete") and "{" not in case.operation.path:
        case.query = {"organization_id": 456, "id": IDS.get(path, 1)}
    if path == "authentication" and case.operation.method == "post":
        # Not the account of the document's example, which has wrong passwords by chance, until it has to wait.
        case.body = {"strategy": "local", "email": "other@example.com", "password": DEMO_PASSWORD}
    if case.headers:
        for name in ("If-Match", "Idempotency-Key"):
            case.headers.pop(name, None)
    for part in (case.query, case.body):
        if isinstance(part, dict):
            part.update({name: KNOWN[name] for name in KNOWN if name in part})
            part.pop("custom_fields_by_name", None)
    return case


def test_the_document_of_the_crm_is_valid() -> None:
    validate(DOCUMENT)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_answers_are_as_the_document_says(operation: Any, callers: list[Caller]) -> None:
    def missing() -> list[Caller]:
        """Return the callers for whom the operation has not yet succeeded."""
        return [caller for caller in callers if not caller.seen[operation.label] & {200, 201}]

    def check(case: Any, callers: list[Caller]) -> None:
        for caller in callers:
            case.validate_response(caller.call(case), checks=HELD)

    @settings(FEW, max_examples=EXAMPLES)
    @given(case=operation.as_strategy(), aim=st.booleans())
    def check_some(case: Any, aim: bool) -> None:
        check(aimed(case) if aim else case, callers)

    def succeeds(case: Any) -> bool:
        check(case, missing())  # A write that has succeeded may be refused when it is repeated, so it is not.
        return not missing()

    check_some()
    if operation.label not in UNLIKELY and missing():
        find(operation.as_strategy().map(aimed), succeeds, settings=settings(FEW, max_examples=500))
