"""Strategies: the ways in which callers prove who they are. A token is one, a name with a password another one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from apex.context import Params
from apex.errors import BadRequest, NotAuthenticated
from apex.tenant import ALL_TENANTS, tenant_context

if TYPE_CHECKING:
    from apex.auth.service import AuthenticationService

Result = dict[str, Any]
"""The result of an authentication: ``{"authentication": {...}, <entity>: {...}}``."""

_SCHEME = re.compile(r"(\S+)\s+(\S+)")
_SCHEMES = ("bearer", "jwt")


class Strategy(Protocol):
    """A way to prove who a caller is.

    A strategy may have a ``scheme``: the security scheme of OpenAPI for a proof in the headers of a request, such as
    ``{"type": "apiKey", "in": "header", "name": "x-pin"}``. It is None if the proof is only in a body. A strategy may
    have an ``entity``, which ``AuthenticationService.register`` sets to the name under which results have the entity.

        class PinStrategy:
            scheme = {"type": "apiKey", "in": "header", "name": "x-pin"}
    """

    async def verify(self, authentication: Mapping[str, Any]) -> Result:
        """Return the result without the entity. Raises NotAuthenticated or BadRequest."""
        ...

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> Result:
        """Return the result with the entity. Raises NotAuthenticated or BadRequest."""
        ...

    def parse(self, headers: Mapping[str, str]) -> Result | None:
        """Return the authentication in the headers of a request, or None."""
        ...


class JWTStrategy:
    """A strategy with an access token of this app that has neither expired nor been revoked.

    authentication.register("jwt", JWTStrategy(authentication))
    """

    scheme: Mapping[str, Any] | None = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}

    def __init__(self, service: AuthenticationService) -> None:
        self.service = service

    async def verify(self, authentication: Mapping[str, Any]) -> Result:
        """Return the token and its claims. Raises NotAuthenticated."""
        token = authentication.get("accessToken")
        if not token:
            raise NotAuthenticated("No access token")
        claims = self.service.tokens.verify(token)
        if self.service.is_revoked(claims):
            raise NotAuthenticated("Token revoked", {"name": "JsonWebTokenError"})
        proof = {"strategy": "jwt", "accessToken": token, "payload": claims}
        return {"accessToken": token, "authentication": proof}

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> Result:
        """Return the token, its claims and the entity. Raises NotAuthenticated."""
        result = await self.verify(authentication)
        if self.service.entity is not None:
            subject = result["authentication"]["payload"]["sub"]
            result[self.service.entity] = await self.service.user_of(subject, params)
        return result

    def parse(self, headers: Mapping[str, str]) -> Result | None:
        """Return the token of ``Authorization: Bearer <token>``, or of a value without a scheme."""
        value = headers.get("authorization", "").strip()
        if not value:
            return None
        match = _SCHEME.fullmatch(value)
        if match is None:
            token = value if value and " " not in value else None
        else:
            scheme = match[1].lower()
            token = match[2] if scheme == "bearer" or any(known in scheme for known in _SCHEMES) else None
        return None if token is None else {"strategy": "jwt", "accessToken": token}


class LocalStrategy:
    """A strategy with a name and a password. Every failed login has the same answer and takes the same time.

    The name is compared as it is stored. With ``local.caseInsensitive`` in the settings the comparison ignores case,
    and spaces around the name. With ``"lower"`` the name is converted to lower case, in which all names must be stored.

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
