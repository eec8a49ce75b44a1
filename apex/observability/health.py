"""``/healthz`` and ``/readyz``: whether the process lives, and whether it should be sent requests.

Neither asks who calls, and neither may be remembered by anything in between.
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
from apex.migrations.revisions import VERSION, newest_of
from apex.sql.drivers.executor import Executor

ANSWER_SECONDS = 1.0
UNCACHED = {"cache-control": "no-store"}

Ills = dict[str, str]
"""What is not ready, by name, and what is wrong with it."""


def health(app: Apex) -> list[Route]:
    """The routes of an app, for ``rest(app, routes=health(app))``."""
    own = Health(app)
    return [Route("/healthz", own.healthz), Route("/readyz", own.readyz)]


class Health:
    """Whether an app is ready. The database and Redis are asked at most once in 0.9 seconds, whoever wants to know."""

    def __init__(self, app: Apex) -> None:
        self.app = app
        self.draining = False
        self.ahead: list[str] = []
        self.ills: Cache[str, Ills] = Cache(self._look)
        app.on("draining", self._drain)
        app.hooks({"setup": [self._start]})

    async def healthz(self, request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"}, headers=UNCACHED)

    async def readyz(self, request: Request) -> JSONResponse:
        """Answer 503 with what is not ready. ``?exclude=redis`` leaves something out, as often as it is given.

        ``ahead`` names revisions of the database that this version does not have. The app serves all the same.
        """
        found = dict(await self.ills.get("all") or {})
        if self.draining:
            found["draining"] = "The process is about to stop"
        ills = {name: ill for name, ill in found.items() if name not in request.query_params.getlist("exclude")}
        status, code = ("unavailable", 503) if ills else ("ok", 200)
        body: dict[str, Any] = {"status": status, "notReady": ills}
        if self.ahead:
            body["ahead"] = f"A later version has migrated the database to {', '.join(self.ahead)}"
        return JSONResponse(body, code, headers=UNCACHED)

    async def _start(self, context: Context, next: Next) -> None:
        self.newest, self.known = newest_of()
        await next()
        self.draining = False

    def _drain(self) -> None:
        self.draining = True

    async def _look(self, _: str) -> Ills:
        found = await asyncio.gather(self._database(), self._redis())
        return {name: ill for ills in found for name, ill in ills.items()}

    async def _database(self) -> Ills:
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

    async def _migrations(self, executor: Executor) -> Ills:
        """A database that has revisions which are not known here is ahead, and serves: a rolling upgrade has begun."""
        if not self.newest:
            await executor.fetch("SELECT 1", {})
            return {}
        current = {row[0] for row in await executor.fetch(VERSION, {})}
        self.ahead = sorted(current - self.known)
        if current == self.newest or self.ahead:
            return {}
        return {"migrations": "Some are pending: run 'apex migrate'"}

    async def _redis(self) -> Ills:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reached = await self.app.bus.is_reached()
        except TimeoutError:
            reached = False
        return {} if reached else {"redis": "It does not answer"}
