"""The CRM's own commands: ``apex demo`` and ``apex user``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from apex.cli import ID, as_json_option, load_app, run
from apex.errors import ConfigError
from hooks.tenancy import ROLES

if TYPE_CHECKING:
    from apex import Apex
    from apex.types import Row

organization_option = click.option("--organization", type=ID, required=True, help="Id of the organization.")

BANNER = """Serving at {url}
Demo login: admin@example.com, password %(password)s (organization 456)
Demo API key: %(key)s
AgentVoice x-organization-id: %(organization)s
Documentation: {url}/docs/  Live page: {url}/console/

Try it:
  curl "{url}/contacts?organization_id=456" -H "Authorization: Bearer %(token)s"
"""
NO_KEY = "rotated or revoked; .venv/bin/apex key create --organization 456 --user 789 makes another"


@click.command()
@click.option("--rows", type=click.IntRange(min=0), default=0, help="Also add a large organization with contacts.")
@click.option("--serve", is_flag=True, help="Serve the application afterwards.")
@click.pass_obj
def demo(factory: str, rows: int, serve: bool) -> None:
    """Migrate the database and load the demo data, once."""
    from apex.migrations import is_up_to_date
    from apex.server import serve_app
    from services.shared.examples import PASSWORD, uuid_of

    app = load_app(factory)
    if app.get("env") == "production":
        raise ConfigError("the demo's password is published: it has no place in production")
    if not is_up_to_date(app.get("database_url")):
        from apex.migrations import upgrade

        upgrade(app.get("database_url"))
    shown = run(app, lambda: _load(app, rows))
    if serve:
        serve_app(app, banner=BANNER % {"password": PASSWORD, "organization": uuid_of(456), **shown})


async def _load(app: Apex, rows: int) -> dict[str, str]:
    """Gives what the banner shows of what is stored: a token, and the key while it is one."""
    from services.commands.demo import KEY, LARGE, load_demo, load_large

    loaded = await load_demo(app)
    click.echo("Demo data loaded." if loaded else "Demo data is there.")
    if rows:
        with click.progressbar(length=rows, label=f"Adding {rows:,} contacts") as bar:
            await load_large(app, rows, bar.update)
        click.echo(f"Added to organization {LARGE}.")
    token: str = app.get("defaultAuthentication").tokens.create(789)[0]
    return {"token": token, "key": KEY if await _is_stored(app, KEY) else NO_KEY}


async def _is_stored(app: Apex, key: str) -> bool:
    """Whether a key is neither rotated nor revoked."""
    from apex import Params
    from apex.auth import hash_key

    asked = Params({"query": {"prefix": key[:17]}, "paginate": False, "adapter": {"private": ()}})
    found = await app.service("api-keys").find(asked)
    return any(row["hash"] == hash_key(key) for row in found)


@click.group()
def user() -> None:
    """Manage users and their organizations."""


@user.command()
@click.argument("email")
@click.option("--first-name", required=True)
@click.option("--last-name")
@click.option("--organization", type=ID, help="Id of an organization the user joins.")
@click.option("--new-organization", help="Name of an organization to create for the user.")
@click.option("--role", type=click.Choice(ROLES), default="member", show_default=True)
@click.password_option(envvar="APEX_PASSWORD", help="Asked for when it is not given here or in APEX_PASSWORD.")
@as_json_option
@click.pass_obj
def add(
    factory: str, /, organization: int | None, new_organization: str | None, role: str, as_json: bool, **data: Any
) -> None:
    """Create a user."""
    if organization is not None and new_organization:
        raise click.UsageError("Give --organization or --new-organization, not both.")
    app = load_app(factory)
    given = {name: value for name, value in data.items() if value is not None}
    created, joined = run(app, lambda: _add(app, given, organization, new_organization, role))
    if as_json:
        known = {"id": created["id"], "email": created["email"]}
        click.echo(json.dumps({**known, "organization_id": joined, "role": role if joined is not None else None}))
        return
    told = "" if joined is None else f", {role} of organization {joined}"
    click.echo(f"User {created['id']} ({created['email']}) created{told}.")


async def _add(
    app: Apex, data: Row, organization: int | None, new_organization: str | None, role: str
) -> tuple[Row, int | None]:
    """Gives the user and the id of the organization it belongs to."""
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
@click.password_option(envvar="APEX_PASSWORD")
@click.pass_obj
def password(factory: str, email: str, password: str) -> None:
    """Change a user's password."""
    app = load_app(factory)
    run(app, lambda: _change_password(app, email, password))
    click.echo(f"Password of {email} changed.")


async def _change_password(app: Apex, email: str, password: str) -> None:
    await app.service("users").patch(await _id_of(app, email), {"password": password})


@user.command()
@click.argument("email")
@click.option("--erase", is_flag=True, help="Also erase its name, e-mail address, picture and password, for good.")
@click.pass_obj
def remove(factory: str, email: str, erase: bool) -> None:
    """Take a user away; its tokens stop working."""
    app = load_app(factory)
    run(app, lambda: _remove(app, email, erase))
    click.echo(f"User {email} {'erased' if erase else 'removed'}.")


async def _remove(app: Apex, email: str, erase: bool) -> None:
    from apex import Params
    from services.accounts.persons import erase_answers

    async with app.get("database").transaction():
        users = app.service("users")
        id = await _id_of(app, email)
        if erase:  # Past the hooks: nothing about it is to be checked or told.
            known = await users.service.get(id, Params({"adapter": {"private": ()}}))
            await erase_answers(app.get("database"), id, [known])
            empty = {"email": f"erased-{id}@users.invalid", "first_name": "Erased", "last_name": "User"}
            nothing = dict.fromkeys(("avatar_url", "password"))
            await users.service.patch(id, {**empty, **nothing}, {})
        await users.remove(id)


async def _id_of(app: Apex, email: str) -> int:
    found = await app.service("users").find({"query": {"email": email.lower(), "$limit": 1}, "paginate": False})
    if not found:
        raise ConfigError(f"there is no user '{email}'")
    return int(found[0]["id"])
