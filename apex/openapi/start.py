"""The page at ``/``, which leads visitors of an API to its documentation, health checks, metrics and services."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from apex.app import Apex

HERE = Path(__file__).parent
PLACES = {
    "/docs": ("docs/", "Documentation", "Read about each call, and try it"),
    "/openapi.json": ("openapi.json", "OpenAPI", "The document for tools and clients"),
    "/healthz": ("healthz", "Health", "The process runs"),
    "/readyz": ("readyz", "Readiness", "It can take requests"),
    "/metrics": ("metrics", "Metrics", "Figures for Prometheus"),
}
"""By the paths of routes: the link from ``/``, its name and its use."""

TEXTS = {"title": "API", "description": "Services over REST and Socket.IO."}
"""The title and the text of an app without the setting ``openapi``."""


def start_page(app: Apex) -> None:
    """Serve a page at ``/`` that leads to the services and to what other plug-ins serve: ``app.configure(start_page)``.

    Its title and its text are the ``title`` and the ``description`` of the app's setting ``openapi``.
    """
    page = Template((HERE / "start.html").read_text(encoding="utf-8"))
    style = (HERE / "start.css").read_text(encoding="utf-8")
    hashed = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{hashed}'; base-uri 'none'; frame-ancestors 'none'"
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer"}

    async def start(request: Request) -> HTMLResponse:
        info: dict[str, Any] = app.get("openapi") or {}
        title, description = (escape(str(info.get(name) or other)) for name, other in TEXTS.items())
        lists = {"links": "".join(_links(app)), "services": "".join(_services(app))}
        return HTMLResponse(page.substitute(title=title, description=description, style=style, **lists), 200, headers)

    app.routes.append(Route("/", start))


def _links(app: Apex) -> Iterator[str]:
    served = {getattr(route, "path", None) for route in app.routes}
    for path, (link, name, use) in PLACES.items():
        if path in served:
            yield f'<a href="{link}"><b>{name}</b><small>{use}</small></a>'


def _services(app: Apex) -> Iterator[str]:
    """Yield the services that clients can call, with their methods."""
    for path, bound in app.services.items():
        if bound._options.methods:
            yield f"<li><code>/{escape(path.strip('/'))}</code><span>{escape(', '.join(bound._options.methods))}</span>"
