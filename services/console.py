"""The live page at ``/console/``: static files that speak with this server alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parent.parent / "console"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
ASK_AGAIN, FOREVER = "no-cache", "public, max-age=31536000, immutable"


class Files(StaticFiles):
    """The page's files. Browsers ask again for each by its ETag, but keep those
    whose name has a version."""

    def file_response(self, full_path: Any, *args: Any, **options: Any) -> Response:
        response = super().file_response(full_path, *args, **options)
        kept = str(full_path).endswith(".min.js")
        response.headers.update({**HEADERS, "Cache-Control": FOREVER if kept else ASK_AGAIN})
        return response


def routes() -> list[BaseRoute]:
    """Routes for ``rest``: the page, and the way to it without the slash at the end."""
    return [
        Route("/console", RedirectResponse("/console/")),
        Mount("/console", Files(directory=FOLDER, html=True)),
    ]
