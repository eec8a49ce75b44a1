"""A process that sends webhooks until it is killed: its arguments are the URLs of the database and of the receiver."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from apex.webhooks import store
from tests.webhooks.apps import add_notes, add_webhook, running, team_app

store.LEASE = timedelta(seconds=1)
"""Nobody wants to wait 30 seconds for the end of a lease."""


async def main(database: str, receiver: str) -> None:
    """Send the events of some notes."""
    async with running(team_app(database)) as app:
        await add_webhook(app, receiver, "notes *")
        [note] = await add_notes(app, "a1")
        for text in ("a2", "a3"):
            await app.service("notes").patch(note["id"], {"text": text})
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
