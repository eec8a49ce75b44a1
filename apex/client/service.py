"""A service on the other side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from apex.client.call import Call, segments
from apex.emitter import Listener
from apex.errors import BadRequest

if TYPE_CHECKING:
    from apex.client.client import Client

Params = Mapping[str, Any]


class RemoteService:
    """The methods of a server's service, with the arguments that they have in process. Any other name is a custom one.

    Of ``params`` travel ``query``, ``route`` (for the placeholders of the path) and over REST ``headers``.
    The methods raise the errors of ``apex.errors`` that the server raises, Unavailable when it cannot be reached and
    Timeout when it takes too long.
    """

    def __init__(self, client: Client, path: str) -> None:
        self._client, self._path = client, path.strip("/") or "/"

    async def find(self, params: Params | None = None) -> Any:
        return await self._call("find", params)

    async def get(self, id: Any, params: Params | None = None) -> Any:
        if id is None:
            raise BadRequest("get needs an id")
        return await self._call("get", params, id=id)

    async def create(self, data: Any, params: Params | None = None) -> Any:
        return await self._call("create", params, data=data)

    async def update(self, id: Any, data: Any, params: Params | None = None) -> Any:
        return await self._call("update", params, id=id, data=data)

    async def patch(self, id: Any, data: Any, params: Params | None = None) -> Any:
        """Changes a record; with the id None, all that match the query."""
        return await self._call("patch", params, id=id, data=data)

    async def remove(self, id: Any, params: Params | None = None) -> Any:
        """Removes a record; with the id None, all that match the query."""
        return await self._call("remove", params, id=id)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def custom(data: Any = None, params: Params | None = None) -> Any:
            return await self._call(name, params, data=data)

        return custom

    def on(self, event: str, listener: Listener) -> None:
        """Calls a listener with each record of an event. Raises RuntimeError on a transport without events."""
        self._client.events.on(self._named(event), listener)

    def once(self, event: str, listener: Listener) -> None:
        self._client.events.once(self._named(event), listener)

    def off(self, event: str, listener: Listener) -> None:
        self._client.events.off(self._named(event), listener)

    def _named(self, event: str) -> str:
        if not self._client.transport.realtime:
            raise RuntimeError("Events come over sockets: Client(socketio(url))")
        return f"{self._path} {event}"

    async def _call(self, method: str, params: Params | None, id: Any = None, data: Any = None) -> Any:
        if id == "":
            # In a URL nothing would be left of it: the call would be one for all records.
            raise BadRequest("The id is empty")
        params = params or {}
        path = segments(self._path, params.get("route"))
        query, headers = params.get("query") or {}, params.get("headers") or {}
        return await self._client.send(Call(path, method, id, data, query, headers))
