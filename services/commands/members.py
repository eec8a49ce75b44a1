"""The commands ``apex member``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apex.cli import as_json_option, load_app, run
from apex.encoding import encode
from apex.errors import ConfigError
from hooks.roles import ROLES
from services.commands.common import find_organization, find_user, organization_option

if TYPE_CHECKING:
    from apex import Apex
    from apex.types import Row


@click.group()
def member() -> None:
    """Manage the members of an organization."""


@member.command("list")
@organization_option
@as_json_option
@click.pass_obj
def list_members(factory: str, organization: int, as_json: bool) -> None:
    """List the members of an organization with their roles."""
    app = load_app(factory)
    members = run(app, lambda: _list(app, organization))
    if as_json:
        click.echo(encode(members).decode())
        return
    for row in members:
        name = " ".join(filter(None, (row["first_name"], row["last_name"])))
        click.echo(f"{row['user_id']}  {row['role']}  {row['email']}  {name}")


@member.command()
@click.argument("email")
@organization_option
@click.option("--role", type=click.Choice(ROLES), default="member", show_default=True, help="Role of the member.")
@click.pass_obj
def add(factory: str, email: str, organization: int, role: str) -> None:
    """Add a user to an organization."""
    app = load_app(factory)
    run(app, lambda: _add(app, email, organization, role))
    click.echo(f"{email} is now {role} of organization {organization}.")


@member.command("role")
@click.argument("email")
@click.argument("role", type=click.Choice(ROLES))
@organization_option
@click.pass_obj
def change_role(factory: str, email: str, role: str, organization: int) -> None:
    """Change the role of a member.

    The last owner of an organization cannot get another role.
    """
    app = load_app(factory)
    run(app, lambda: _change(app, email, organization, role))
    click.echo(f"{email} is now {role} of organization {organization}.")


@member.command()
@click.argument("email")
@organization_option
@click.pass_obj
def remove(factory: str, email: str, organization: int) -> None:
    """Remove a member from an organization.

    The last owner of an organization cannot be removed.
    """
    app = load_app(factory)
    run(app, lambda: _change(app, email, organization, None))
    click.echo(f"{email} is no longer a member of organization {organization}.")


async def _list(app: Apex, organization: int) -> list[Row]:
    await find_organization(app, organization)
    memberships: list[Row] = await app.service("memberships").find(
        {"query": {"organization_id": organization}, "paginate": False}
    )
    query = {"id": {"$in": [row["user_id"] for row in memberships]}, "$select": ["email", "first_name", "last_name"]}
    users = await app.service("users").find({"query": query, "paginate": False})
    names = {user.pop("id"): user for user in users}
    return [row | names[row["user_id"]] for row in memberships]


async def _add(app: Apex, email: str, organization: int, role: str) -> None:
    await find_organization(app, organization)
    user = await find_user(app, email)
    data = {"organization_id": organization, "user_id": user["id"], "role": role}
    await app.service("memberships").create(data)


async def _change(app: Apex, email: str, organization: int, role: str | None) -> None:
    memberships, user = app.service("memberships"), await find_user(app, email)
    query = {"organization_id": organization, "user_id": user["id"]}
    found = await memberships.find({"query": query, "paginate": False})
    if not found:
        raise ConfigError(f"'{email}' is not a member of organization {organization}")
    id = found[0]["id"]
    await (memberships.remove(id) if role is None else memberships.patch(id, {"role": role}))
