"""Transports: HTTP and Socket.IO build calls, and write the answers."""

from apex.transports.batch import batch
from apex.transports.http import public_error
from apex.transports.pages import page
from apex.transports.rest import rest
from apex.transports.routes import authenticated
from apex.transports.socketio.transport import sockets

__all__ = [
    "authenticated",
    "batch",
    "page",
    "public_error",
    "rest",
    "sockets",
]
