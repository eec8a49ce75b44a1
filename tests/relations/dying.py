"""Boards in a process that is killed while it stores or removes the comments of an issue."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from apex import Context
from tests.relations.boards import ANN, boards


def die(context: Context) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(url: str, method: str) -> None:
    async with boards(url) as app:
        app.service("comments").hooks({"after": {method: [die]}})
        if method == "create":
            await app.service("issues").create({"title": "x", "labels": [1], "comments": [{"text": "a"}]}, ANN)
        else:
            await app.service("issues").remove(1, ANN)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
