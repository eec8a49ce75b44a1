"""The commands ``permissions`` and ``explain``: what each role may do, and why a request is allowed or refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apex.cli.loading import load_app, run
from apex.cli.options import as_json_option
from apex.errors import ConfigError

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.permissions.policy import Policy

Matrix = dict[str, dict[str, dict[str, str]]]
"""The rights of each role by service and method: ``all``, or the records and fields."""

VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE")

UNDECLARED = "(no permissions)"
"""The name in the place of a role for a service that declares none: its hooks decide."""


@click.command()
@click.option("--check", "lock", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Compare with a file, and fail if something has changed.")  # fmt: skip
@click.option("--write", is_flag=True, help="Write the file of --check, by default permissions.lock.")
@as_json_option
@click.pass_obj
def permissions(factory: str, lock: Path | None, write: bool, as_json: bool) -> None:
    """Print who may call which method.

    With --check in your CI, a change of permissions has to be seen and written down with --write.
    """
    found = matrix(load_app(factory))
    if write:
        file = lock or Path("permissions.lock")
        file.write_text("".join(f"{line}\n" for line in lock_lines(found)), encoding="utf-8")
        click.echo(f"{file} written.")
    elif lock is not None:
        changes = changed_lines(found, lock)
        click.echo(json.dumps(changes) if as_json else "\n".join(changes) or "Nothing has changed.")
        sys.exit(1 if changes else 0)
    else:
        click.echo(json.dumps(found) if as_json else "\n".join(table_lines(found)))


def matrix(app: Apex) -> Matrix:
    """Return what each role may do, for the services that callers outside reach."""
    found: Matrix = {}
    for path, bound in app.services.items():
        methods = bound._options.methods
        if methods:
            policy: Policy | None = bound._policy
            found[path] = {
                method: {UNDECLARED: "all"} if policy is None else policy.shown(method) for method in methods
            }
    return found


def lock_lines(found: Matrix) -> list[str]:
    """Return a line for each service, method and role, in an order of their own."""
    return sorted(
        f"{path} {method} {who}: {shown}"
        for path, methods in found.items()
        for method, allowed in methods.items()
        for who, shown in (allowed or {"nobody": "-"}).items()
    )


def changed_lines(found: Matrix, lock: Path) -> list[str]:
    """Return the lines that are new, with ``+``, and those that are gone, with ``-``. Raises ConfigError."""
    try:
        known = lock.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read '{lock}': {error.strerror}. 'apex permissions --write' writes it") from None
    present = lock_lines(found)
    gone = [(line, "-") for line in known if line not in present]
    new = [(line, "+") for line in present if line not in known]
    return [f"{sign} {line}" for line, sign in sorted([*gone, *new])]


def table_lines(found: Matrix) -> Iterator[str]:
    """Yield a table for each service: a line for each method, a column for each role."""
    for path, methods in found.items():
        roles = list(dict.fromkeys(who for allowed in methods.values() for who in allowed))
        rows = [[path, *roles]]
        rows += [[f"  {method}", *(allowed.get(who, "-") for who in roles)] for method, allowed in methods.items()]
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        yield from (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )
        yield ""


@click.command()
@click.argument("verb", metavar="VERB", type=click.Choice(VERBS, case_sensitive=False))
@click.argument("path")
@click.option("--as", "name", metavar="NAME", help="The user, by the name of the login [default: nobody]")
@click.option("--data", metavar="JSON", help="The body of the request.")
@click.option("--method", metavar="NAME", help="The custom method of a POST.")
@click.pass_obj
def explain(factory: str, verb: str, path: str, name: str | None, data: str | None, method: str | None) -> None:
    """Say why a request is allowed or refused.

    The hooks before the method run, and the method does not. What they store is rolled back. The exit code is 1 if the
    request is refused.
    """
    from apex.cli.explain import Request, explained

    try:
        body: Any = None if data is None else json.loads(data)
    except ValueError as error:
        raise ConfigError(f"--data is no JSON: {error}") from None
    app = load_app(factory)
    request = Request(verb.upper(), path, name, body, method)
    lines, is_allowed = run(app, lambda: explained(app, request))
    click.echo("\n".join(lines))
    sys.exit(0 if is_allowed else 1)
