"""The tenants whose rows the statements of a call may read and write.

On PostgreSQL the database itself enforces this by row-level security: see ``apex.migrations.row_level_security``. The
ids of the tenants travel as one text, separated by commas. Work inside the process uses ``ALL_TENANTS``. A call from
outside begins with ``NO_TENANTS``, until a hook has found out who the caller is and calls ``set_tenants``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, TypeVar

from apex._moved import renamed

__all__ = [
    "ALL_TENANTS", "NO_TENANTS", "ROLE", "SETTING", "current_tenants", "is_tenant_hook", "set_tenants",
    "tenant_context", "tenant_hook",
]  # fmt: skip

ROLE = "apex_tenant"
"""The database role that statements run as. It owns no table and cannot bypass row-level security."""

SETTING = "apex.tenant"
"""The PostgreSQL setting that carries the tenants into a transaction."""

ALL_TENANTS, NO_TENANTS = "*", ""
"""The texts for every tenant and for none."""

H = TypeVar("H", bound=Callable[..., Any])

current_tenants: ContextVar[str] = ContextVar("tenants", default=ALL_TENANTS)
"""The tenants of the call that runs now: ``ALL_TENANTS``, ``NO_TENANTS`` or ids such as ``"7,9"``."""

_tenant_hooks: list[Callable[..., Any]] = []


def tenant_hook(hook: H) -> H:
    """Mark a hook that limits every call from outside to the tenants of its caller.

    ``apex check`` names the services with rows of tenants that have no such hook.
    """
    _tenant_hooks.append(hook)
    return hook


def is_tenant_hook(hook: Callable[..., Any]) -> bool:
    """Return True if the hook is marked with ``tenant_hook``."""
    return any(hook is marked for marked in _tenant_hooks)


def set_tenants(ids: Iterable[int]) -> None:
    """Let statements read and write only the rows of these tenants, until the end of the current call."""
    current_tenants.set(",".join(map(str, ids)))


class tenant_context:
    """A context in which statements read and write the rows of other tenants than before.

    The rows of a user who has left the tenant are an example::

        with tenant_context(ALL_TENANTS):
            user = await app.service("users").get(id)
    """

    __slots__ = ("tenants", "token")

    token: Token[str]

    def __init__(self, tenants: str) -> None:
        self.tenants: str = tenants

    def __enter__(self) -> None:
        self.token = current_tenants.set(self.tenants)

    def __exit__(self, *error: object) -> None:
        current_tenants.reset(self.token)


if not TYPE_CHECKING:
    __getattr__ = renamed(
        __name__,
        EVERYONE="ALL_TENANTS",
        NOBODY="NO_TENANTS",
        is_sealing="is_tenant_hook",
        reach_of_call="current_tenants",
        reaching="tenant_context",
        sealing="tenant_hook",
    )

    def confine(tenants: Iterable[int]) -> None:
        """Call ``set_tenants``, which replaces this function."""
        warnings.warn("apex.tenant.confine(tenants) is set_tenants(ids) now", DeprecationWarning, stacklevel=2)
        set_tenants(tenants)

    def reach() -> str:
        """Return ``current_tenants.get()``, which replaces this function."""
        warnings.warn("apex.tenant.reach() is current_tenants.get() now", DeprecationWarning, stacklevel=2)
        return current_tenants.get()
