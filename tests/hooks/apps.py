"""The smallest apps that the hooks are tried in."""

from __future__ import annotations

from typing import Any

from apex import Apex, Context, MemoryService
from apex.permissions import can
from apex.service import BoundService, Service
from hooks.tenancy import crm_roles

Calls = dict[str, Any]


class Memberships(Service):
    """Who belongs to which organization, as the hooks ask for it: user 1 to 10, user 2 to 20, user 3 to both."""

    methods = ()
    roles = {1: {10: "admin"}, 2: {20: "member"}, 3: {10: "member", 20: "member"}, 4: {}}

    async def find(self, params: Any) -> list[Any]:
        return []

    async def of_user(self, user_id: int) -> dict[int, str] | None:
        return self.roles.get(user_id)


class Notes(MemoryService):
    """Records that each member may read and write."""

    permissions = {"member": can("*")}


def notes(hooks: Any, **options: Any) -> BoundService:
    """A service ``notes`` over memory with the hooks."""
    app = Apex().configure(crm_roles).use("memberships", Memberships())
    return app.use("notes", Notes(start_id=1, **options), hooks=hooks).service("notes")


def caller(user: int, **query: Any) -> Calls:
    """The parameters of a call from outside by a user."""
    proof = {"payload": {"sub": str(user)}}
    return {"provider": "rest", "authentication": proof, "query": query}


def known_user(context: Context) -> None:
    """A hook that stands for authentication and membership."""
    if context.params.provider:
        context.params.user = {"id": 1}
