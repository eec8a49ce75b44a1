"""API keys: their format, their storage as hashes, and the strategy that finds their holders."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Any, NamedTuple

from apex._moved import renamed
from apex.app import Apex
from apex.cache import Cache
from apex.context import Params
from apex.errors import NotAuthenticated

_KEY = re.compile(r"(apex_[0-9a-f]{12})_[A-Za-z0-9_-]{43}")

HOLDER_SECONDS = 60
"""Seconds after which ``find`` is called again for a key in use, so that it can note when keys were used."""

Holder = Mapping[str, Any]
"""The data of a key: the ``hash`` of the whole key, and the entries that its authentication gets.

It may have ``expires_at``, the moment from which the key is no longer valid, or None. It is not part of the
authentication.
"""

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


class _Known(NamedTuple):
    """The holder of a key without its hash, and the moment from which the key is no longer valid."""

    holder: Holder
    expires_at: datetime | None


class APIKeyStrategy:
    """A strategy with a key in the header ``x-api-key``.

    ``find`` returns the ``Holder`` of a prefix, or None. ``users`` returns the entity of a subject for a login, such as
    ``AuthenticationService.user_of``. The holder's ``payload`` has the subject, ``{"payload": {"sub": "7"}}``::

        strategy = APIKeyStrategy(find_key, authentication.user_of)
        authentication.register("api-key", strategy)
        strategy.follow(app, "keys", lambda key, holder: key["id"] == holder["key_id"])

    Holders are cached. If the strategy follows the services that ``find`` reads, a change of their records ends keys
    and the connections that have logged in with them.
    """

    scheme: Mapping[str, Any] | None = {"type": "apiKey", "in": "header", "name": "x-api-key"}

    def __init__(self, find: Find, users: Callable[[Any], Awaitable[Any]]) -> None:
        self.find: Find = find
        self.users: Callable[[Any], Awaitable[Any]] = users
        self.entity: str | None = "user"
        self.recheck: Callable[[], None] | None = None
        self.holders: Cache[tuple[str, str], _Known] = Cache(self._find, kept=HOLDER_SECONDS, on_forget=self._recheck)

    def follow(self, app: Apex, path: str, applies: Callable[[Any, Holder], bool]) -> None:
        """Forget the holders for which ``applies(record, holder)`` is True, when a record of a service changes."""
        self.holders.follow(app, path, applies=lambda record, known: applies(record, known.holder))

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
        """Return the holder of a key, which is cached. Raises NotAuthenticated for an unknown key."""
        match = _KEY.fullmatch(key) if isinstance(key, str) else None
        if match is None:
            raise _unknown()
        known = await self.holders.get((match[1], hash_key(match[0])))
        if known is None or (known.expires_at is not None and known.expires_at <= datetime.now(UTC)):
            raise _unknown()
        return known.holder

    def forget(self) -> None:
        """Clear the cache of holders, after a change of a key."""
        self.holders.forget()

    def _recheck(self) -> None:
        if self.recheck is not None:
            self.recheck()

    async def _find(self, key: tuple[str, str]) -> _Known | None:
        prefix, digest = key
        holder = await self.find(prefix)
        if holder is None or not compare_digest(holder["hash"], digest):
            return None
        entries = {name: value for name, value in holder.items() if name not in ("hash", "expires_at")}
        return _Known({"strategy": "api-key", **entries}, holder.get("expires_at"))


def _unknown() -> NotAuthenticated:
    return NotAuthenticated("Invalid API key")


__getattr__ = renamed("apex.auth.api_keys", Key="APIKey", KeyStrategy="APIKeyStrategy", hashed="hash_key")
