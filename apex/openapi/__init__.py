"""The OpenAPI document of an app, made of its services, methods, schemas and the facts that hooks declare.

``app.configure(openapi)`` serves it at ``/openapi.json``, with a page for people at ``/docs/``. The libraries that
make the document are imported when it is first needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from apex.app import Apex
from apex.encoding import encode
from apex.openapi.start import start_page
from apex.transports.pages import ASK_AGAIN, Content, page

__all__ = ["document_of", "openapi", "routes", "start_page"]

PATH = "/openapi.json"
LOCAL = "127.0.0.1"
"""The name of this machine in documents. Linters refuse ``localhost`` there."""
MAX_URLS = 8
"""The number of URLs of the app whose documents are cached. Other requests get a document with the path alone."""


def document_of(app: Apex) -> dict[str, Any]:
    """Return the OpenAPI document of an app, with the services that are registered now.

    The app's setting ``openapi`` may contain the ``title``, ``version``, ``description``, ``license`` and other fields
    of ``info``, and ``servers``.
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
    contents: dict[str, Content] = {}

    def content(url: str, mount_path: str) -> Content:
        if url not in contents:
            url = url if len(contents) < MAX_URLS else mount_path or "/"
        if url not in contents:
            is_declared = "servers" in (app.get("openapi") or {})
            servers = {} if is_declared else {"servers": [{"url": url}]}
            contents[url] = Content.of(encode({**document_of(app), **servers}))
        return contents[url]

    async def answer(request: Request) -> Response:
        mount_path = request.scope.get("root_path", "").rstrip("/")
        url = request.base_url.replace(path=mount_path)
        if url.hostname == "localhost":
            url = url.replace(hostname="127.0.0.1")
        document = content(str(url), mount_path)
        return document.response(request.headers, "application/json", {"Cache-Control": ASK_AGAIN})

    return answer
