"""The HTTP client of webhooks: it posts a message, and trusts neither the URL nor the answer."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from httpcore2 import (
    SOCKET_OPTION,
    AnyIOBackend,
    AsyncConnectionPool,
    AsyncNetworkBackend,
    AsyncNetworkStream,
    ConnectError,
    NetworkError,
    ProtocolError,
    TimeoutException,
    default_ssl_context,
)

from apex.webhooks.addresses import Addresses, ForbiddenAddress

SECONDS = 15.0
"""The seconds for a whole request, from the lookup of the host to the end of the answer."""
MOST_READ = 8_192
"""The bytes that are read of the body of an answer."""
KEPT_TEXT = 500
"""The characters that are kept of it."""
AT_ONCE, AT_ONCE_TO_HOST = 32, 8
"""The requests of a process at the same time, in all and to one host."""
IDLE_SECONDS = 4.0
"""The seconds for which a connection stays open. Servers close connections after 5 seconds without a request."""
LONGEST_PAUSE = 3_600.0
"""The most seconds of a ``Retry-After`` that are respected."""

log: logging.Logger = logging.getLogger("apex")

_HEADERS = {"content-type": "application/json", "user-agent": "apex-webhooks"}
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Answer(NamedTuple):
    """The answer to a message. ``status`` is None if there was none, and ``error`` says why.

    ``seconds`` is the time that it took. ``text`` is the beginning of its body. ``pause`` is the time in seconds that
    the receiver asked for with ``Retry-After``.
    """

    status: int | None
    seconds: float
    text: str = ""
    error: str | None = None
    pause: float | None = None

    @property
    def is_success(self) -> bool:
        """True if the receiver has taken the message."""
        return self.error is None


class Sender:
    """Posts messages. At most 32 requests run at the same time, and at most 8 to one host.

    ``seconds`` limits the time of each request. ``verify`` checks the certificates of receivers, by default with those
    that Python trusts::

        answer = await Sender(Addresses()).post("https://example.com/webhooks", headers, b"{}")
    """

    def __init__(self, addresses: Addresses, *, seconds: float = SECONDS, verify: ssl.SSLContext | None = None) -> None:
        self.addresses: Addresses = addresses
        self.seconds: float = seconds
        self.verify: ssl.SSLContext | None = verify
        self._pool: AsyncConnectionPool | None = None
        self._all = asyncio.Semaphore(AT_ONCE)
        self._hosts: dict[str, _Host] = {}

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a message, and return the answer, or why there is none. It raises no errors."""
        host = urlsplit(url).hostname or ""
        async with self._turn(host), self._all:
            started = time.monotonic()
            try:
                async with asyncio.timeout(self.seconds):
                    answer = await self._post(url, headers, body)
            except (TimeoutError, TimeoutException):
                answer = Answer(None, 0, error=f"No answer within {self.seconds:g} seconds")
            except ForbiddenAddress as error:
                answer = Answer(None, 0, error=str(error))
            except (ssl.SSLError, ConnectError, OSError) as error:
                answer = Answer(None, 0, error=_reason(error))
            except (NetworkError, ProtocolError) as error:
                answer = Answer(None, 0, error=f"The connection broke or the answer is not HTTP: {error}"[:KEPT_TEXT])
            except Exception:  # Such as one of the app's own ``resolve``.
                log.exception("A message to %s could not be sent", host)
                answer = Answer(None, 0, error="This server could not send the message: its log says why")
            return answer._replace(seconds=time.monotonic() - started)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        # A URL may have been stored when the settings allowed it.
        self.addresses.require_url(url)
        given: list[tuple[str | bytes, str | bytes]] = [*_HEADERS.items(), *headers.items()]
        # A connection that is reused was checked when it was opened.
        async with self._connections().stream("POST", url, headers=given, content=body) as response:
            text = await _beginning(response.aiter_stream())
            status = response.status
            if 200 <= status < 300:
                return Answer(status, 0, text)
            answered = {name.lower(): value.decode("latin-1") for name, value in response.headers}
            error = "A redirect is not followed" if 300 <= status < 400 else f"The status is {status}"
            pause = _pause(answered.get(b"retry-after")) if status in (429, 503) else None
            return Answer(status, 0, text, error, pause)

    def _connections(self) -> AsyncConnectionPool:
        if self._pool is None:
            self._pool = AsyncConnectionPool(
                ssl_context=self.verify or default_ssl_context(),
                max_connections=2 * AT_ONCE,
                max_keepalive_connections=AT_ONCE,
                keepalive_expiry=IDLE_SECONDS,
                network_backend=CheckedBackend(self.addresses),
            )
        return self._pool

    @asynccontextmanager
    async def _turn(self, host: str) -> AsyncIterator[None]:
        """Wait until fewer than the most requests to a host run."""
        requests = self._hosts.setdefault(host, _Host())
        requests.waiting += 1
        try:
            async with requests.free:
                yield
        finally:
            requests.waiting -= 1
            if not requests.waiting:
                self._hosts.pop(host, None)

    async def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None


class _Host:
    """The requests to a host. ``waiting`` counts those that run or wait, and ``free`` lets some of them run."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(AT_ONCE_TO_HOST)
        self.waiting = 0


class CheckedBackend(AsyncNetworkBackend):
    """The network of httpcore, which connects to addresses that were checked.

    A host is looked up once for each connection, and the connection goes to the address that was found. So an answer
    of the DNS that changes in between changes nothing. TLS is checked for the name of the host.
    """

    def __init__(self, addresses: Addresses) -> None:
        self.addresses: Addresses = addresses
        self.network: AsyncNetworkBackend = AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """Connect to the first address of a host that accepts. Raises ForbiddenAddress, OSError and ConnectError."""
        error: Exception | None = None
        for address in await self.addresses.of_host(host, port):
            try:
                return await self.network.connect_tcp(address, port, timeout, local_address, socket_options)
            except ConnectError as failed:
                error = failed
        raise error or ConnectError(f"{host} has no address")


async def _beginning(stream: AsyncIterator[bytes]) -> str:
    """Return the beginning of a body. The rest is not read."""
    read = b""
    async for chunk in stream:
        read += chunk
        if len(read) >= MOST_READ:
            break
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", read[:MOST_READ].decode("utf-8", "replace"))[:KEPT_TEXT]


def _pause(text: str | None) -> float | None:
    """Return the seconds of a ``Retry-After``, which is a number or a date. None, if it is neither."""
    if text is None:
        return None
    if text.strip().isdecimal():
        seconds = float(text.strip()[:10])
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_PAUSE)


def _reason(error: Exception) -> str:
    """Return why there is no connection, in a form that shows nothing of this server's network."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"The certificate is not valid: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {cause.reason or 'the receiver does not speak it'}"
        cause = cause.__cause__ or cause.__context__
    return "The host was not found, or nobody answers at its address"
