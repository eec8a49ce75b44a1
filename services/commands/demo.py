"""The command ``apex demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apex.cli import load_app, run
from apex.errors import ConfigError

if TYPE_CHECKING:
    from apex import Apex

BANNER = """Serving at {url}
Demo login: admin@example.com, password %(password)s (organization 456)
Demo API key: %(key)s
AgentVoice x-organization-id: %(organization)s
Documentation: {url}/docs/  Live page: {url}/console/

Try it:
  curl "{url}/contacts?organization_id=456" -H "Authorization: Bearer %(token)s"
"""
NO_KEY = "rotated or revoked. Create another with `apex key create --organization 456 --user 789`"


@click.command()
@click.option(
    "--rows", type=click.IntRange(min=0), default=0, help="Also add this many contacts to another, large organization."
)
@click.option("--serve", is_flag=True, help="Serve the application afterwards.")
@click.pass_obj
def demo(factory: str, rows: int, serve: bool) -> None:
    """Migrate the database and load the demo data.

    If the demo data is already in the database, it stays as it is.
    """
    from apex.migrations import is_up_to_date, upgrade
    from apex.server import serve_app
    from services.shared.examples import DEMO_PASSWORD, uuid_of

    app = load_app(factory)
    if app.get("env") == "production":
        raise ConfigError("the demo data has a published password: it is not loaded in production")
    if not is_up_to_date(app.get("database_url")):
        upgrade(app.get("database_url"))
    shown = run(app, lambda: _load(app, rows))
    if serve:
        serve_app(app, banner=BANNER % {"password": DEMO_PASSWORD, "organization": uuid_of(456), **shown})


async def _load(app: Apex, rows: int) -> dict[str, str]:
    """Load the demo data. Return a token for the banner, and the API key as long as it works."""
    from services.commands.demo_data import KEY, LARGE, load_demo, load_large

    is_new = await load_demo(app)
    click.echo("Demo data loaded." if is_new else "Demo data is already loaded.")
    if rows:
        with click.progressbar(length=rows, label=f"Adding {rows:,} contacts") as bar:
            await load_large(app, rows, bar.update)
        click.echo(f"Added to organization {LARGE}.")
    token: str = app.get("defaultAuthentication").tokens.create(789)[0]
    return {"token": token, "key": KEY if await _is_stored(app, KEY) else NO_KEY}


async def _is_stored(app: Apex, key: str) -> bool:
    """Return True if a key is neither rotated nor revoked."""
    from apex.auth import hash_key

    query = {"query": {"prefix": key[:17]}, "paginate": False, "adapter": {"private": ()}}
    found = await app.service("api-keys").find(query)
    return any(row["hash"] == hash_key(key) for row in found)
