"""The routes of the document, ``/openapi.json``, and of its page, ``/docs/``.

The document is made at the first request and kept. If the app is mounted below a path, it names that path as its
server.
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

PATH = "/openapi.json"
PLACES = 8
"""The number of mount paths for which a document is kept."""


def document_of(app: Apex) -> dict[str, Any]:
    """The OpenAPI document of an app, by what is registered now.

    ``app.get("openapi")`` may give its ``title``, ``version``, ``description`` and what else ``info`` has.
    """
    from apex.openapi.document import document

    return document(app)


def routes(app: Apex) -> list[BaseRoute]:
    """Routes for ``rest``."""
    return [Route(PATH, _served(app)), *page("/docs", Path(__file__).parent / "ui")]


def _served(app: Apex) -> Callable[[Request], Awaitable[Response]]:
    @lru_cache(PLACES)
    def written(place: str) -> Content:
        servers = {"servers": [{"url": place}]} if place else {}
        return Content.of(encode({**document_of(app), **servers}))

    async def openapi(request: Request) -> Response:
        document = written(request.scope.get("root_path", "").rstrip("/"))
        return document.response(request.headers, "application/json", {"Cache-Control": ASK_AGAIN})

    return openapi
