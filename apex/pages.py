"""Pages made of static files that speak with their own server alone, and files for the pages of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
ASK_AGAIN, FOREVER = "no-cache", "public, max-age=31536000, immutable"


class Files(StaticFiles):
    """A page's files. Browsers ask again for each by its ETag, but keep those from elsewhere, in the folder ``vendor``,
    whose names have a version.
    """

    def file_response(self, full_path: Any, *args: Any, **options: Any) -> Response:
        response = super().file_response(full_path, *args, **options)
        path = Path(full_path)
        kept = path.parent.name == "vendor" and path.suffix in (".js", ".css")
        response.headers.update({**HEADERS, "Cache-Control": FOREVER if kept else ASK_AGAIN})
        return response


def page(path: str, folder: Path) -> list[BaseRoute]:
    """Routes for ``rest``: the page, and the way to it without the slash at the end."""

    async def to_page(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '').rstrip('/')}{path}/")

    return [Route(path, to_page), Mount(path, Files(directory=folder, html=True))]


def asset(file: Path) -> ASGIApp:
    """Return an ASGI application that answers GET and HEAD with a file, whatever the path.

    Browsers revalidate it by its ETag.
    """
    files = StaticFiles(directory=file.parent)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        response = await files.get_response(file.name, scope)
        response.headers.update({"Cache-Control": ASK_AGAIN, "X-Content-Type-Options": "nosniff"})
        await response(scope, receive, send)

    return answer
