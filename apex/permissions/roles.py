"""The roles of an app: their names, which of them a caller has, and in which tenants."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apex.context import Context
from apex.permissions.rules import entity_of

if TYPE_CHECKING:
    from apex.app import Apex

ANYONE, USER = "anyone", "user"
"""The roles that every app has: each caller, and each caller that has logged in."""

SETTING = "roles"


@dataclass(frozen=True)
class Roles:
    """The declared roles of an app, which ``roles`` sets."""

    names: tuple[str, ...]
    of: Callable[[Context], Any]
    tenant: str | None
    inherit: bool
    implied: Mapping[str, frozenset[str]] = field(init=False)
    """Each role with those whose rules hold for it, too."""

    def __post_init__(self) -> None:
        implied = {
            name: frozenset(self.names[: place + 1] if self.inherit else (name,))
            for place, name in enumerate(self.names)
        }
        object.__setattr__(self, "implied", implied)

    def expanded(self, held: Any) -> frozenset[str]:
        """Return the declared roles of a caller who holds one role or several, or none (None)."""
        if isinstance(held, str):
            return self.implied.get(held, frozenset())
        return frozenset().union(*(self.implied.get(name, ()) for name in held or ()))


def roles(
    names: Sequence[str],
    *,
    of: Callable[[Context], Any] | None = None,
    tenant: str | None = None,
    inherit: bool = False,
) -> Callable[[Apex], None]:
    """Declare the roles that permissions name: ``app.configure(roles(("member", "admin")))``, before the services.

    ``of`` is a function of the context, ``def`` or ``async def``, that returns the role of the caller or a list of
    roles. By default they are in the field ``roles`` or ``role`` of ``params.user``. With ``inherit`` each role may do
    what the ones before it may.

    With ``tenant``, ``of`` returns a mapping from the ids of the caller's tenants to its roles there. ``tenant`` names
    the field of a record with the id of its tenant, unless ``info["tenant"]`` of the table does. A caller then reaches
    the records of the tenants where its role suffices::

        app.configure(roles(("member", "admin"), of=roles_by_team, tenant="team_id", inherit=True))

    Raises TypeError for arguments of another form.
    """
    if isinstance(names, str) or not names or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"roles takes a list of names such as ('member', 'admin'), not {names!r}")
    for name in names:
        if name in (ANYONE, USER):
            raise TypeError(f"'{name}' is a role of every app, and cannot be declared")
    if of is not None and not callable(of):
        raise TypeError("of takes a function of the context that returns the roles of the caller")
    if tenant is not None and of is None:
        raise TypeError("tenant needs of: a function that returns the caller's roles by the id of a tenant")
    declared = Roles(tuple(dict.fromkeys(names)), of or roles_of_user, tenant, inherit)

    def configure(app: Apex) -> None:
        app.set(SETTING, declared)

    return configure


def roles_of_user(context: Context) -> Collection[str] | str | None:
    """Return the field ``roles`` of the user who has logged in, or its ``role``, or None."""
    user = entity_of(context)
    if not isinstance(user, Mapping):
        return None
    found: Collection[str] | str | None = user.get("roles") or user.get("role")
    return found
