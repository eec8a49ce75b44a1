"""API keys: their format, their storage as hashes, and the strategy that finds their holders."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any, NamedTuple

from apex._moved import renamed
from apex.cache import Cache
from apex.context import Params
from apex.errors import NotAuthenticated

_KEY = re.compile(r"(apex_[0-9a-f]{12})_[A-Za-z0-9_-]{43}")

Holder = Mapping[str, Any]
"""The data of a key: the ``hash`` of the whole key, and the entries that its authentication gets."""

Find = Callable[[str], Awaitable[Holder | None]]


class APIKey(NamedTuple):
    """A new key. Show ``text`` to its holder once. Store the ``prefix`` and the ``hash``, but not the text."""

    text: str
    prefix: str
    hash: str


def new_key() -> APIKey:
    """Return a key with 256 random bits. As nobody can guess it, a fast hash is sufficient."""
    prefix = f"apex_{secrets.token_hex(6)}"
    text = f"{prefix}_{secrets.token_urlsafe(32)}"
    return APIKey(text, prefix, hash_key(text))


def hash_key(key: str) -> str:
    """Return the hash to store of a key (SHA-256, in hexadecimal)."""
    return sha256(key.encode()).hexdigest()


class APIKeyStrategy:
    """A strategy with a key in the header ``x-api-key``.

    ``find`` returns the ``Holder`` of a prefix, or None. ``users`` returns the entity of a subject for a login, such as
    ``AuthenticationService.user_of``. The holder's ``payload`` has the subject, ``{"payload": {"sub": "7"}}``::

        authentication.register("api-key", APIKeyStrategy(find_key, authentication.user_of))
    """

    scheme: Mapping[str, Any] | None = {"type": "apiKey", "in": "header", "name": "x-api-key"}

    def __init__(self, find: Find, users: Callable[[Any], Awaitable[Any]]) -> None:
        self.find: Find = find
        self.users: Callable[[Any], Awaitable[Any]] = users
        self.entity: str | None = "user"
        self.holders: Cache[tuple[str, str], Holder] = Cache(self._find)

    def parse(self, headers: Mapping[str, str]) -> dict[str, Any] | None:
        """Return the key in the headers of a request, or None."""
        key = headers.get("x-api-key")
        return None if key is None else {"strategy": "api-key", "key": key}

    async def verify(self, authentication: Mapping[str, Any]) -> dict[str, Any]:
        """Return the holder of a key. Raises NotAuthenticated for an unknown key."""
        return {"authentication": dict(await self.holder(authentication.get("key")))}

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> dict[str, Any]:
        """Return the holder of a key and the entity. Raises NotAuthenticated for an unknown key."""
        result = await self.verify(authentication)
        if self.entity is None:
            return result
        return {**result, self.entity: await self.users(result["authentication"]["payload"]["sub"])}

    async def holder(self, key: Any) -> Holder:
        """Return the holder of a key, cached for a second. Raises NotAuthenticated for an unknown key."""
        match = _KEY.fullmatch(key) if isinstance(key, str) else None
        if match is None:
            raise _unknown()
        holder = await self.holders.get((match[1], hash_key(match[0])))
        if holder is None:
            raise _unknown()
        return holder

    def forget(self) -> None:
        """Clear the cache of holders, after a change of a key."""
        self.holders.forget()

    async def _find(self, key: tuple[str, str]) -> Holder | None:
        prefix, digest = key
        holder = await self.find(prefix)
        if holder is None or not compare_digest(holder["hash"], digest):
            return None
        return {"strategy": "api-key", **{name: value for name, value in holder.items() if name != "hash"}}


def _unknown() -> NotAuthenticated:
    return NotAuthenticated("Invalid API key")


__getattr__ = renamed("apex.auth.api_keys", Key="APIKey", KeyStrategy="APIKeyStrategy", hashed="hash_key")
