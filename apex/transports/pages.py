"""Pages of static files that can only call their own server, and files for the pages of other servers.

Texts are compressed with gzip for clients that accept it.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from mimetypes import guess_type
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from apex.transports.http import is_among, tag_of
from apex.types import ASGIApp, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
ASK_AGAIN, FOREVER = "no-cache", "public, max-age=31536000, immutable"
TEXTS = frozenset({".css", ".html", ".js", ".json", ".map", ".svg", ".txt"})
"""The endings of files that are worth compressing."""

KEPT = 64
"""The number of compressed files in the cache."""

_CODING = re.compile(r"\s*([!#$%&'*+.^_`|~0-9a-z-]+)\s*(?:;\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?")


@dataclass(frozen=True, slots=True)
class Content:
    """A body and its gzip form. Each has an entity tag of its own (RFC 9110, 8.8.3.3)."""

    plain: bytes
    zipped: bytes
    tag: str

    @classmethod
    def of(cls, body: bytes) -> Content:
        """Return the content of a body, compressed once at the highest level."""
        return cls(body, gzip.compress(body, mtime=0), tag_of(body))

    def response(self, request: Headers, media_type: str | None, headers: Mapping[str, str]) -> Response:
        """Return the body in the form that a request accepts, or 304 if the client has it."""
        is_zipped = len(self.zipped) < len(self.plain) and takes_gzip(request.get("accept-encoding", ""))
        tag = f'{self.tag[:-1]}-gzip"' if is_zipped else self.tag
        headers = {**headers, "ETag": tag, "Vary": "Accept-Encoding"}
        if is_among(tag, request.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        if is_zipped:
            headers["Content-Encoding"] = "gzip"
        return Response(self.zipped if is_zipped else self.plain, headers=headers, media_type=media_type)


def takes_gzip(accepted: str) -> bool:
    """Return True if a header ``Accept-Encoding`` allows gzip (RFC 9110, 12.5.3)."""
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        if match := _CODING.fullmatch(part):
            weights[match[1]] = float(match[2] or 1)
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0))) > 0


@lru_cache(KEPT)
def _content(path: str, changed: int, size: int) -> Content:
    """Return the content of a file. It is read again after a change."""
    return Content.of(Path(path).read_bytes())


class _Text(Response):
    """A response with a text file, which is read and compressed outside of the event loop."""

    def __init__(self, path: str, stat: os.stat_result) -> None:
        super().__init__()
        self.file = path, stat.st_mtime_ns, stat.st_size
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = await run_in_threadpool(_content, *self.file)
        response = content.response(Headers(scope=scope), guess_type(self.file[0])[0], dict(self.headers))
        await response(scope, receive, send)


class Files(StaticFiles):
    """Static files that browsers revalidate by their ETag."""

    headers: Mapping[str, str] = {"Cache-Control": ASK_AGAIN, "X-Content-Type-Options": "nosniff"}

    def file_response(self, full_path: Any, stat_result: os.stat_result, *args: Any, **options: Any) -> Response:
        path = Path(full_path)
        is_text = path.suffix in TEXTS
        sent = _Text(str(path), stat_result) if is_text else super().file_response(path, stat_result, *args, **options)
        sent.headers.update({**self.headers, **self.headers_of(path)})
        return sent

    def headers_of(self, path: Path) -> Mapping[str, str]:
        """Return further headers for a file."""
        return {}


class PageFiles(Files):
    """The files of a page. Browsers keep those in the folder ``vendor``, whose names have a version."""

    headers: Mapping[str, str] = {**HEADERS, "Cache-Control": ASK_AGAIN}

    def headers_of(self, path: Path) -> Mapping[str, str]:
        kept = path.parent.name == "vendor" and path.suffix in (".js", ".css")
        return {"Cache-Control": FOREVER} if kept else {}


def page(path: str, folder: Path) -> list[BaseRoute]:
    """Return the routes of a page of static files, such as ``app.routes += page("/console", Path("console"))``.

    The path without a slash at the end redirects to it.
    """

    async def to_page(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '').rstrip('/')}{path}/")

    return [Route(path, to_page), Mount(path, PageFiles(directory=folder, html=True))]


def asset(file: Path) -> ASGIApp:
    """Return an ASGI application that answers GET and HEAD with a file, whatever the path.

    Browsers revalidate it by its ETag.
    """
    files = Files(directory=file.parent)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        response = await files.get_response(file.name, scope)
        await response(scope, receive, send)

    return answer
