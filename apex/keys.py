"""API keys: what one looks like, how it is stored, and how its holder is found."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any, NamedTuple

from apex.context import Params
from apex.errors import NotAuthenticated

FRESH_SECONDS = 0.9
"""For how long a holder is remembered: what is changed in a key is so everywhere within a second."""

REMEMBERED = 10_000

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
    of the authentication shall have; ``users`` gives the entity for a login.
    """

    def __init__(self, find: Find, users: Callable[[Any], Awaitable[Any]]) -> None:
        self.find, self.users = find, users
        self.clock = time.monotonic
        self._known: dict[str, tuple[float, Holder]] = {}

    def parse(self, headers: Mapping[str, str]) -> dict[str, Any] | None:
        key = headers.get("x-api-key")
        return None if key is None else {"strategy": "api-key", "key": key}

    async def verify(self, authentication: Mapping[str, Any]) -> dict[str, Any]:
        """Raises NotAuthenticated for a key that nobody holds."""
        return {"authentication": await self.holder(authentication.get("key"))}

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> dict[str, Any]:
        result = await self.verify(authentication)
        return {**result, "user": await self.users(result["authentication"]["payload"]["sub"])}

    async def holder(self, key: Any) -> Holder:
        """What proves who holds a key. Raises NotAuthenticated."""
        match = _KEY.fullmatch(key) if isinstance(key, str) else None
        if match is None:
            raise _unknown()
        digest, moment = hashed(match[0]), self.clock()
        known = self._known.get(digest)
        if known is not None and known[0] > moment:
            return known[1]
        holder = await self.find(match[1])
        if holder is None or not compare_digest(holder["hash"], digest):
            self._known.pop(digest, None)
            raise _unknown()
        proof = {"strategy": "api-key", **{name: value for name, value in holder.items() if name != "hash"}}
        self._remember(digest, moment + FRESH_SECONDS, proof)
        return proof

    def forget(self) -> None:
        """Asks anew for all keys."""
        self._known.clear()

    def _remember(self, digest: str, until: float, proof: Holder) -> None:
        if len(self._known) >= REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[digest] = until, proof


def _unknown() -> NotAuthenticated:
    return NotAuthenticated("Invalid API key")
