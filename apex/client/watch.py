"""A page of a service that events keep up to date."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from apex.callbacks import Backoff, Emitter, Listener, end_tasks
from apex.errors import OutcomeUnknown, Timeout, TooManyRequests, Unavailable

if TYPE_CHECKING:
    from apex.client.client import Client

EVENTS = ("created", "updated", "patched", "removed")
"""The events after which a page may differ."""

PAUSE_SECONDS = 0.1
"""Seconds between the starts of two reads, so that a burst of events costs few of them."""

PASSING = (Unavailable, Timeout, TooManyRequests)
"""Errors after which the same read may succeed."""


class Live:
    """A page that stays as ``find`` returns it. ``RemoteService.watch`` makes it.

    ``async for`` gives the current page, and then each page that differs from the one before. A slow loop skips all but
    the newest page. It raises the error of a read that fails, and ends with the ``async with`` block.
    """

    def __init__(self, client: Client, read: Callable[[], Awaitable[Any]]) -> None:
        self._client, self._find = client, read
        self._token: str | None = None
        self._page: Any = None
        self._error: Exception | None = None
        self._ended = False
        self._stale = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def page(self) -> Any:
        """The page as ``find`` returns it now. Raises the error of a read that has failed."""
        if self._error is not None:
            raise self._error
        return self._page

    async def __aiter__(self) -> AsyncGenerator[Any]:
        page = self.page
        yield page
        while not self._ended:
            if (newest := self.page) is page:
                await self._changed.wait()
            else:
                page = newest
                yield page

    def _mark(self) -> None:
        """Note that the page may differ."""
        self._stale.set()

    def _connect(self, recovered: bool) -> None:
        """Note that events were missed, unless the server sends those of the time without a connection."""
        if not recovered:
            self._mark()

    def _switch(self) -> None:
        """Note that the page may differ for another login. The one on a new connection has the same token."""
        if self._token != _token_of(self._client):
            self._mark()

    async def _read(self) -> Any:
        self._token = _token_of(self._client)
        return await self._find()

    async def _read_first(self) -> Any:
        """Return the first page. Raises all errors but that of a connection that breaks during the read."""
        while True:
            with suppress(OutcomeUnknown):
                return await self._read()

    async def _follow(self) -> None:
        """Read the page again whenever it may differ, one read at a time, until a read fails."""
        clock, backoff = asyncio.get_running_loop().time, Backoff()
        while self._error is None:
            await self._stale.wait()
            self._stale.clear()
            begun = clock()
            try:
                self._show(await self._read())
            except PASSING:
                self._mark()
                await backoff.wait()
            except Exception as error:
                self._error = error
                self._wake()
            else:
                backoff = Backoff()
                await asyncio.sleep(begun + PAUSE_SECONDS - clock())

    def _show(self, page: Any) -> None:
        if page != self._page:
            self._page = page
            self._wake()

    def _end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        """Wake the loops that wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()


@asynccontextmanager
async def watching(client: Client, events: Iterable[str], read: Callable[[], Awaitable[Any]]) -> AsyncIterator[Live]:
    """Yield a page that is read again after certain events. Raises the error of the first read."""
    live = Live(client, read)
    with ExitStack() as stack:
        for event in events:
            _listen(stack, client.events, event, live._mark)
        _listen(stack, client, "connect", live._connect)
        _listen(stack, client, "login", live._switch)
        _listen(stack, client, "logout", live._switch)
        live._page = await live._read_first()
        following = asyncio.create_task(live._follow())
        try:
            yield live
        finally:
            live._end()
            await end_tasks([following])


def _listen(stack: ExitStack, emitter: Emitter, event: str, listener: Listener) -> None:
    """Add a listener until the end of the stack."""
    emitter.on(event, listener)
    stack.callback(emitter.off, event, listener)


def _token_of(client: Client) -> str | None:
    return None if client.authentication is None else client.authentication["accessToken"]
