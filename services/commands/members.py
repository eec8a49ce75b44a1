"""The commands of an organization's members: ``apex member``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apex.cli import as_json_option, load_app, run
from apex.encoding import encode
from apex.errors import ConfigError
from hooks.tenancy import ROLES
from services.commands.main import organization_option

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
    rows = run(app, lambda: _list(app, organization))
    if as_json:
        click.echo(encode(rows).decode())
        return
    for row in rows:
        name = " ".join(filter(None, (row["first_name"], row["last_name"])))
        click.echo(f"{row['user_id']}  {row['role']}  {row['email']}  {name}")


@member.command()
@click.argument("email")
@organization_option
@click.option("--role", type=click.Choice(ROLES), default="member", show_default=True)
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
    """Change the role of a member. The last owner of an organization stays its owner."""
    app = load_app(factory)
    run(app, lambda: _change(app, email, organization, role))
    click.echo(f"{email} is now {role} of organization {organization}.")


@member.command()
@click.argument("email")
@organization_option
@click.pass_obj
def remove(factory: str, email: str, organization: int) -> None:
    """Remove a member from an organization, unless it is the last owner."""
    app = load_app(factory)
    run(app, lambda: _change(app, email, organization, None))
    click.echo(f"{email} is no longer a member of organization {organization}.")


async def _list(app: Apex, organization: int) -> list[Row]:
    await _require_organization(app, organization)
    memberships: list[Row] = await app.service("memberships").find(
        {"query": {"organization_id": organization}, "paginate": False}
    )
    users = await _users(app, id={"$in": [row["user_id"] for row in memberships]})
    named = {user["id"]: {name: user[name] for name in ("email", "first_name", "last_name")} for user in users}
    return [row | named[row["user_id"]] for row in memberships]


async def _add(app: Apex, email: str, organization: int, role: str) -> None:
    await _require_organization(app, organization)
    data = {"organization_id": organization, "user_id": await _user_id(app, email), "role": role}
    await app.service("memberships").create(data)


async def _change(app: Apex, email: str, organization: int, role: str | None) -> None:
    memberships = app.service("memberships")
    query = {"organization_id": organization, "user_id": await _user_id(app, email)}
    found = await memberships.find({"query": query, "paginate": False})
    if not found:
        raise ConfigError(f"'{email}' is not a member of organization {organization}")
    id = found[0]["id"]
    await (memberships.remove(id) if role is None else memberships.patch(id, {"role": role}))


async def _user_id(app: Apex, email: str) -> int:
    found = await _users(app, email=email.lower())
    if not found:
        raise ConfigError(f"there is no user '{email}'")
    return int(found[0]["id"])


async def _users(app: Apex, **query: object) -> list[Row]:
    found: list[Row] = await app.service("users").find({"query": query, "paginate": False})
    return found


async def _require_organization(app: Apex, id: int) -> None:
    if not await app.service("organizations").find({"query": {"id": id}, "paginate": False}):
        raise ConfigError(f"there is no organization {id}")
