"""The commands ``apex webhooks``: which webhooks there are, and whether a receiver takes a message."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from apex.cli.loading import load_app, run
from apex.cli.options import as_json_option
from apex.errors import BadRequest, ConfigError, NotFound

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.service import BoundService
    from apex.types import Row

SHOWN = ("id", "url", "events", "description", "enabled", "disabled_reason", "failing_since", "last_success_at")


@click.group()
def webhooks() -> None:
    """List webhooks, or send a test message to one."""


@webhooks.command("list")
@as_json_option
@click.pass_obj
def list_webhooks(factory: str, as_json: bool) -> None:
    """List the webhooks of all tenants, with what is wrong with them."""
    from apex.encoding import encode

    app = load_app(factory)
    service = _service_of(app)
    found = run(app, lambda: _found(service))
    if as_json:
        click.echo(encode(found).decode())
        return
    for row in found:
        click.echo(f"{row['id']}  {row['url']}  {', '.join(row['events'])}  {_state(row)}")
    if not found:
        click.echo("There are no webhooks.")


@webhooks.command()
@click.argument("id")
@as_json_option
@click.pass_obj
def test(factory: str, id: str, as_json: bool) -> None:
    """Send a test message to the webhook ID, and print the answer.

    The exit code is 1 if the receiver does not take it.
    """
    app = load_app(factory)
    service = _service_of(app)
    answer = run(app, lambda: _test(service, id))
    if as_json:
        click.echo(json.dumps(answer))
    else:
        status = "No answer" if answer["status"] is None else f"Status {answer['status']}"
        click.echo(f"{status} after {answer['duration']} ms.")
        if answer["error"] is not None:
            click.echo(f"Not delivered: {answer['error']}.")
        if answer["answer"]:
            click.echo(answer["answer"])
    sys.exit(1 if answer["error"] is not None else 0)


def _service_of(app: Apex) -> BoundService:
    from apex.webhooks import Webhooks

    for bound in app.services.values():
        if isinstance(bound.service, Webhooks):
            return bound
    raise ConfigError(
        "the application has no webhooks: run 'apex generate webhooks', or register a subclass of "
        "apex.webhooks.Webhooks"
    )


async def _found(service: BoundService) -> list[Row]:
    query = {"$sort": {"id": 1}, "$select": SHOWN}
    found: list[Row] = await service.find({"query": query, "paginate": False})
    return found


async def _test(service: BoundService, id: str) -> Row:
    tenant: str | None = service.service.tenant
    try:
        webhook: Row = await service.get(id)
    except (BadRequest, NotFound):  # An id that is no number is a BadRequest in some apps.
        raise ConfigError(f"there is no webhook {id}") from None
    names = ("id",) if tenant is None else ("id", tenant)
    answer: Row = await service.test({name: webhook[name] for name in names})
    return answer


def _state(row: Row) -> str:
    if not row["enabled"]:
        return f"disabled: {row['disabled_reason'] or 'by a user'}"
    if row["failing_since"] is not None:
        return f"fails since {row['failing_since']:%Y-%m-%d %H:%M} UTC"
    if row["last_success_at"] is not None:
        return f"last delivery {row['last_success_at']:%Y-%m-%d %H:%M} UTC"
    return "nothing sent yet"
