"""Projects, which are the tenants, with their members and labels."""

from typing import Any

from apex import Apex, Context, HookMap, SQLService, TableSchema, validate_data, validate_query
from apex.common import check_multi, stash_before, transaction
from apex.errors import Conflict, Forbidden
from apex.permissions import can, mine
from apex.relations import belongs_to, has_many
from services.tables import ROLES, labels, members, projects
from services.users import LOGGED_IN


class Projects(SQLService):
    """The projects of the caller. Whoever creates one is its owner."""

    table = projects
    relations = {"members": has_many("members", "project_id"), "labels": has_many("labels", "project_id")}
    permissions = {"anyone": can("create"), "user": can("find", "get"), "admin": can("patch"), "owner": can("remove")}


class Members(SQLService):
    """The members of projects, with their roles."""

    table = members
    relations = {"user": belongs_to("users", fields=("id", "name"), trusted=True, always=True)}
    permissions = {
        "user": can("find", "get"),
        "admin": can("create", "patch", "remove"),
        "self": can("remove", where=mine("user_id")),
    }


class Labels(SQLService):
    """The labels of projects."""

    table = labels
    permissions = {"user": can("find", "get"), "member": can("create"), "admin": can("patch", "remove")}


async def roles_of_caller(context: Context) -> dict[int, str]:
    """Return the role of the caller in each of its projects, by their ids."""
    own = {"query": {"user_id": context.params.user["id"]}, "paginate": False}
    return {row["project_id"]: row["role"] for row in await context.app.service("members").find(own)}


async def add_owner(context: Context) -> None:
    """Make the caller the owner of a new project, after create."""
    if context.params.user:
        owner = {"project_id": context.result["id"], "user_id": context.params.user["id"], "role": "owner"}
        await context.app.service("members").create(owner)


async def protect_roles(context: Context) -> None:
    """Refuse a role above that of the caller, and a project without an owner: before create, patch and remove."""
    if not context.params.provider:
        return
    before: Any = context.params.before or {}
    project = before.get("project_id") or context.data["project_id"]
    own, given = (await roles_of_caller(context))[project], (context.data or {}).get("role")
    if any(ROLES.index(role) > ROLES.index(own) for role in (given, before.get("role")) if role):
        raise Forbidden(f"Your role is {own}: you cannot give or take a higher one")
    owners = {"query": {"project_id": project, "role": "owner"}, "paginate": False, "adapter": {"lock": True}}
    if before.get("role") == "owner" != given and len(await context.app.service("members").find(owners)) == 1:
        raise Conflict("Invalid member", errors={"role": "The project needs another owner first"})


def register(app: Apex) -> None:
    """Register the services of projects."""
    fixed = ("project_id", "user_id")
    for path, service in (("members", Members), ("labels", Labels), ("projects", Projects)):
        checked = validate_data(
            TableSchema.of(service.table, create_only=[name for name in fixed if name in service.table.c]),
            "Invalid data",
        )
        hooks: HookMap = {"around": {"all": LOGGED_IN}, "before": {"all": [validate_query, checked]}}
        app.use(path, service(paginate=app.get("paginate")), hooks=hooks)
    change = [check_multi, stash_before(), protect_roles]
    app.service("members").hooks({
        "around": {"patch": [transaction], "remove": [transaction]},
        "before": {"create": [protect_roles], "patch": change, "remove": change},
    })  # fmt: skip
    app.service("projects").hooks({"around": {"create": [transaction]}, "after": {"create": [add_owner]}})
