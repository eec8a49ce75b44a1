"""Tests of a server in another process, which closes its connections when it stops."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress

import httpx2
import pytest
import websockets

from apex.server.uvicorn import SHUTDOWN_SECONDS
from tests.process.commands import server
from tests.support.sockets import connected, opened, polling
from tests.support.waiting import SECONDS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_stops_closes_open_connections_at_once(
    migrated_sqlite_url: str, number: signal.Signals
) -> None:
    with server("serve", DATABASE_URL=migrated_sqlite_url) as (process, url):
        async with httpx2.AsyncClient(base_url=url, timeout=SECONDS) as http:
            poller = await polling(http)
            hanging = asyncio.create_task(poller.get())
            async with connected(http) as peer, opened(http) as silent:
                await silent.frame()
                await peer.call("find", "nope")
                process.send_signal(number)
                begun = time.monotonic()
                await peer.closed()
                assert await hanging == ["1"]
                assert await asyncio.to_thread(process.wait, SECONDS) == 0
        assert time.monotonic() - begun < SHUTDOWN_SECONDS
        assert process.stderr is not None
        assert process.stderr.read() == ""


async def test_a_frame_that_is_too_large_ends_its_connection_alone(migrated_sqlite_url: str) -> None:
    with server("serve", DATABASE_URL=migrated_sqlite_url) as (process, url):
        async with httpx2.AsyncClient(base_url=url) as http, connected(http) as other:
            async with connected(http) as peer:
                with suppress(websockets.ConnectionClosed):
                    await peer.send('420["find","' + "x" * 5_000_000 + '"]')
                await peer.closed()
            assert (await other.call("find", "nope"))[0]["code"] == 404
        process.terminate()
        _, complaints = await asyncio.to_thread(process.communicate)
        assert complaints == ""
