"""A service of a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from apex.callbacks import Listener
from apex.client.call import Call, segments
from apex.client.watch import EVENTS, Live, watching
from apex.errors import BadRequest

if TYPE_CHECKING:
    from apex.client.client import Client

Params = Mapping[str, Any]


class RemoteService:
    """A service of a server, with the same methods and arguments as in the process.

    Any other method is a custom one, called with ``(data, params)``. Of ``params`` the server gets ``query``, ``route``
    (for the placeholders of the path) and over REST ``headers``. The methods raise the errors of the server as classes
    of ``apex.errors``, Unavailable if it cannot be reached, and Timeout if it takes too long::

        await client.service("messages").patch(7, {"text": "Hello"})
    """

    def __init__(self, client: Client, path: str) -> None:
        self._client, self._path = client, path.strip("/") or "/"

    async def find(self, params: Params | None = None) -> Any:
        """Return records that match ``params["query"]``: a page or a list, as the server sends it."""
        return await self._call("find", params)

    async def get(self, id: Any, params: Params | None = None) -> Any:
        """Return a record. Raises BadRequest if the id is None."""
        if id is None:
            raise BadRequest("get needs an id")
        return await self._call("get", params, id=id)

    async def create(self, data: Any, params: Params | None = None) -> Any:
        """Create a record, or several from a list. Return what the server has stored."""
        return await self._call("create", params, data=data)

    async def update(self, id: Any, data: Any, params: Params | None = None) -> Any:
        """Replace a record. Return it."""
        return await self._call("update", params, id=id, data=data)

    async def patch(self, id: Any, data: Any, params: Params | None = None) -> Any:
        """Change fields of a record, or of all records that match the query if the id is None.

        Return what has changed.
        """
        return await self._call("patch", params, id=id, data=data)

    async def remove(self, id: Any, params: Params | None = None) -> Any:
        """Remove a record, or all records that match the query if the id is None. Return what was removed."""
        return await self._call("remove", params, id=id)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def custom(data: Any = None, params: Params | None = None) -> Any:
            return await self._call(name, params, data=data)

        return custom

    def watch(
        self, query: Params | None = None, *, route: Params | None = None, services: Iterable[str] = ()
    ) -> AbstractAsyncContextManager[Live]:
        """Keep a page as ``find`` returns it, until the end of the block.

        ``services`` are the paths of others whose events may change the page, such as those that it populates. Raises
        the error of the first read, and RuntimeError if the transport has no events::

            async with client.service("messages").watch({"$sort": {"id": -1}, "$limit": 10}) as live:
                print(live.page["total"])
                async for page in live:
                    print(page["data"])
        """
        followed = [self, *(RemoteService(self._client, path) for path in services)]
        events = [service._event_name(event) for service in followed for event in EVENTS]
        params = {"query": query or {}, "route": route or {}}
        return watching(self._client, events, lambda: self.find(params))

    def on(self, event: str, listener: Listener) -> None:
        """Call a listener with each record of an event. Raises RuntimeError if the transport has no events."""
        self._client.events.on(self._event_name(event), listener)

    def once(self, event: str, listener: Listener) -> None:
        """Call a listener with the next record of an event. Raises RuntimeError if the transport has no events."""
        self._client.events.once(self._event_name(event), listener)

    def off(self, event: str, listener: Listener) -> None:
        """Remove a listener."""
        self._client.events.off(self._event_name(event), listener)

    def _event_name(self, event: str) -> str:
        if not self._client.transport.realtime:
            raise RuntimeError("The REST transport has no events: use Client(socketio(url))")
        return f"{self._path} {event}"

    async def _call(self, method: str, params: Params | None, id: Any = None, data: Any = None) -> Any:
        if id == "":
            # A URL without an id would be a call for all records.
            raise BadRequest("The id is empty")
        params = params or {}
        path = segments(self._path, params.get("route"))
        query, headers = params.get("query") or {}, params.get("headers") or {}
        return await self._client.send(Call(path, method, id, data, query, headers))
