"""The commands ``apex key``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from apex.cli import ID, as_json_option, load_app, run
from apex.encoding import encode
from services.commands.common import find_organization, organization_option, require_member

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
@click.option("--organization", type=ID, required=True, help="Id of the organization that the key is for.")
@click.option("--user", type=ID, required=True, help="Id of the member that the key acts as.")
@click.option("--name", help="Purpose of the key.")
@click.option("--read-only", is_flag=True, help="The key may only read.")
@click.option("--service", "services", multiple=True, help="A service that the key may call. Repeat it for several.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the key and the ids of its organization.")
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
    """Print a new key. It cannot be shown again."""
    app = load_app(factory)
    data = {"user_id": user, "name": name, "read_only": read_only, "services": list(services) or None}
    created = run(app, lambda: _create(app, organization, data))
    click.echo(json.dumps(created) if as_json else created["key"])


async def _create(app: Apex, organization: int, data: Row) -> Row:
    from apex.service import Call

    uuid = str((await find_organization(app, organization))["uuid"])
    await require_member(app, organization, data["user_id"])
    call = Call(app.service("api-keys"), "create", data={"organization_id": organization, **data})
    context = await app.call(call)
    return {"key": context.external["key"], "organization_id": organization, "organization_uuid": uuid}


@key.command("list")
@organization_option
@as_json_option
@click.pass_obj
def list_keys(factory: str, organization: int, as_json: bool) -> None:
    """List the keys of an organization.

    Each line has the first characters of a key, its user, and the time of its last use.
    """
    app = load_app(factory)
    keys = run(app, lambda: _list(app, organization))
    if as_json:
        click.echo(encode(keys).decode())
        return
    for row in keys:
        used = f"last used {row['last_used_at']:%Y-%m-%d %H:%M} UTC" if row["last_used_at"] else "never used"
        limits = [*(["read-only"] if row["read_only"] else []), *(row["services"] or [])]
        parts = [str(row["id"]), row["prefix"], f"user {row['user_id']}", used, ", ".join(limits), row["name"]]
        click.echo("  ".join(filter(None, parts)))


async def _list(app: Apex, organization: int) -> list[Row]:
    await find_organization(app, organization)
    query = {"organization_id": organization, "$select": list(SHOWN)}
    keys: list[Row] = await app.service("api-keys").find({"query": query, "paginate": False})
    return keys


@key.command()
@click.argument("id", type=ID)
@click.option(
    "--grace",
    type=click.IntRange(0, 7 * 86_400),
    default=0,
    show_default=True,
    help="Seconds for which the old key still works.",
)
@as_json_option
@click.pass_obj
def rotate(factory: str, id: int, grace: int, as_json: bool) -> None:
    """Replace a key and print the new one.

    The old key stops working at once, or after the period of grace.
    """
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
    """Revoke a key. It stops working at once."""
    app = load_app(factory)
    row = run(app, lambda: app.service("api-keys").remove(id))
    click.echo(f"Key {row['id']} ({row['prefix']}) revoked.")
