"""The commands ``apex organization``."""

from __future__ import annotations

import secrets
from typing import Any

import click

from apex.cli import ID, load_app, run
from services.commands.common import find_organization


@click.group()
def organization() -> None:
    """Change the settings of an organization."""


@organization.command()
@click.argument("id", type=ID)
@click.argument("requests", type=click.IntRange(min=1))
@click.option(
    "--window", type=click.IntRange(min=1), default=3600, show_default=True, help="Length of the window in seconds."
)
@click.pass_obj
def limit(factory: str, id: int, requests: int, window: int) -> None:
    """Limit the requests of an organization's API keys.

    All keys of the organization together may make REQUESTS requests in each window.
    """
    _change(factory, id, {"rate_limit": requests, "rate_window": window})
    click.echo(f"Organization {id}: {requests:,} requests in {window:,} seconds.")


@organization.command("webhook-secret")
@click.argument("id", type=ID)
@click.option("--remove", is_flag=True, help="Accept webhooks without a signature again.")
@click.pass_obj
def webhook_secret(factory: str, id: int, remove: bool) -> None:
    """Print a new secret for the organization's webhooks.

    From then on, only webhooks that are signed with it are accepted.
    """
    secret = None if remove else secrets.token_urlsafe(32)
    _change(factory, id, {"webhook_secret": secret})
    click.echo(secret or f"Organization {id}: webhooks need no signature.")


@organization.command("custom-fields")
@click.argument("id", type=ID)
@click.option("--strict/--any", default=None, help="Accept only the custom fields that are defined, or any.")
@click.pass_obj
def set_custom_fields(factory: str, id: int, strict: bool | None) -> None:
    """Choose which custom fields the records of an organization may have."""
    if strict is None:
        raise click.UsageError("Missing option '--strict' or '--any'.")
    _change(factory, id, {"strict_custom_fields": strict})
    click.echo(f"Organization {id}: {'only defined custom fields' if strict else 'any custom fields'}.")


def _change(factory: str, id: int, data: dict[str, Any]) -> None:
    app = load_app(factory)

    async def change() -> None:
        await find_organization(app, id)
        await app.service("organizations").patch(id, data, {"adapter": {"private": ()}})

    run(app, change)
