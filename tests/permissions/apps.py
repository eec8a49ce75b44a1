"""The small app that permissions are tried on: its callers name themselves in headers, or on their connection."""

from __future__ import annotations

from typing import Any

from httpx2 import AsyncClient, Response

from apex import Apex, Context, MemoryService, rest
from apex.permissions import authorize, roles
from apex.query.coercion import integer, text

FIELDS = {"id": integer, "title": text, "text": text, "secret": text, "user_id": integer}


def name_caller(context: Context) -> None:
    """Take the caller from the headers ``x-user`` and ``x-role``."""
    headers = context.params.headers or {}
    if context.params.user is None and "x-user" in headers:
        context.params.user = {"id": int(headers["x-user"]), "role": headers.get("x-role")}


def app_of(permissions: Any, *declared: str, inherit: bool = False, **options: Any) -> Apex:
    """Return an app with a service ``notes`` in memory that has these permissions."""
    app = Apex().configure(rest)
    if declared:
        app.configure(roles(declared, inherit=inherit))
    service = type("Notes", (MemoryService,), {"permissions": permissions})
    notes = service(**{"fields": FIELDS, "start_id": 1, **options})
    return app.use("notes", notes, hooks={"before": {"all": [name_caller, authorize]}})


async def ask(
    client: AsyncClient, verb: str, path: str, user: int | None = None, role: str = "", data: Any = None
) -> Response:
    """Send a request of a user with a role."""
    headers = {} if user is None else {"x-user": str(user), "x-role": role}
    return await client.request(verb, path, headers=headers, **({} if data is None else {"json": data}))
