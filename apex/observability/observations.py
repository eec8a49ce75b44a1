"""Observations: what became of each call from outside, told once, to whoever listens.

``app.on("observation", function)`` listens: logs, metrics and traces do, and an app's own functions may. While nobody
does, a call costs nothing more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, NamedTuple

from apex.hooks import raiser
from apex.sql.drivers.executor import Executor, Plan, Tuples, Values

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.context import Params
    from apex.service import Call

GONE = 499
"""The status of a call whose client has gone before there was an answer."""

BEGUN, ENDED = "observing", "observation"
"""The app's events at the beginning and at the end of a call."""


MAPPINGS = (dict, Mapping)
"""What is a mapping: that something is a dict is known sooner."""

Pairs = Sequence[tuple[bytes, bytes]]


class Part(NamedTuple):
    """What a call has done in between: from when to when, on the clock of ``perf_counter``."""

    name: str
    began: float
    ended: float
    text: str = ""


class Observation:
    """A call from outside. ``status`` is that of HTTP, over a socket too; ``seconds`` is what the call took.

    ``call`` is None where there came no call of what was asked; ``verb`` then says what that was, as far as is known.
    ``sent`` are the headers of a request; ``outer`` is the observation of the call that this one is a part of, a batch.
    ``parts`` are kept where somebody wants to know them (``app.get("timing")``, traces), else None.
    """

    __slots__ = (
        "_path", "_request_id", "app", "began", "call", "error", "outer", "parts", "provider", "seconds", "sent",
        "shown", "status", "verb",
    )  # fmt: skip

    def __init__(
        self,
        app: Apex,
        provider: str,
        path: str = "",
        verb: str = "",
        request_id: str = "",
        sent: Pairs = (),
        outer: Observation | None = None,
    ) -> None:
        self.app, self.provider, self.verb, self.sent, self.outer = app, provider, verb, sent, outer
        self._path, self._request_id = path, request_id
        self.call: Call | None = None
        self.error: Exception | None = None
        self.shown = bool(app.get("timing"))
        self.parts: list[Part] | None = [] if self.shown else None
        self.status = GONE
        self.began = perf_counter()
        self.seconds = 0.0

    @property
    def path(self) -> str:
        """That of the service, with placeholders; empty where there is no such service."""
        return self._path if self.call is None else self.call.service._path

    @property
    def method(self) -> str:
        return self.verb if self.call is None else self.call.method

    @property
    def params(self) -> Params | Mapping[str, Any]:
        return {} if self.call is None else self.call.params

    @property
    def headers(self) -> Mapping[str, str]:
        """Those of the request, or of the handshake."""
        return self.params.get("headers") or {
            name.decode("latin-1"): value.decode("latin-1") for name, value in self.sent
        }

    @property
    def request_id(self) -> str:
        headers: Mapping[str, str] = self.params.get("headers") or {}
        return headers.get("x-request-id", self._request_id)

    @property
    def user(self) -> Any:
        """The id of who called, None where that did not come out."""
        params = self.params
        if isinstance(user := params.get("user"), MAPPINGS) and (id := user.get("id")) is not None:
            return id
        proof = params.get("authentication")
        return (proof.get("payload") or {}).get("sub") if isinstance(proof, MAPPINGS) else None

    @property
    def tenants(self) -> list[Any]:
        """Whose records the call was about, by the field of the scope that ``app.get("tenant")`` names."""
        within = self.params.get("scope", {}).get(self.app.get("tenant"))
        if isinstance(within, list | tuple | set | frozenset):
            return list(within)
        return [] if within is None or isinstance(within, Mapping) else [within]

    @property
    def hook(self) -> str | None:
        """The hook that raised the error."""
        return None if self.error is None else raiser(self.error)

    def response_headers(self) -> list[tuple[bytes, bytes]]:
        """What a developer is shown of a call: where its time went, and the hook that raised its error."""
        told = [(b"server-timing", self._server_timing().encode())]
        return told if (hook := self.hook) is None else [*told, (b"x-apex-hook", hook.encode("latin-1", "replace"))]

    def _server_timing(self) -> str:
        """In milliseconds; ``hooks`` is what is neither database nor encoding."""
        taken = {"hooks": 0.0, "database": 0.0, "encode": 0.0}
        for part in self.parts or ():
            taken[part.name] = taken.get(part.name, 0.0) + part.ended - part.began
        taken["hooks"] = max(0.0, perf_counter() - self.began - sum(taken.values()))
        return ", ".join(f"{name};dur={seconds * 1000:.2f}" for name, seconds in taken.items())

    def moment(self, clock: float) -> float:
        """A moment of ``perf_counter`` in seconds since 1970."""
        return time() - (perf_counter() - clock)


_current: ContextVar[Observation | None] = ContextVar("observation", default=None)


def current() -> Observation | None:
    """The observation of the call that this is a part of."""
    return _current.get()


class observing:
    """Inside, a call is observed. At the end its listeners are told, also where it was broken off."""

    __slots__ = ("seen", "token")

    def __init__(self, seen: Observation) -> None:
        self.seen = seen

    def __enter__(self) -> Observation:
        seen = self.seen
        self.token = _current.set(seen)
        if seen.app.listens(BEGUN):
            seen.app.emit(BEGUN, seen)
        return seen

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        seen = self.seen
        seen.seconds = perf_counter() - seen.began
        if seen.error is None and isinstance(error, Exception):
            seen.error = error
        seen.app.emit(ENDED, seen)
        _current.reset(self.token)


@contextmanager
def timed(name: str, text: str = "") -> Generator[None]:
    """What is done inside is a part of the call that it belongs to."""
    seen, began = _current.get(), perf_counter()
    try:
        yield
    finally:
        if seen is not None and seen.parts is not None:
            seen.parts.append(Part(name, began, perf_counter(), text))


class TimedExecutor:
    """An executor whose statements are parts of the calls that run them."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.executor, name)

    async def fetch(
        self, text: str, values: Values, writes: bool = False, plan: Plan = "kept", header: bool = False
    ) -> Tuples:
        with timed("database", text):
            return await self.executor.fetch(text, values, writes, plan, header)

    def transaction(self) -> AbstractAsyncContextManager[None]:
        return self._timed(self.executor.transaction(), "BEGIN", "COMMIT", "ROLLBACK")

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        return self._timed(self.executor.savepoint(), "SAVEPOINT", "RELEASE", "ROLLBACK TO")

    @asynccontextmanager
    async def _timed(
        self, unit: AbstractAsyncContextManager[None], begin: str, end: str, undo: str
    ) -> AsyncIterator[None]:
        """Time the beginning and the end. What is done inside is timed by itself."""
        with timed("database", begin):
            await unit.__aenter__()
        try:
            yield
        except BaseException as error:
            with timed("database", undo):
                if not await unit.__aexit__(type(error), error, error.__traceback__):
                    raise
        else:
            with timed("database", end):
                await unit.__aexit__(None, None, None)


def time_database(app: Apex) -> None:
    """Where somebody wants to know, statements are timed; after the database is configured: ``app.configure(...)``."""
    if app.get("timing") or app.get("tracing"):
        database: Any = app.get("database")
        database.executor = TimedExecutor(database.executor)
