"""The calls that each role may make, in every service of the registry. A new service or method is for members who may
write, unless it is named here.
"""

from __future__ import annotations

from hooks.roles import ROLES
from tests.security.attacks import VERBS, body, is_dialect
from tests.security.stage import ATTACKER, USERS, Stage, staged
from tests.security.test_sealed import APP, METHODS

READS = ("find", "get", "search", "export", "summary")
"""The methods that change nothing, which are for viewers."""
FOR_ADMINS = ("personal_data", "restore")
"""The methods that are for admins in every service."""
OF_ADMINS = ("api-keys", "audit", "webhooks", "webhook-deliveries")
"""The services whose records are for admins alone."""
BY_ADMINS = ("custom-fields", "memberships", "pipelines", "pipeline-stages")
"""The services whose records all members read, and admins change."""
LEAVE = ("memberships", "remove")
"""Everybody may leave, and then has no role."""
CALLS = [call for call in METHODS if call != LEAVE and not is_dialect(APP.service(call[0]))]


def least(path: str, method: str) -> str:
    """Return the lowest role that may call a method."""
    if path in OF_ADMINS or method in FOR_ADMINS:
        return "admin"
    if path == "users":
        return "viewer"  # It is about the caller alone.
    return "viewer" if method in READS else "admin" if path in BY_ADMINS else "member"


async def test_a_role_allows_what_it_is_meant_to(migrated_sqlite_url: str) -> None:
    async with staged(migrated_sqlite_url) as stage:
        members = stage.app.service("memberships")
        query = {"user_id": USERS[ATTACKER], "organization_id": ATTACKER}
        (mine,) = await members.find({"query": query, "paginate": False})
        for rank, role in enumerate(ROLES):
            await members.patch(mine["id"], {"role": role})
            allowed = [call for call in CALLS if await status(stage, *call) != 403]
            assert allowed == [call for call in CALLS if rank >= ROLES.index(least(*call))], role


async def status(stage: Stage, path: str, method: str) -> int:
    """Return the status of a call about records of the caller's own organization."""
    bound = stage.app.service(path)
    own = stage.rows[ATTACKER].get(bound.service.table.name, {})
    id = f"/{own[bound.service.id]}" if method in ("get", "patch", "update", "remove") else ""
    query = {"organization_id": ATTACKER} if method == "find" and "organization_id" in own else {}
    data = None if method in ("find", "get", "remove") else {} if id else body(stage, bound, method)
    headers = stage.proofs["user"] | ({} if method in VERBS else {"x-service-method": method})
    response = await stage.http.request(
        VERBS.get(method, "POST"), f"/{path}{id}", params=query, json=data, headers=headers
    )
    assert response.status_code < 500, response.text
    return response.status_code
