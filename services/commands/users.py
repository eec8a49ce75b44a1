"""The commands ``apex user``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from apex.cli import ID, as_json_option, load_app, run
from hooks.roles import ROLES
from services.commands.common import find_user

if TYPE_CHECKING:
    from apex import Apex
    from apex.types import Row


@click.group()
def user() -> None:
    """Manage users."""


@user.command()
@click.argument("email")
@click.option("--first-name", required=True, help="First name of the user.")
@click.option("--last-name", help="Last name of the user.")
@click.option("--organization", type=ID, help="Id of an organization that the user joins.")
@click.option("--new-organization", help="Name of a new organization that the user joins.")
@click.option("--role", type=click.Choice(ROLES), default="member", show_default=True, help="Role in the organization.")
@click.password_option(
    envvar="APEX_PASSWORD", help="Password of the user. By default it is read from APEX_PASSWORD, or asked for."
)
@as_json_option
@click.pass_obj
def add(
    factory: str, /, organization: int | None, new_organization: str | None, role: str, as_json: bool, **data: Any
) -> None:
    """Create a user with an e-mail address."""
    if organization is not None and new_organization:
        raise click.UsageError("Give --organization or --new-organization, not both.")
    app = load_app(factory)
    given = {name: value for name, value in data.items() if value is not None}
    created, joined = run(app, lambda: _add(app, given, organization, new_organization, role))
    if as_json:
        known = {"id": created["id"], "email": created["email"]}
        click.echo(json.dumps({**known, "organization_id": joined, "role": role if joined is not None else None}))
        return
    membership = "" if joined is None else f", {role} of organization {joined}"
    click.echo(f"User {created['id']} ({created['email']}) created{membership}.")


async def _add(
    app: Apex, data: Row, organization: int | None, new_organization: str | None, role: str
) -> tuple[Row, int | None]:
    """Return the user and the id of the organization that it joins."""
    async with app.get("database").transaction():
        created: Row = await app.service("users").create(data)
        if new_organization:
            organization = (await app.service("organizations").create({"name": new_organization}))["id"]
        if organization is not None:
            member = {"organization_id": organization, "user_id": created["id"], "role": role}
            await app.service("memberships").create(member)
    return created, organization


@user.command()
@click.argument("email")
@click.password_option(envvar="APEX_PASSWORD", help="By default it is read from APEX_PASSWORD, or asked for.")
@click.pass_obj
def password(factory: str, email: str, password: str) -> None:
    """Change a user's password."""
    app = load_app(factory)

    async def change() -> None:
        found = await find_user(app, email)
        await app.service("users").patch(found["id"], {"password": password})

    run(app, change)
    click.echo(f"Password of {email} changed.")


@user.command()
@click.argument("email")
@click.option("--erase", is_flag=True, help="Also erase the name, e-mail address, picture and password for good.")
@click.pass_obj
def remove(factory: str, email: str, erase: bool) -> None:
    """Remove a user. Its tokens stop working."""
    app = load_app(factory)
    run(app, lambda: _remove(app, email, erase))
    click.echo(f"User {email} {'erased' if erase else 'removed'}.")


async def _remove(app: Apex, email: str, erase: bool) -> None:
    from apex import Params
    from services.personal_data import erase_answers

    async with app.get("database").transaction():
        users = app.service("users")
        id = (await find_user(app, email))["id"]
        if erase:  # Without hooks, so that nothing of the user is checked, published or audited.
            stored = await users.service.get(id, Params({"adapter": {"private": ()}}))
            await erase_answers(app.get("database"), id, [stored])
            erased = {"email": f"erased-{id}@users.invalid", "first_name": "Erased", "last_name": "User"}
            await users.service.patch(id, {**erased, "avatar_url": None, "password": None}, {})
        await users.remove(id)
