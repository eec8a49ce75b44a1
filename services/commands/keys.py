"""The commands of an organization's programs: ``apex key`` and ``apex organization``."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from apex import Params
from apex.cli import ID, as_json_option, load_app, run
from apex.encoding import encode
from apex.errors import ConfigError
from services.commands.main import organization_option

if TYPE_CHECKING:
    from apex import Apex
    from apex.types import Row

SHOWN = (
    "id", "prefix", "organization_id", "user_id", "name", "read_only", "services", "created_at", "last_used_at",
    "previous_expires_at",
)  # fmt: skip


@click.group()
def key() -> None:
    """Manage API keys."""


@key.command()
@click.option("--organization", type=ID, required=True, help="Id of the organization the key is for.")
@click.option("--user", type=ID, required=True, help="Id of the member the key acts as.")
@click.option("--name", help="What the key is for.")
@click.option("--read-only", is_flag=True, help="The key may only read.")
@click.option("--service", "services", multiple=True, help="A service that the key is for; it may be given repeatedly.")
@click.option("--json", "as_json", is_flag=True, help="Print an object with the key and its organization's ids.")
@click.pass_obj
def create(
    factory: str,
    organization: int,
    user: int,
    name: str | None,
    read_only: bool,
    services: Sequence[str],
    as_json: bool,
) -> None:
    """Print a new key. It is shown this once."""
    app = load_app(factory)
    data = {"user_id": user, "name": name, "read_only": read_only, "services": list(services) or None}
    made = run(app, lambda: _create(app, organization, data))
    click.echo(json.dumps(made) if as_json else made["key"])


async def _create(app: Apex, organization: int, data: Row) -> Row:
    from apex.service import Call

    uuid = str((await _organization(app, organization))["uuid"])
    member = {"organization_id": organization, "user_id": data["user_id"], "$limit": 1}
    if not await app.service("memberships").find({"query": member, "paginate": False}):
        raise ConfigError(f"user {data['user_id']} is not a member of organization {organization}")
    call = Call(app.service("api-keys"), "create", data={"organization_id": organization, **data})
    context = await app.call(call)
    return {"key": context.external["key"], "organization_id": organization, "organization_uuid": uuid}


@key.command("list")
@organization_option
@as_json_option
@click.pass_obj
def list_keys(factory: str, organization: int, as_json: bool) -> None:
    """List the keys of an organization: what each begins with, and when it was last used."""
    app = load_app(factory)
    rows = run(app, lambda: _list(app, organization))
    if as_json:
        click.echo(encode(rows).decode())
        return
    for row in rows:
        used = f"last used {row['last_used_at']:%Y-%m-%d %H:%M} UTC" if row["last_used_at"] else "never used"
        limits = [*(["read-only"] if row["read_only"] else []), *(row["services"] or [])]
        parts = [str(row["id"]), row["prefix"], f"user {row['user_id']}", used, ", ".join(limits), row["name"]]
        click.echo("  ".join(filter(None, parts)))


async def _list(app: Apex, organization: int) -> list[Row]:
    await _organization(app, organization)
    query = {"organization_id": organization, "$select": list(SHOWN)}
    rows: list[Row] = await app.service("api-keys").find({"query": query, "paginate": False})
    return rows


@key.command()
@click.argument("id", type=ID)
@click.option(
    "--grace",
    type=click.IntRange(0, 7 * 86_400),
    default=0,
    show_default=True,
    help="Seconds for which the text before goes on to work.",
)
@as_json_option
@click.pass_obj
def rotate(factory: str, id: int, grace: int, as_json: bool) -> None:
    """Print a new text for a key; the one before is worthless from then on, or after a period of grace."""
    app = load_app(factory)
    key = run(app, lambda: _rotate(app, id, grace))["key"]
    click.echo(json.dumps({"id": id, "key": key}) if as_json else key)


async def _rotate(app: Apex, id: int, grace: int) -> Row:
    keys = app.service("api-keys")
    row: Row = await keys.get(id)
    rotated: Row = await keys.rotate({"id": id, "organization_id": row["organization_id"], "grace": grace})
    return rotated


@key.command()
@click.argument("id", type=ID)
@click.pass_obj
def revoke(factory: str, id: int) -> None:
    """Make a key worthless."""
    app = load_app(factory)
    row = run(app, lambda: app.service("api-keys").remove(id))
    click.echo(f"Key {row['id']} ({row['prefix']}) revoked.")


@click.group()
def organization() -> None:
    """Set what an organization may do."""


@organization.command()
@click.argument("id", type=ID)
@click.argument("requests", type=click.IntRange(min=1))
@click.option("--window", type=click.IntRange(min=1), default=3600, show_default=True, help="In seconds.")
@click.pass_obj
def limit(factory: str, id: int, requests: int, window: int) -> None:
    """Say how many requests the API keys of an organization may make."""
    _change(factory, id, {"rate_limit": requests, "rate_window": window})
    click.echo(f"Organization {id}: {requests:,} requests in {window:,} seconds.")


@organization.command("webhook-secret")
@click.argument("id", type=ID)
@click.option("--remove", is_flag=True, help="Take webhooks without a signature again.")
@click.pass_obj
def webhook_secret(factory: str, id: int, remove: bool) -> None:
    """Print a new secret, with which the organization's webhooks must be signed from then on."""
    secret = None if remove else secrets.token_urlsafe(32)
    _change(factory, id, {"webhook_secret": secret})
    click.echo(secret or f"Organization {id}: webhooks need no signature.")


@organization.command("custom-fields")
@click.argument("id", type=ID)
@click.option("--strict/--any", default=None, help="Take defined custom fields alone, or any.")
@click.pass_obj
def set_custom_fields(factory: str, id: int, strict: bool | None) -> None:
    """Say which custom fields the records of an organization may have."""
    if strict is None:
        raise click.UsageError("Missing option '--strict' or '--any'.")
    _change(factory, id, {"strict_custom_fields": strict})
    click.echo(f"Organization {id}: {'defined custom fields alone' if strict else 'any custom fields'}.")


def _change(factory: str, id: int, data: dict[str, Any]) -> None:
    app = load_app(factory)

    async def change() -> None:
        await _organization(app, id)
        await app.service("organizations").patch(id, data, {"adapter": {"private": ()}})

    run(app, change)


async def _organization(app: Apex, id: int) -> Row:
    found: list[Row] = await app.service("organizations").find(
        Params({"query": {"id": id, "$limit": 1}, "paginate": False, "adapter": {"private": ()}})
    )
    if not found:
        raise ConfigError(f"there is no organization {id}")
    return found[0]
