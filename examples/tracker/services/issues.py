"""Issues with a workflow, labels and comments."""

from apex import Apex, Context, SQLService, TableSchema, validate_data, validate_query
from apex.common import check_multi, set_now, set_owner, soft_delete, stash_before, timestamps, transaction
from apex.errors import BadRequest
from apex.permissions import can, mine
from apex.relations import belongs_to, has_many, many_to_many
from services.tables import WORKFLOW, comments, issue_labels, issues
from services.users import LOGGED_IN

ISSUE = TableSchema.of(
    issues, create_only=("project_id",), dump_only=("author_id", "created_at", "updated_at", "deleted_at")
)
COMMENT = TableSchema.of(comments, create_only=("issue_id",), dump_only=("project_id", "author_id", "created_at"))


class Issues(SQLService):
    """The issues of projects."""

    table, trash, searchable = issues, "deleted_at", ("title", "body")
    relations = {
        "project": belongs_to("projects"),
        "author": belongs_to("users", fields=("id", "name"), trusted=True),
        "assignee": belongs_to("users", fields=("id", "name"), trusted=True),
        "labels": many_to_many("labels", through=issue_labels, write=True),
        "comments": has_many("comments", "issue_id", sort={"id": 1}, write=True),
    }
    permissions = {
        "user": can("find", "get", "search"),
        "member": can("create", "patch"),
        "author": can("remove", where=mine("author_id")),
        "admin": can("remove", "restore"),
    }


class Comments(SQLService):
    """The comments on issues."""

    table = comments
    relations = {
        "issue": belongs_to("issues"),
        "author": belongs_to("users", fields=("id", "name"), trusted=True, always=True),
    }
    permissions = {
        "user": can("find", "get"),
        "member": can("create"),
        "author": can("patch", "remove", where=mine("author_id")),
        "admin": can("remove"),
    }


def follow_workflow(context: Context) -> None:
    """Refuse a status that does not follow the present one, before patch."""
    before, status = context.params.before["status"], context.data.get("status")
    if status not in (None, before, *WORKFLOW[before]):
        allowed = ", ".join(WORKFLOW[before])
        raise BadRequest("Invalid issue", errors={"status": f"Cannot follow {before}: there is {allowed}"})


async def check_assignee(context: Context) -> None:
    """Refuse an assignee who is no member of the project, before create and patch."""
    assignee = context.data.get("assignee_id")
    project = context.data.get("project_id") or (context.params.before or {}).get("project_id")
    query = {"project_id": project, "user_id": assignee}
    if assignee and not await context.app.service("members").find({"query": query, "paginate": False}):
        raise BadRequest("Invalid issue", errors={"assignee_id": "Is no member of the project"})


async def set_project(context: Context) -> None:
    """Set the project of a comment, which is that of its issue: before create."""
    issue = await context.app.service("issues").get(context.data["issue_id"])
    context.data["project_id"] = issue["project_id"]


def register(app: Apex) -> None:
    """Register the services of issues."""
    app.use("issues", Issues(paginate=app.get("paginate")), hooks={
        "around": {"all": LOGGED_IN, "patch": [transaction]},
        "before": {
            "all": [validate_query, validate_data(ISSUE, "Invalid issue"), soft_delete()],
            "create": [check_assignee, set_owner("author_id"), timestamps()],
            "patch": [check_multi, stash_before(), follow_workflow, check_assignee, timestamps()],
        },
    })  # fmt: skip
    app.use("comments", Comments(paginate=app.get("paginate")), hooks={
        "around": {"all": LOGGED_IN},
        "before": {
            "all": [validate_query, validate_data(COMMENT, "Invalid comment")],
            "create": [set_project, set_owner("author_id"), set_now("created_at")],
        },
    })  # fmt: skip
