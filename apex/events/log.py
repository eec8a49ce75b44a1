"""The log as the core sees it. ``apex.log`` implements it, and no module of the core imports that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from apex.events.messages import Message

if TYPE_CHECKING:
    from apex.hooks import Around, Steps
    from apex.service import BoundService


class Entries(Protocol):
    """The entries of one event in the log, one for each record, which are written at the commit.

    ``ids`` is empty before that, and stays empty if nothing is written. ``is_new`` is True if the records cannot have
    had an event before. ``writing`` is to be awaited for entries that are written alone. ``columns`` has further values
    of entries, by the id of their record.
    """

    ids: list[int]
    is_new: bool
    writing: Awaitable[None] | None
    columns: dict[Any, dict[str, Any]]

    def messages(self) -> list[Message] | None:
        """Return the events as their entries have them, or None if the call has not been asked for its records yet."""
        ...


class EntryWriter(Protocol):
    """The part of the log that writes."""

    def hooks_around(self, service: BoundService, method: str, steps: Steps) -> tuple[Around | None, Around] | None:
        """Return the hook around the whole call, if it needs one, and the hook around the method.

        Together they write the entries of the method. Return None if it has none. ``steps`` are its other hooks.
        """
        ...

    def add(self, service: BoundService, event: str, record: Any) -> Entries | None:
        """Add the entry of an event that a service sends itself. Return None if the service is not logged."""
        ...


class EventLog(Protocol):
    """The log of an app: ``app.log``. See ``apex.log.Log``."""

    @property
    def table(self) -> Any:
        """The table of the entries."""
        ...

    @property
    def writer(self) -> EntryWriter: ...

    @property
    def origin(self) -> str:
        """The name of this process in its entries."""
        ...

    @property
    def follower(self) -> Any:
        """The reader of this process. Its ``position`` is the watermark, or None before the setup."""
        ...

    @property
    def watermark(self) -> Any:
        """The position up to which this process has handled the entries."""
        ...

    @property
    def is_followed(self) -> bool:
        """True between the setup and the teardown of the app."""
        ...

    async def position(self) -> Any:
        """Return the position of now."""
        ...

    async def check(self, position: Any) -> None:
        """Raise Gone if not all entries after a position can be read."""
        ...

    async def read(
        self,
        after: Any,
        *,
        tenants: Sequence[Any] | None = None,
        services: Sequence[str | None] | None = None,
        event: str | None = None,
        record_id: str | None = None,
        limit: int = 1000,
    ) -> Any:
        """Return entries after a position."""
        ...

    def follow(self, handler: Callable[[list[Any]], None], lost: Callable[[], None] | None = None) -> None:
        """Call a function with all entries from now on, and ``lost`` if some are missing."""
        ...

    async def flush(self) -> None:
        """Write the entries of the transaction around this call now."""
        ...

    async def catch_up(self) -> None:
        """Read now, and return when all entries that were committed before are handled."""
        ...
