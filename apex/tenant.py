"""Whose rows the statements of a call may reach: the floor under every scope.

It is a text, for the database to hold callers to: on PostgreSQL by row-level security, see
``apex.migrations.row_level_security.seal``. The text has the ids of tenants, separated by commas. Work inside the
process reaches everyone's rows. A call from outside reaches nobody's until a hook has found out who the caller is, and
calls ``confine``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, TypeVar

ROLE = "apex_tenant"
"""The database role that statements run as: it owns no table and cannot get around row-level security."""

SETTING = "apex.tenant"
"""The setting that carries the reach into a transaction."""

EVERYONE, NOBODY = "*", ""

H = TypeVar("H", bound=Callable[..., Any])

reach_of_call: ContextVar[str] = ContextVar("reach", default=EVERYONE)
_sealing: list[Callable[..., Any]] = []


def sealing(hook: H) -> H:
    """Marks a hook that confines every call from outside; ``apex check`` names the services that have none."""
    _sealing.append(hook)
    return hook


def is_sealing(hook: Callable[..., Any]) -> bool:
    return any(hook is known for known in _sealing)


def reach() -> str:
    """Whose rows may be reached now."""
    return reach_of_call.get()


def confine(tenants: Iterable[int]) -> None:
    """From here to the end of the call around it, the rows of these tenants alone may be reached."""
    reach_of_call.set(",".join(map(str, tenants)))


class reaching:
    """Inside, these may be reached: ``NOBODY`` for what comes from outside, ``EVERYONE`` for what a caller must be
    told although it is not about its own rows. What is set inside ends with it.
    """

    __slots__ = ("tenants", "token")

    def __init__(self, tenants: str) -> None:
        self.tenants = tenants

    def __enter__(self) -> None:
        self.token = reach_of_call.set(self.tenants)

    def __exit__(self, *error: object) -> None:
        reach_of_call.reset(self.token)
