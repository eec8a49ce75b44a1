"""Access to the services of an organization: members and roles."""

from __future__ import annotations

import pytest

from tests.services.crm import OURS, Crm, refused
from tests.services.fixtures import SHARED

PATHS = (
    "companies", "custom-fields", "pipelines", "pipeline-stages", "products", "deals", "deal-products", "activities",
    "support-tickets", "support-ticket-messages",
)  # fmt: skip


@SHARED
@pytest.mark.parametrize("path", PATHS)
async def test_members_of_other_organizations_are_refused(shared: Crm, path: str) -> None:
    refused(await shared.call(f"GET /{path}?organization_id=456", user=791), 403)
    refused(await shared.call(f"GET /{path}", user=789), 400, "organization_id")
    refused(await shared.call(f"GET /{path}?organization_id=456", user=None), 401)


@pytest.mark.parametrize(("role", "allowed"), [("viewer", 0), ("member", 1), ("admin", 2), ("owner", 2)])
async def test_a_role_allows_everything_that_lower_roles_allow(crm: Crm, role: str, allowed: int) -> None:
    memberships = crm.app.service("memberships")
    (mine,) = await memberships.find({"query": {"user_id": 790}, "paginate": False})
    await memberships.patch(mine["id"], {"role": role})
    answers = [
        await crm.call("POST /contacts", OURS | {"first_name": "Jane"}, user=790),
        await crm.call("POST /pipelines", OURS | {"name": "Sales"}, user=790),
    ]
    assert [status for status, _ in answers] == [201] * allowed + [403] * (2 - allowed)
    assert (await crm.call("GET /contacts/123", user=790))[0] == 200
    changed = await crm.call("PATCH /contacts/123", {"last_name": "Roe"}, user=790)
    if not allowed:
        assert refused(changed, 403)["message"].startswith("Your role in organization 456 is viewer")
