"""The commands ``apex person``."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import click

from apex.cli import ID, load_app, run
from apex.encoding import encode
from services.commands.common import organization_option

if TYPE_CHECKING:
    from apex.types import Row


@click.group()
def person() -> None:
    """Export or erase the personal data of a contact."""


@person.command()
@click.argument("contact", type=ID)
@organization_option
@click.option("--output", type=click.File("w", "utf-8"), default="-", help="File to write [default: stdout]")
@click.pass_obj
def export(factory: str, contact: int, organization: int, output: IO[str]) -> None:
    """Write everything that is stored about a contact, as JSON."""
    from services.personal_data import collect

    app = load_app(factory)
    found: Row = run(app, lambda: collect(app, "contacts", organization, contact))
    output.write(encode(found).decode() + "\n")


@person.command()
@click.argument("contact", type=ID)
@organization_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def erase(factory: str, contact: int, organization: int, yes: bool) -> None:
    """Delete a contact and all copies of its data for good."""
    from services.personal_data import erase as erase_contact

    if not yes:
        click.confirm(f"Erase contact {contact} of organization {organization}? This cannot be undone.", abort=True)
    app = load_app(factory)
    counts = run(app, lambda: erase_contact(app, "contacts", organization, contact))
    changed = ", ".join(f"{count:,} {path}" for path, count in counts.items() if count)
    click.echo(f"Contact {contact} erased.{f' Changed: {changed}.' if changed else ''}")
