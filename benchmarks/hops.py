"""The Python calls and files of one request: ``python -m benchmarks hops``.

Counts what runs from ``app(scope, receive, send)`` to the last ``send`` of a warm get, list and create of contacts, on
SQLite with the demo data. Each start of a function counts, and each time that a coroutine goes on after a wait. Only
the files of ``apex``, ``hooks`` and ``services`` count: not libraries, generated code, or the ``send`` of this module.
``hops --tree`` also prints each call, indented by its depth; ``hops --tree get`` only those of a get.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from apex import Apex, load_config
from apex.migrations.migrate import upgrade
from benchmarks.people import ORGANIZATION, USER
from services.app import CONFIG, create_app
from services.commands.demo_data import load_demo

ROOT = Path(__file__).parent.parent
PACKAGES = ("apex", "hooks", "services")
WARM = 50
"""The requests of a kind before the one that is counted."""

Request = tuple[str, str, str, Any]
"""The verb, path, query string and data of a request."""

REQUESTS: Mapping[str, Request] = {
    "get": ("GET", "/contacts/123", "", None),
    "list": ("GET", "/contacts", f"organization_id={ORGANIZATION}&$limit=25&$sort[created_at]=-1", None),
    "create": ("POST", "/contacts", "", {"organization_id": ORGANIZATION, "first_name": "Jane", "last_name": "Roe"}),
}


class Calls:
    """The calls of one request, in order: the depth, the file and the name of each."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str, str]] = []
        self._depth = 0

    @property
    def files(self) -> set[str]:
        """The files of the framework and the CRM, relative to the root of the checkout."""
        found = {Path(file).relative_to(ROOT) for _, file, _ in self.found if Path(file).is_relative_to(ROOT)}
        return {str(file) for file in found if file.parts[0] in PACKAGES}

    def profile(self, frame: FrameType, event: str, _: Any) -> None:
        """Record an event of ``sys.setprofile``."""
        if event == "call":
            self.found.append((self._depth, frame.f_code.co_filename, frame.f_code.co_qualname))
            self._depth += 1
        elif event == "return":
            self._depth -= 1

    def tree(self) -> Iterator[str]:
        """Yield a line for each call, indented by its depth."""
        for depth, file, name in self.found:
            path = Path(file)
            place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
            yield f"{'  ' * depth}{name}  {place}"


def main(*arguments: str) -> None:
    """Print the number of calls and files of each request, and with ``--tree`` the calls."""
    names = [name for name in arguments if name != "--tree"] or list(REQUESTS)
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'crm.db'}"
        upgrade(url)
        counted = asyncio.run(_count(url, names))
    print("| request | calls | files |\n|---|---:|---:|")
    for name, calls in counted.items():
        print(f"| {name} | {len(calls.found)} | {len(calls.files)} |")
    if "--tree" in arguments:
        for name, calls in counted.items():
            print(f"\n{name}", *calls.tree(), sep="\n")


async def _count(url: str, names: list[str]) -> dict[str, Calls]:
    settings = {"APEX_ENV": "test", "DATABASE_URL": url, "LOG_LEVEL": "warning"}
    app = create_app(load_config(CONFIG, settings))
    await app.setup()
    try:
        await load_demo(app)
        token = app.get("defaultAuthentication").tokens.create(USER)[0]
        return {name: await _count_one(app, token, REQUESTS[name]) for name in names}
    finally:
        await app.teardown()


async def _count_one(app: Apex, token: str, request: Request) -> Calls:
    calls = Calls()
    for _ in range(WARM):
        await _ask(app, token, request)
    await _ask(app, token, request, calls)
    return calls


async def _ask(app: Apex, token: str, request: Request, calls: Calls | None = None) -> None:
    verb, path, query, data = request
    body = b"" if data is None else json.dumps(data).encode()
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())]
    if data is not None:
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {
        "type": "http", "method": verb, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "root_path": "", "headers": headers, "client": ("127.0.0.1", 1),
    }  # fmt: skip
    statuses: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            sys.setprofile(None)
        else:
            statuses.append(message["status"])

    if calls is not None:
        sys.setprofile(calls.profile)
    await app(scope, receive, send)
    if statuses[0] not in (200, 201):
        raise SystemExit(f"{verb} {path} was answered with {statuses[0]}")
