"""The client calls the services of a server, apex or any other that speaks Feathers, as if they were in the process.

Choose a transport, and call a service::

    async with Client(rest("http://localhost:3030")) as client:
        await client.service("messages").find()
"""

from apex._lazy import extra

with extra("client", "The client"):
    from apex.client.client import Client
    from apex.client.rest import rest
    from apex.client.service import RemoteService
    from apex.client.socketio import socketio
    from apex.client.storage import FileStorage, MemoryStorage, Storage
    from apex.client.watch import Live

__all__ = ["Client", "FileStorage", "Live", "MemoryStorage", "RemoteService", "Storage", "rest", "socketio"]
