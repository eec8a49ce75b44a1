"""Observations of calls from outside, for logs, metrics, traces and listeners of an app.

``app.on("observation", listener)`` calls the listener with an ``Observation`` when a call has ended. A call costs
nothing more while nobody listens.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar, Token
from itertools import count
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, NamedTuple

from apex.hooks import raiser
from apex.sql.drivers.executor import Executor, Plan, Statements, Tuples, Values

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.context import Params
    from apex.service import Call

GONE: int = 499
"""The status of a call whose client disconnected before the answer."""

BEGUN: str = "observing"
"""The app's event at the beginning of a call."""

ENDED: str = "observation"
"""The app's event at the end of a call."""

REQUEST_ID = "x-request-id"
"""The header with the id of a request."""

_process = secrets.token_hex(8)

request_ids: Iterator[str] = map(f"{_process}{{:016x}}".format, count(secrets.randbits(48)))
"""New request ids without an end, which no other process makes. They can be guessed."""


def is_own_request_id(request_id: str) -> bool:
    """Return True if this process has made the id, so that it holds no text of a caller."""
    return len(request_id) == 32 and request_id.startswith(_process)


class Part(NamedTuple):
    """A timed part of a call, such as a statement. Times are those of ``perf_counter``, in seconds."""

    name: str
    began: float
    ended: float
    text: str = ""


class Observation:
    """A call from outside and its outcome.

    ``status`` is the HTTP status, for a call over a socket too. ``seconds`` is the duration of the call. ``call`` is
    None if the request did not name a method of a service. ``verb`` then holds what is known of the method. ``sent``
    are the headers of the request. ``outer`` is the observation of the batch that contains this call. ``parts`` are
    recorded if the app's setting ``timing`` is on or traces are made, else None.
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
        sent: Sequence[tuple[bytes, bytes]] = (),
        outer: Observation | None = None,
    ) -> None:
        self.app: Apex = app
        self.provider: str = provider
        self.verb: str = verb
        self.sent: Sequence[tuple[bytes, bytes]] = sent
        self.outer: Observation | None = outer
        self._path = path
        self._request_id = request_id
        self.call: Call | None = None
        self.error: Exception | None = None
        self.shown: bool = bool(app.get("timing"))
        self.parts: list[Part] | None = [] if self.shown else None
        self.status: int = GONE
        self.began: float = perf_counter()
        self.seconds: float = 0.0

    @property
    def path(self) -> str:
        """The path of the service, with placeholders. It is empty if there is no such service."""
        return self._path if self.call is None else self.call.service._path

    @property
    def method(self) -> str:
        """The name of the method, or ``verb`` if there was no call."""
        return self.verb if self.call is None else self.call.method

    @property
    def params(self) -> Params | Mapping[str, Any]:
        """The params of the call. They are empty if no service was called."""
        return {} if self.call is None else self.call.params

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the request or of the socket's handshake."""
        return self.params.get("headers") or {
            name.decode("latin-1"): value.decode("latin-1") for name, value in self.sent
        }

    @property
    def request_id(self) -> str:
        """The id of the request, which callers may choose."""
        return self.headers.get(REQUEST_ID, self._request_id)

    @property
    def user(self) -> Any:
        """The id of the caller, or None if the caller is unknown."""
        user = self.params.get("user")
        if isinstance(user, Mapping) and (id := user.get("id")) is not None:
            return id
        proof = self.params.get("authentication")
        return (proof.get("payload") or {}).get("sub") if isinstance(proof, Mapping) else None

    @property
    def tenants(self) -> list[Any]:
        """The tenants whose records the call was about.

        The setting ``app.get("tenant")`` names their field in the scope.
        """
        within = self.params.get("scope", {}).get(self.app.get("tenant"))
        if isinstance(within, list | tuple | set | frozenset):
            return list(within)
        return [] if within is None or isinstance(within, Mapping) else [within]

    @property
    def hook(self) -> str | None:
        """The name of the hook that raised the error."""
        return None if self.error is None else raiser(self.error)

    def response_headers(self) -> list[tuple[bytes, bytes]]:
        """Return headers for developers: the timing of the call and the hook that raised its error."""
        headers = [(b"server-timing", self._server_timing().encode())]
        if self.hook is not None:
            headers.append((b"x-apex-hook", self.hook.encode("latin-1", "replace")))
        return headers

    def _server_timing(self) -> str:
        """Return the durations in milliseconds. ``hooks`` is the time outside of database and encoding."""
        taken = {"hooks": 0.0, "database": 0.0, "encode": 0.0}
        for part in self.parts or ():
            taken[part.name] = taken.get(part.name, 0.0) + part.ended - part.began
        taken["hooks"] = max(0.0, perf_counter() - self.began - sum(taken.values()))
        return ", ".join(f"{name};dur={seconds * 1000:.2f}" for name, seconds in taken.items())

    def unix_time(self, clock: float) -> float:
        """Convert a time of ``perf_counter`` to seconds since 1970."""
        return time() - (perf_counter() - clock)


_current: ContextVar[Observation | None] = ContextVar("observation", default=None)


def current() -> Observation | None:
    """Return the observation of the call that is running, or None."""
    return _current.get()


class observing:
    """A block in which a call is observed. Listeners are called at its end, also if the call was cancelled."""

    __slots__ = ("seen", "token")

    def __init__(self, seen: Observation) -> None:
        self.seen: Observation = seen
        self.token: Token[Observation | None] | None = None

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
        if self.token is not None:
            _current.reset(self.token)


@contextmanager
def timed(name: str, text: str = "") -> Generator[None]:
    """Record the block as a part of the running call."""
    seen, began = _current.get(), perf_counter()
    try:
        yield
    finally:
        if seen is not None and seen.parts is not None:
            seen.parts.append(Part(name, began, perf_counter(), text))


class TimedExecutor:
    """An executor that records statements as parts of the calls that run them."""

    def __init__(self, executor: Executor) -> None:
        self.executor: Executor = executor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.executor, name)

    async def fetch(
        self, text: str, values: Values, writes: bool = False, plan: Plan = "kept", header: bool = False
    ) -> Tuples:
        """Run a statement, as the executor does, and record its time."""
        with timed("database", text):
            return await self.executor.fetch(text, values, writes, plan, header)

    async def fetch_together(self, statements: Statements) -> list[Tuples]:
        """Run statements as one transaction, as the executor does, and record their time."""
        with timed("database", "; ".join(text for text, _ in statements)):
            return await self.executor.fetch_together(statements)

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Return a transaction whose beginning and end are recorded."""
        return self._timed(self.executor.transaction(), "BEGIN", "COMMIT", "ROLLBACK")

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Return a savepoint whose beginning and end are recorded."""
        return self._timed(self.executor.savepoint(), "SAVEPOINT", "RELEASE", "ROLLBACK TO")

    @asynccontextmanager
    async def _timed(
        self, unit: AbstractAsyncContextManager[None], begin: str, end: str, undo: str
    ) -> AsyncGenerator[None]:
        # The statements in the block record their own time.
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
    """Record the time of statements if the setting ``timing`` or ``tracing`` is on.

    Call it after the database is configured: ``app.configure(time_database)``.
    """
    if app.get("timing") or app.get("tracing"):
        database: Any = app.get("database")
        database.executor = TimedExecutor(database.executor)
