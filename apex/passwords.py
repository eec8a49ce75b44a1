"""Password hashes: argon2 for new ones, bcrypt for those that came with users of Feathers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from apex.errors import Unavailable

T = TypeVar("T")

AT_ONCE = 2
QUEUE = 20
LONGEST = 1024
PARTIES = 1_000
"""With so many parties known, those whose last turn is over are evicted."""
_BCRYPT = ("$2a$", "$2b$", "$2y$")
_BCRYPT_BYTES = 72


class FairQueue:
    """A queue that shares turns fairly among parties, such as addresses and accounts.

    The next turn goes to the request whose parties have had the fewest turns (start-time fair queueing, Goyal and
    others 1996). A party that asks all the time waits behind one that asks once. With ``most`` requests at work or
    waiting, the last one in that order is refused.
    """

    def __init__(self, at_once: int, most: int) -> None:
        self._at_once, self._most = at_once, most
        self._working = 0
        self._clock = 0
        self._last: dict[str, int] = {}
        self._waiting: dict[asyncio.Future[None], tuple[int, Sequence[str]]] = {}

    @asynccontextmanager
    async def turn(self, parties: Sequence[str]) -> AsyncIterator[None]:
        """Wait until it is the turn of these parties. Raises Unavailable if the request is refused."""
        await self._enter(parties or ("",))
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, parties: Sequence[str]) -> None:
        number = 1 + max(self._clock, *(self._last.get(party, 0) for party in parties))
        if self._working + len(self._waiting) >= self._most:
            self._refuse_one(number)
        if len(self._last) >= PARTIES:  # A number that the clock has passed says no more than the clock.
            self._last = {party: last for party, last in self._last.items() if last > self._clock}
        self._last.update(dict.fromkeys(parties, number))
        if self._working < self._at_once:
            self._working, self._clock = self._working + 1, number
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = number, parties
        try:
            await waiting
        except asyncio.CancelledError:
            self._waiting.pop(waiting, None)
            if not waiting.cancelled() and waiting.exception() is None:
                self._leave()
            raise

    def _refuse_one(self, number: int) -> None:
        """Refuse the request that would wait longest. Raises Unavailable if that is the one with this number."""
        last = max(self._waiting, key=self._number, default=None)
        if last is None or self._number(last) <= number:
            raise _busy()
        refused, parties = self._waiting.pop(last)
        self._last.update({party: refused - 1 for party in parties if self._last.get(party) == refused})
        if not last.done():
            last.set_exception(_busy())

    def _number(self, waiting: asyncio.Future[None]) -> int:
        return self._waiting[waiting][0]

    def _leave(self) -> None:
        while self._waiting:
            first = min(self._waiting, key=self._number)
            number, _ = self._waiting.pop(first)
            if not first.done():  # Else it was cancelled in this moment.
                self._clock = number
                first.set_result(None)
                return
        self._working -= 1
        if not self._working:
            self._last.clear()


def _busy() -> Unavailable:
    return Unavailable("Too many logins at the same time: try again", retry_after=2)


class Passwords:
    """Hashes and verifies passwords in threads, two at once.

    A hash costs tens of MiB, so logins must not pile up. Twenty may be at work or wait in a ``FairQueue``. Beyond that
    Unavailable is raised.

    ``options`` are argon2's ``time_cost``, ``memory_cost`` (KiB) and ``parallelism``.
    """

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self._hasher = PasswordHasher(**(options or {}))
        self._threads = ThreadPoolExecutor(AT_ONCE, "passwords")
        self._queue = FairQueue(AT_ONCE, QUEUE)

    async def hash(self, password: str) -> str:
        """The hash to store. Raises ValueError for a password of more than 1,024 characters."""
        if len(password) > LONGEST:
            raise ValueError(f"must have at most {LONGEST} characters")
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

        ``parties`` ask, for a fair share of the turns. ``admit`` is called when it is their turn, and may raise.
        """
        if len(password) > LONGEST:
            return False
        async with self._queue.turn(parties):
            if admit is not None:
                await admit()
            if stored is None:
                await self._run(lambda: self._hasher.hash(password))
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
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)


def _matches_bcrypt(stored: str, password: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], stored.encode())
    except ValueError:
        return False
