"""The REST transport of the client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from httpx2 import AsyncClient, ConnectError, ConnectTimeout, Headers, Limits, RequestError, Response

from apex.client.call import Call, Receiver
from apex.client.errors import rebuild
from apex.encoding import decode_exactly, encode
from apex.errors import GeneralError, OutcomeUnknown, Unavailable
from apex.query.querystring import write
from apex.types import STANDARD, VERBS

# Servers close a connection after 5 seconds without a request, so the client must not reuse older ones.
_LIMITS = Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4)


def rest(url: str, *, timeout: float = 30, headers: Mapping[str, str] | None = None) -> Rest:
    """Return the REST transport of a server: ``Client(rest("http://localhost:3030"))``.

    ``timeout`` is in seconds for a whole call. ``headers`` go with each call.
    """
    return Rest(url, timeout, headers or {})


class Rest:
    """The REST transport. It sends calls to ``<url>/<path>/<id>`` and reuses its connections."""

    realtime: bool = False
    recovered: bool = False
    problem: Exception | None = None

    def __init__(self, url: str, timeout: float, headers: Mapping[str, str]) -> None:
        self.url: str = url.rstrip("/")
        self.timeout: float = timeout
        self.headers: Mapping[str, str] = headers
        self._http: AsyncClient

    async def open(self, receiver: Receiver) -> None:
        """Create the pool of connections."""
        # ``Client.send`` limits the time of a whole call.
        self._http = AsyncClient(timeout=None, limits=_LIMITS, follow_redirects=True)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def call(self, call: Call) -> Any:
        """Return the result of a call.

        Raises the errors of the server, Unavailable if it cannot be reached, and OutcomeUnknown if the connection
        broke.
        """
        verb, content = VERBS.get(call.method, "POST"), _content(call)
        headers = self._headers(call, content)
        try:
            response = await self._http.request(verb, self._url(call), headers=headers, content=content)
        except (ConnectError, ConnectTimeout) as error:
            raise Unavailable(f"{self.url} cannot be reached: {_reason(error)}") from error
        except RequestError as error:
            raise OutcomeUnknown(
                f"The connection to {self.url} broke before the answer came, and the call may have been carried out:"
                f" {_reason(error)}"
            ) from error
        return _result(response)

    def _url(self, call: Call) -> str:
        path = [*call.segments, *([] if call.id is None else [str(call.id)])]
        query = write(call.query)
        return "/".join([self.url, *map(_segment, path)]) + (f"?{query}" if query else "")

    def _headers(self, call: Call, content: bytes | None) -> Headers:
        """Return the headers of a call. Its own override that of the token and those of the client."""
        headers = Headers({"Accept": "application/json", **self.headers})
        if content is not None:
            headers["Content-Type"] = "application/json"
        if call.method not in STANDARD:
            headers["X-Service-Method"] = call.method
        if call.token is not None:
            headers["Authorization"] = f"Bearer {call.token}"
        headers.update(call.headers)
        return headers


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _segment(text: str) -> str:
    """Return an escaped segment of a path. Unescaped dots would mean this folder or its parent."""
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


def _content(call: Call) -> bytes | None:
    return None if call.data is None else encode(call.data)


def _result(response: Response) -> Any:
    """Return the value in a response, or None if it is empty. Raises the error in it."""
    if response.is_success and not response.content:
        return None
    try:
        body = decode_exactly(response.content)
    except ValueError:
        message = f"The server answered {response.status_code} {response.reason_phrase} without JSON"
        if response.is_success:
            raise GeneralError(message) from None
        body = message
    if not response.is_success:
        raise rebuild(body, response.status_code)
    return body
