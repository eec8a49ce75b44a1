"""Password hashes: argon2 for new ones, and bcrypt for users that come from Feathers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from apex.context import Context
from apex.hooks import Hook, belongs
from apex.limits.queues import FairQueue

T = TypeVar("T")

AT_ONCE = 2
QUEUE = 20
MAX_LENGTH = 1024
BUSY = "Too many logins at the same time: try again"
_BCRYPT = ("$2a$", "$2b$", "$2y$")
_BCRYPT_BYTES = 72


class Passwords:
    """Hashes and verifies passwords in threads, two at once.

    A hash takes tens of MiB of memory. So at most twenty logins are running or wait in a ``FairQueue``. The next one is
    refused with Unavailable.

    ``options`` are the ``time_cost``, ``memory_cost`` (KiB) and ``parallelism`` of argon2::

        passwords = Passwords()
        await passwords.verify(await passwords.hash("correct horse"), "correct horse")
    """

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self._hasher = PasswordHasher(**(options or {}))
        self._threads = ThreadPoolExecutor(AT_ONCE, "passwords")
        self._queue = FairQueue(AT_ONCE, QUEUE, BUSY)

    async def hash(self, password: str) -> str:
        """Return the hash to store. Raises ValueError for a password of more than 1,024 characters."""
        if len(password) > MAX_LENGTH:
            raise ValueError(f"must have at most {MAX_LENGTH} characters")
        async with self._queue.turn(("hash",)):
            return await self._run(lambda: self._hasher.hash(password))

    async def verify(
        self,
        stored: str | None,
        password: str,
        parties: Sequence[str] = (),
        admit: Callable[[], Awaitable[None]] | None = None,
    ) -> bool:
        """Return True if the password belongs to the hash. Without a hash it takes as long and returns False.

        The queue shares its turns fairly among ``parties``, such as an account and an address. ``admit`` is called when
        it is their turn, and may raise.
        """
        if len(password) > MAX_LENGTH:
            return False
        async with self._queue.turn(parties):
            if admit is not None:
                await admit()
            if stored is None:
                await self._run(lambda: self._hasher.hash(password))
                return False
            return await self._run(lambda: self._matches(stored, password))

    def is_outdated(self, stored: str) -> bool:
        """Return True if a new hash should be stored the next time that the password is known."""
        return stored.startswith(_BCRYPT) or self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, password: str) -> bool:
        if stored.startswith(_BCRYPT):
            return _matches_bcrypt(stored, password)
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)


def _matches_bcrypt(stored: str, password: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], stored.encode())
    except ValueError:
        return False


def hash_password(*fields: str) -> Hook:
    """Replace passwords in the data by their hashes: before create, update and patch, after the validation.

        hooks = {"before": {"create": [validate_data(UserSchema), hash_password()]}}

    ``fields`` are those with a password, by default ``password``. The app needs an ``AuthenticationService``.
    """
    names = fields or ("password",)

    @belongs("before", "around")
    async def hash_password(context: Context) -> None:
        authentication = context.app.get("defaultAuthentication")
        if authentication is None:
            raise RuntimeError("hash_password needs an AuthenticationService: register one with app.use")
        rows = []
        for row in context.items:
            given = {name: row[name] for name in names if row.get(name) is not None}
            rows.append({**row, **{name: await authentication.passwords.hash(text) for name, text in given.items()}})
        context.items = rows

    return hash_password
