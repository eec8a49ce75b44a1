"""The health checks ``/healthz`` and ``/readyz``: is the process alive, and should it get requests?

Both answer without authentication, and their answers are never cached.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from apex.app import Apex
from apex.cache import Cache
from apex.context import Context
from apex.errors import FeathersError
from apex.hooks import Next
from apex.migrations.revisions import VERSION, Revisions
from apex.sql.drivers.executor import Executor

ANSWER_SECONDS: float = 1.0
"""The time in which the database and Redis must answer."""

UNCACHED = {"cache-control": "no-store"}

Problems = dict[str, str]
"""The parts that are not ready, each with the reason."""


def health(app: Apex) -> list[Route]:
    """Add the routes of the health checks, ``app.configure(health)``, and return them."""
    checks = Health(app)
    routes = [Route("/healthz", checks.healthz), Route("/readyz", checks.readyz)]
    app.routes += routes
    return routes


class Health:
    """The readiness of an app. A cache limits the checks of database and Redis to one in 0.9 seconds."""

    def __init__(self, app: Apex) -> None:
        self.app: Apex = app
        self.draining: bool = False
        self.unknown: list[str] = []
        self.revisions: Revisions = Revisions()
        self.problems: Cache[str, Problems] = Cache(self._check)
        app.on("draining", self._drain)
        app.hooks({"setup": [self._start]})

    async def healthz(self, request: Request) -> JSONResponse:
        """Answer 200: the process is alive."""
        return JSONResponse({"status": "ok"}, headers=UNCACHED)

    async def readyz(self, request: Request) -> JSONResponse:
        """Answer 200 if everything is ready, else 503 with the parts that are not.

        ``?exclude=redis`` leaves out a part and can be given several times. ``ahead`` names revisions of the database
        that this version does not have. The app serves nevertheless.
        """
        problems = dict(await self.problems.get("all") or {})
        if self.draining:
            problems["draining"] = "The process is about to stop"
        for name in request.query_params.getlist("exclude"):
            problems.pop(name, None)
        status, code = ("unavailable", 503) if problems else ("ok", 200)
        body: dict[str, Any] = {"status": status, "notReady": problems}
        if self.unknown:
            body["ahead"] = f"A later version has migrated the database to {', '.join(self.unknown)}"
        return JSONResponse(body, code, headers=UNCACHED)

    async def _start(self, context: Context, next: Next) -> None:
        self.revisions = Revisions.of()
        await next()
        self.draining = False

    def _drain(self) -> None:
        self.draining = True

    async def _check(self, _: str) -> Problems:
        database, redis = await asyncio.gather(self._database(), self._redis())
        return {**database, **redis}

    async def _database(self) -> Problems:
        database: Any = self.app.get("database")
        if database is None:
            return {}
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._migrations(database.executor)
        except TimeoutError:
            return {"database": f"It does not answer within {ANSWER_SECONDS:g} second"}
        except FeathersError as error:
            return {"database": error.message}

    async def _migrations(self, executor: Executor) -> Problems:
        if not self.revisions.newest:
            await executor.fetch("SELECT 1", {})
            return {}
        current = {row[0] for row in await executor.fetch(VERSION, {})}
        # A rolling upgrade migrates the database while this version still serves.
        self.unknown = self.revisions.unknown(current)
        if current == self.revisions.newest or self.unknown:
            return {}
        return {"migrations": "Some are pending: run 'apex migrate'"}

    async def _redis(self) -> Problems:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reached = await self.app.bus.is_reached()
        except TimeoutError:
            reached = False
        return {} if reached else {"redis": "It does not answer"}
