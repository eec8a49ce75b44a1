"""Queues for work that needs so much memory or time that only a few calls of a process may do it at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from apex.errors import Unavailable

__all__ = ["FairQueue"]

PARTIES = 1_000
"""The number of parties at which those whose last turn is over are evicted."""


class FairQueue:
    """A queue that shares turns fairly among parties, such as addresses and accounts.

    ::

        queue = FairQueue(2, 20, "Too many logins: try again")
        async with queue.turn((address, account)): ...

    The next turn goes to the request whose parties have had the fewest turns (start-time fair queueing, Goyal and
    others 1996). A party that asks all the time waits behind one that asks once. ``at_once`` requests work at the same
    time. If ``most`` requests work or wait, the last one in that order is refused, with ``busy`` as the error text.
    """

    def __init__(self, at_once: int, most: int, busy: str) -> None:
        self._at_once, self._most, self._busy = at_once, most, busy
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
            raise self._refusal()
        refused, parties = self._waiting.pop(last)
        self._last.update({party: refused - 1 for party in parties if self._last.get(party) == refused})
        if not last.done():
            last.set_exception(self._refusal())

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

    def _refusal(self) -> Unavailable:
        return Unavailable(self._busy, retry_after=2)
