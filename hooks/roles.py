"""The roles of memberships, which the commands use without loading the framework."""

from __future__ import annotations

ROLES = ("viewer", "member", "admin", "owner")
"""The roles, the lowest first. Each role allows everything that the ones before it allow."""

RUNNING = ("admin", "owner")
"""The roles that run an organization."""


def least(*roles: str) -> str:
    """Return the lowest of these roles."""
    return min(roles, key=ROLES.index)
