"""The local strategy: a name with a password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from apex.context import Params
from apex.errors import BadRequest, NotAuthenticated
from apex.tenant import ALL_TENANTS, tenant_context

if TYPE_CHECKING:
    from apex.auth.service import AuthenticationService, Result


class LocalStrategy:
    """A strategy with a name and a password. Every failed login has the same answer and takes the same time.

    The name is compared as it is stored. With ``local.caseInsensitive`` in the settings the comparison ignores case,
    and spaces around the name. With ``"lower"`` the name is converted to lower case, in which all names must be
    stored::

        authentication.register("local", LocalStrategy(authentication))

    Raises ValueError if the service has no entity.
    """

    scheme: Mapping[str, Any] | None = None

    def __init__(self, service: AuthenticationService) -> None:
        if service.entity is None:
            raise ValueError("The local strategy needs an entity: set authentication.entity")
        self.service = service
        self.username: str = service.username_field
        self.password: str = service.password_field

    async def verify(self, authentication: Mapping[str, Any]) -> Result:
        """Raise NotAuthenticated, as a password cannot be verified without the entity."""
        raise NotAuthenticated("Invalid login")

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> Result:
        """Return the entity of a name with its password.

        Raises NotAuthenticated, BadRequest, and TooManyRequests after too many failures.
        """
        username, password = (_text(authentication, name) for name in (self.username, self.password))
        async with self.service.attempt(username, params) as attempt:
            user = await self._find(username, params)
            stored = user.pop(self.password, None) if user else None
            is_right = await self.service.passwords.verify(stored, password, attempt.parties, attempt.admit)
            if not is_right or user is None or stored is None:
                raise NotAuthenticated("Invalid login")
        if self.service.passwords.is_outdated(stored):
            await self._rehash(user[self.service.entity_id], password)
        private = getattr(self.service.users.service, "private", ())
        user = {name: value for name, value in user.items() if name not in private}
        return {"authentication": {"strategy": "local"}, str(self.service.entity): user}

    def parse(self, headers: Mapping[str, str]) -> Result | None:
        """Return None, as headers have no password."""
        return None

    async def _rehash(self, id: Any, password: str) -> None:
        """Store a new hash of a password without the users' hooks, which would hash the hash."""
        hashed = await self.service.passwords.hash(password)
        with tenant_context(ALL_TENANTS):
            await self.service.users.service.patch(id, {self.password: hashed}, Params())

    async def _find(self, username: str, params: Params) -> dict[str, Any] | None:
        """Return the user with the hash of the password, which the service keeps private."""
        query = await self.service.entity_query(params)
        return await self.service.user_named(username, query, {"private": ()})


def _text(authentication: Mapping[str, Any], name: str) -> str:
    value = authentication.get(name, "")
    if not isinstance(value, str):
        raise BadRequest("Invalid login data", errors={name: "must be a string"})
    if "\0" in value:
        raise NotAuthenticated("Invalid login")
    return value
