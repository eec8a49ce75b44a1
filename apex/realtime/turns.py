"""Turns: the order in which the calls that store the same records send their events."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextvars import copy_context
from functools import partial

Work = Callable[[], Awaitable[None] | None]
"""A function that sends events. It returns an awaitable if ``async def`` listeners are still at work."""


class Turn:
    """The place of a call in the order of the calls that have stored the same records.

    Its events are sent after those of all calls before it. A call may also give up its place.
    """

    __slots__ = ("_held", "_turns", "_work", "keys")

    def __init__(self, turns: Turns, keys: tuple[Hashable, ...]) -> None:
        self._turns = turns
        self.keys: tuple[Hashable, ...] = keys
        """The records that it is about. Empty once it is over."""
        self._work: Work | None = None
        self._held = 0

    @property
    def is_over(self) -> bool:
        """True once the turn has given up its place."""
        return not self.keys

    def run(self, work: Work) -> Awaitable[None] | None:
        """Call the function that sends the events when it is this turn. If that is now, return its result.

        If it runs later, it has the context variables of now, not those of the call before it.
        """
        if self._turns.is_next(self):
            self._work = work
            return self._go()
        self._work = partial(copy_context().run, work)
        return None

    def hold(self) -> None:
        """Keep the place until ``release``, as an event is still on its way when the function returns."""
        self._held += 1

    def release(self) -> None:
        """End one ``hold``. The last one gives up the place."""
        self._held -= 1
        if not self._held:
            self.end()

    def end(self) -> None:
        """Give up the place."""
        keys, self.keys = self.keys, ()
        self._turns.leave(self, keys)

    def _go(self) -> Awaitable[None] | None:
        work, self._work = self._work, None
        self.hold()
        try:
            return None if work is None else work()
        finally:
            self.release()


class Turns:
    """The calls whose events are not sent yet, for each record in the order in which they stored it."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[Turn]] = {}
        self._next: deque[Turn] = deque()
        self._is_leaving = False

    def take(self, keys: Iterable[Hashable]) -> Turn:
        """Return a turn after all others of these records."""
        turn = Turn(self, tuple(dict.fromkeys(keys)))
        for key in turn.keys:
            self._waiting.setdefault(key, deque()).append(turn)
        return turn

    def is_next(self, turn: Turn) -> bool:
        """Return True if no other turn comes before this one."""
        return all(self._waiting[key][0] is turn for key in turn.keys)

    def leave(self, turn: Turn, keys: tuple[Hashable, ...]) -> None:
        """Remove a turn from the order of these records, and run the turns that now come first."""
        for key in keys:
            queue = self._waiting[key]
            queue.remove(turn)
            if queue:
                self._next.append(queue[0])
            else:
                del self._waiting[key]
        if self._is_leaving:
            return
        # A loop and no recursion: the end of one turn may start a thousand others.
        self._is_leaving = True
        try:
            while self._next:
                following = self._next.popleft()
                if following._work is not None and self.is_next(following):
                    following._go()
        finally:
            self._is_leaving = False
