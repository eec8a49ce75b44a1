"""An application that returns the id of its process. It cannot start while the file named by ``BROKEN`` exists."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from apex import Apex, Context, Next, Params, rest, sockets
from apex.auth import AuthenticationService
from apex.errors import ConfigError


class Pids:
    async def find(self, params: Params) -> int:
        return os.getpid()

    async def create(self, data: Any, params: Params) -> int:
        return os.getpid()


def create_app() -> Apex:
    if Path(os.environ.get("BROKEN", "/nowhere")).exists():
        raise ConfigError("the application is broken")
    app = Apex({"host": "127.0.0.1", "port": 0, "drainSeconds": int(os.environ.get("DRAIN_SECONDS", "0"))})
    app.configure(rest)
    app.use("pids", Pids())
    return app


def create_guarded() -> Apex:
    app = create_app().set("authentication", {"secret": "a-secret-of-tests-that-nobody-knows"})
    app.use("authentication", AuthenticationService(app))
    return app


def create_live() -> Apex:
    return create_app().configure(sockets)


def create_killed() -> Apex:
    """Return an application whose process is killed when it is set up."""

    async def die(context: Context, next: Next) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    app = create_app()
    app.hooks({"setup": [die]})
    return app
