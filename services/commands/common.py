"""The option and the look-ups that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apex.cli import ID
from apex.errors import ConfigError

if TYPE_CHECKING:
    from apex import Apex
    from apex.types import Row

organization_option = click.option("--organization", type=ID, required=True, help="Id of the organization.")


async def find_organization(app: Apex, id: int) -> Row:
    """Return an organization with its private fields. Raises ConfigError if it does not exist."""
    query = {"query": {"id": id, "$limit": 1}, "paginate": False, "adapter": {"private": ()}}
    found: list[Row] = await app.service("organizations").find(query)
    if not found:
        raise ConfigError(f"there is no organization {id}")
    return found[0]


async def find_user(app: Apex, email: str) -> Row:
    """Return the user with an e-mail address. Raises ConfigError if there is none."""
    query = {"email": email.lower(), "$limit": 1}
    found: list[Row] = await app.service("users").find({"query": query, "paginate": False})
    if not found:
        raise ConfigError(f"there is no user '{email}'")
    return found[0]


async def require_member(app: Apex, organization: int, user: int) -> None:
    """Raise ConfigError if a user is not a member of an organization."""
    query = {"organization_id": organization, "user_id": user, "$limit": 1}
    if not await app.service("memberships").find({"query": query, "paginate": False}):
        raise ConfigError(f"user {user} is not a member of organization {organization}")
