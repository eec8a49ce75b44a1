"""Who a client is logged in as."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from apex.client.call import Call, Send, segments
from apex.client.storage import Storage
from apex.emitter import Emitter
from apex.errors import FeathersError, GeneralError, NotAuthenticated

REJECTED = range(401, 408)
"""Codes that say of a token that it is worth nothing; after others it may still be good."""


class Session:
    """A login and its token. ``result`` is the server's answer to the login, None when there is none.

    ``events`` hears ``login`` with the result, and ``logout``.
    """

    def __init__(self, path: str, storage: Storage, events: Emitter) -> None:
        self.segments, self.storage, self.events = segments(path), storage, events
        self.result: dict[str, Any] | None = None

    def sign(self, call: Call) -> Call:
        """The call with the token, but for the login, which brings its own proof."""
        if self.result is None or (call.segments == self.segments and call.method == "create"):
            return call
        return replace(call, token=self.result["accessToken"])

    async def begin(self, proof: Mapping[str, Any], send: Send) -> dict[str, Any]:
        """Logs in. Raises what the server raises, GeneralError when it gives no token."""
        with self._forgetting():
            result = await send(Call(self.segments, "create", data=dict(proof)))
        if not isinstance(result, dict) or not isinstance(result.get("accessToken"), str):
            raise GeneralError("The server answered the login without an accessToken")
        self.storage.set(result["accessToken"])
        self.result = result
        self.events.emit("login", result)
        return result

    async def renew(self, send: Send) -> dict[str, Any]:
        """Logs in with the stored token. Raises NotAuthenticated when there is none."""
        with self._forgetting():
            token = self.storage.get()
            if token is None:
                raise NotAuthenticated("No accessToken found in storage")
        return await self.begin({"strategy": "jwt", "accessToken": token}, send)

    async def end(self, send: Send) -> Any:
        """Logs out, on the server and here."""
        with self._forgetting():
            result = await send(Call(self.segments, "remove"))
        self._forget()
        return result

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        try:
            yield
        except FeathersError as error:
            if error.code in REJECTED:
                self._forget()
            raise

    def _forget(self) -> None:
        self.storage.remove()
        was, self.result = self.result, None
        if was is not None:
            self.events.emit("logout")
