"""API keys: what one looks like, how it is stored, and how its holder is found."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any, NamedTuple

from apex.cache import Cache
from apex.context import Params
from apex.errors import NotAuthenticated

_KEY = re.compile(r"(apex_[0-9a-f]{12})_[A-Za-z0-9_-]{43}")

Holder = Mapping[str, Any]
Find = Callable[[str], Awaitable[Holder | None]]


class Key(NamedTuple):
    """A key as its holder gets it, once; its ``prefix`` is stored and shown, of the rest only the ``hash``."""

    text: str
    prefix: str
    hash: str


def new_key() -> Key:
    """A key of 256 random bits: no dictionary leads to it, so that a fast hash is enough."""
    prefix = f"apex_{secrets.token_hex(6)}"
    text = f"{prefix}_{secrets.token_urlsafe(32)}"
    return Key(text, prefix, hashed(text))


def hashed(key: str) -> str:
    return sha256(key.encode()).hexdigest()


class KeyStrategy:
    """Who sends a key in ``x-api-key`` that is known is its holder.

    ``find`` gives the holder of a prefix, or None: a mapping with the ``hash`` of the whole key and what the result
    of the authentication shall have; ``users`` gives the ``entity`` for a login.
    """

    scheme = {"type": "apiKey", "in": "header", "name": "x-api-key"}

    def __init__(self, find: Find, users: Callable[[Any], Awaitable[Any]]) -> None:
        self.find, self.users = find, users
        self.entity: str | None = "user"
        self.holders: Cache[tuple[str, str], Holder] = Cache(self._find)

    def parse(self, headers: Mapping[str, str]) -> dict[str, Any] | None:
        key = headers.get("x-api-key")
        return None if key is None else {"strategy": "api-key", "key": key}

    async def verify(self, authentication: Mapping[str, Any]) -> dict[str, Any]:
        """Raises NotAuthenticated for a key that nobody holds."""
        return {"authentication": dict(await self.holder(authentication.get("key")))}

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> dict[str, Any]:
        result = await self.verify(authentication)
        if self.entity is None:
            return result
        return {**result, self.entity: await self.users(result["authentication"]["payload"]["sub"])}

    async def holder(self, key: Any) -> Holder:
        """What proves who holds a key. Raises NotAuthenticated."""
        match = _KEY.fullmatch(key) if isinstance(key, str) else None
        if match is None:
            raise _unknown()
        holder = await self.holders.get((match[1], hashed(match[0])))
        if holder is None:
            raise _unknown()
        return holder

    def forget(self) -> None:
        """Asks anew for all keys."""
        self.holders.forget()

    async def _find(self, key: tuple[str, str]) -> Holder | None:
        prefix, digest = key
        holder = await self.find(prefix)
        if holder is None or not compare_digest(holder["hash"], digest):
            return None
        return {"strategy": "api-key", **{name: value for name, value in holder.items() if name != "hash"}}


def _unknown() -> NotAuthenticated:
    return NotAuthenticated("Invalid API key")
