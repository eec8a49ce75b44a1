"""Password hashes: argon2 for new ones, bcrypt for those that came with users of Feathers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from apex.errors import Unavailable

T = TypeVar("T")

AT_ONCE = 2
QUEUE = 20
LONGEST = 1024
_BCRYPT = ("$2a$", "$2b$", "$2y$")
_BCRYPT_BYTES = 72


class Passwords:
    """Hashes and verifies in threads, two at once: a hash costs tens of MiB, so logins must not pile up. Where twenty
    wait already, Unavailable is raised.

    ``options`` are argon2's ``time_cost``, ``memory_cost`` (KiB) and ``parallelism``.
    """

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self._hasher = PasswordHasher(**(options or {}))
        self._threads = ThreadPoolExecutor(AT_ONCE, "passwords")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The hash to store. Raises ValueError for a password of more than 1,024 characters."""
        if len(password) > LONGEST:
            raise ValueError(f"must have at most {LONGEST} characters")
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password belongs to the hash. Without a hash it takes as long, and the answer is no."""
        if len(password) > LONGEST:
            return False
        if stored is None:
            await self.hash(password)
            return False
        return await self._run(lambda: self._matches(stored, password))

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash should be made anew, now that the password is at hand."""
        return stored.startswith(_BCRYPT) or self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, password: str) -> bool:
        if stored.startswith(_BCRYPT):
            return _matches_bcrypt(stored, password)
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, function: Callable[[], T]) -> T:
        if self._waiting >= QUEUE:
            raise Unavailable("Too many logins at the same time: try again", retry_after=2)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function)
        finally:
            self._waiting -= 1


def _matches_bcrypt(stored: str, password: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], stored.encode())
    except ValueError:
        return False
