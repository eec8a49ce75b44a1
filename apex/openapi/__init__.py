"""The OpenAPI document of an app, made of its services, methods, schemas and the facts that hooks declare.

``app.configure(openapi)`` serves it at ``/openapi.json``, with a page for people at ``/docs/``. The libraries that
make the document are imported when it is first needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from apex.app import Apex
from apex.encoding import encode
from apex.transports.pages import ASK_AGAIN, Content, page

__all__ = ["document_of", "openapi", "routes"]

PATH = "/openapi.json"
MOUNT_PATHS = 8
"""The number of mount paths whose documents are cached."""


def document_of(app: Apex) -> dict[str, Any]:
    """Return the OpenAPI document of an app, with the services that are registered now.

    The app's setting ``openapi`` may contain the ``title``, ``version``, ``description`` and other fields of ``info``.
    """
    from apex.openapi.document import document

    return document(app)


def openapi(app: Apex) -> None:
    """Serve the document and its page: ``app.configure(openapi)``."""
    app.routes += routes(app)


def routes(app: Apex) -> list[BaseRoute]:
    """Return the routes of the document and its page. ``openapi`` adds them to an app."""
    return [Route(PATH, _endpoint(app)), *page("/docs", Path(__file__).parent / "ui")]


def _endpoint(app: Apex) -> Callable[[Request], Awaitable[Response]]:
    @lru_cache(MOUNT_PATHS)
    def content(mount_path: str) -> Content:
        servers = {"servers": [{"url": mount_path}]} if mount_path else {}
        return Content.of(encode({**document_of(app), **servers}))

    async def answer(request: Request) -> Response:
        document = content(request.scope.get("root_path", "").rstrip("/"))
        return document.response(request.headers, "application/json", {"Cache-Control": ASK_AGAIN})

    return answer
