"""Calls over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from httpx2 import AsyncClient, ConnectError, ConnectTimeout, Headers, Limits, RequestError, Response

from apex.client.call import Call, Receiver
from apex.client.failure import rebuild
from apex.encoding import decode_exactly, encode
from apex.errors import GeneralError, OutcomeUnknown, Unavailable
from apex.query.querystring import write
from apex.types import STANDARD, VERBS

# Servers close a connection after 5 seconds without a request: one that is younger is still there.
_LIMITS = Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4)


def rest(url: str, *, timeout: float = 30, headers: Mapping[str, str] | None = None) -> Rest:
    """The REST transport: ``Client(rest("http://localhost:3030"))``.

    ``timeout`` is in seconds, for the whole of a call; ``headers`` go out with each.
    """
    return Rest(url, timeout, headers or {})


class Rest:
    """Sends calls to ``<url>/<path>/<id>``, over connections that are kept and used again."""

    realtime = False
    trouble: Exception | None = None

    def __init__(self, url: str, timeout: float, headers: Mapping[str, str]) -> None:
        self.url, self.timeout, self.headers = url.rstrip("/"), timeout, headers
        self._http: AsyncClient

    async def open(self, receiver: Receiver) -> None:
        # The time limit of a call is held by the client, for the whole of it.
        self._http = AsyncClient(timeout=None, limits=_LIMITS, follow_redirects=True)

    async def close(self) -> None:
        await self._http.aclose()

    async def call(self, call: Call) -> Any:
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
        """Those of the call win over the token's, and those over the client's, whatever their case."""
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
    """One segment of a path. As dots alone it would be the folder, or the one above."""
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


def _content(call: Call) -> bytes | None:
    return None if call.data is None else encode(call.data)


def _result(response: Response) -> Any:
    """What a response brings; None where it is empty. Raises the error that it holds."""
    if response.is_success and not response.content:
        return None
    try:
        body = decode_exactly(response.content)
    except ValueError:
        said = f"The server answered {response.status_code} {response.reason_phrase} without JSON"
        if response.is_success:
            raise GeneralError(said) from None
        body = said
    if not response.is_success:
        raise rebuild(body, response.status_code)
    return body
