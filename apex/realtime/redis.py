"""The bus and the rates that the processes of an app share through Redis.

Others may be able to write to that Redis. Messages of the bus are signed. Rates cannot be: Redis itself counts them.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from apex.callbacks import Backoff
from apex.encoding import decode, encode
from apex.rates import Count, Rates
from apex.realtime.bus import Bus

CONNECT_SECONDS = 2
SILENCE_SECONDS = 10
CLOSE_SECONDS = 1
FLUSH_SECONDS = 0.01
DOWN_SYNC_SECONDS = 5
QUEUE = 10_000
BATCH = 100
YOUNG_SECONDS = 60
ORIGINS = 1_000
CLOCKS_DIFFER = 5
"""Seconds by which a message may be older than the process that hears it."""
REPORT_SECONDS = 60
"""Seconds between two lines of the log about messages that were refused."""

RATES_CONNECTIONS = 20
RATES_SECONDS = 2
AWAY_SECONDS = 1
"""How long the rates leave Redis alone after it has failed."""

# The moments of the requests in the window, the oldest first, by Redis' own clock; one step for all processes.
TAKE = """
local clock, limit, window = redis.call('TIME'), tonumber(ARGV[1]), tonumber(ARGV[2])
local taken = tonumber(ARGV[3])
local now = clock[1] + clock[2] / 1000000
local oldest = redis.call('LINDEX', KEYS[1], 0)
while oldest and tonumber(oldest) <= now - window do
    redis.call('LPOP', KEYS[1])
    oldest = redis.call('LINDEX', KEYS[1], 0)
end
local count = redis.call('LLEN', KEYS[1])
local needed = math.max(1, taken)
local allowed = count + needed <= limit
local last = count - limit + needed - 1
if allowed then
    for _ = 1, taken do
        redis.call('RPUSH', KEYS[1], string.format('%.6f', now))
    end
    if taken > 0 then
        redis.call('EXPIRE', KEYS[1], window)
    end
    count = count + taken
    last = count - limit
end
local free = tonumber(redis.call('LINDEX', KEYS[1], math.max(0, last)) or now - window)
return {allowed and 1 or 0, count, string.format('%.6f', window - (now - free))}
"""

FAILURES = (RedisError, OSError, TimeoutError)

log = logging.getLogger("apex")


@dataclass(slots=True)
class Stats:
    """How the bus is: whether it is connected, and the messages since the start."""

    connected: bool = False
    sent: int = 0
    received: int = 0
    dropped: int = 0
    refused: int = 0


def connected(url: str, seconds: float) -> Redis:
    """A client that says at once when Redis is away, or has not answered for so long: whoever uses it tries again
    by itself.
    """
    limits: dict[str, Any] = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": seconds}
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **limits)


def namespace(app: str) -> str:
    """What the names in Redis of one app (its database) begin with; several apps may share a Redis."""
    return f"apex:{sha256(app.encode()).hexdigest()[:16]}"


class Signer:
    """Signs the messages of a channel, with HMAC-SHA256 (RFC 2104) and a key made of each of an app's secrets.

    A message of an app with another secret, or for another channel, is refused. While an app's secret is changed for
    another one, its messages carry a signature for both: processes that know one of the two hear each other. Without a
    secret anybody can make the key.
    """

    def __init__(self, secrets: Sequence[str], channel: str) -> None:
        label = f"apex bus: {channel}".encode()
        self._keys = [hmac.digest(secret.encode(), label, "sha256") for secret in secrets or ("",)]

    def sign(self, text: bytes) -> bytes:
        return b"%b\n%b" % (b" ".join(self._signatures(text)), text)

    def open(self, signed: bytes) -> bytes:
        """Return the text of a message. Raises ValueError if none of its signatures is good."""
        given, _, text = signed.partition(b"\n")
        good = self._signatures(text)
        if not any(hmac.compare_digest(one, other) for one in given.split(b" ", 2)[:2] for other in good):
            raise ValueError("is not signed with a secret of this app")
        return text

    def _signatures(self, text: bytes) -> list[bytes]:
        return [hmac.digest(key, text, "sha256").hex().encode() for key in self._keys]


class RedisBus(Bus):
    """Tells the other processes that have the same ``name`` (the app's database) through one Redis.

    ``secrets`` returns those that messages are signed with. A message is handled once at most by each process. One that
    is not signed, came before, or is older than a minute or than the process itself is refused.

    While Redis is away the app goes on by itself: what it has to tell waits, up to ``QUEUE`` messages and
    ``YOUNG_SECONDS``, and what others may have changed is read again every ``DOWN_SYNC_SECONDS``, and once more when
    Redis is back.
    """

    alone = False

    def __init__(self, url: str, name: str, secrets: Callable[[], Sequence[str]] = tuple) -> None:
        super().__init__()
        self.stats = Stats()
        self.origin = uuid4().hex
        self.channel = namespace(name)
        self._url = url
        self._secrets = secrets
        self._since = time.time()
        self._reported = -float(REPORT_SECONDS)
        self._numbers = self._queued = self._settled = 0
        self._waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUE)
        self._seen: dict[str, int] = {}
        self._synced = 0.0

    def send(self, topic: str, message: Any) -> None:
        self._numbers += 1
        try:
            text = encode([self.origin, self._numbers, time.time(), topic, message])
            self._waiting.put_nowait((time.monotonic(), self._signer.sign(text)))
            self._queued += 1
        except asyncio.QueueFull:
            self.stats.dropped += 1
        except TypeError:
            log.exception("A message to the other processes has no JSON form: '%s'", topic)

    @cached_property
    def _signer(self) -> Signer:
        """Return the signer. It is made with the first message, when the app has all of its settings."""
        return Signer(self._secrets(), self.channel)

    async def open(self) -> None:
        await super().open()
        self._since = time.time()
        # The bus itself tries again: a connection that the library mends by itself would hide that messages were lost.
        self._redis = connected(self._url, SILENCE_SECONDS)
        self._tasks += [asyncio.create_task(self._receive()), asyncio.create_task(self._deliver())]

    async def close(self) -> None:
        """Send what waits, if Redis takes it soon, and end."""
        if not self._tasks:
            return
        sent = asyncio.create_task(self._waiting.join())
        await asyncio.wait([sent], timeout=CLOSE_SECONDS)
        self._tasks.append(sent)
        await super().close()
        self.stats.connected = False
        await self._redis.aclose()

    async def flush(self) -> bool:
        queued, until = self._queued, time.monotonic() + CLOSE_SECONDS
        while self._settled < queued and time.monotonic() < until:
            await asyncio.sleep(FLUSH_SECONDS)
        return self._settled >= queued

    async def is_reached(self) -> bool:
        try:
            return bool(await self._redis.ping())
        except FAILURES:
            return False

    async def sync(self) -> None:
        self._synced = time.monotonic()
        await super().sync()

    async def _deliver(self) -> None:
        """Sends what waits, in order, each message until Redis has taken it or it is old."""
        while True:
            batch = [await self._waiting.get()]
            while not self._waiting.empty() and len(batch) < BATCH:
                batch.append(self._waiting.get_nowait())
            taken = len(batch)
            pause = Backoff()
            while batch and not await self._published(batch):
                await pause.wait()
                young = [one for one in batch if time.monotonic() - one[0] < YOUNG_SECONDS]
                self.stats.dropped += len(batch) - len(young)
                batch = young
            self._settled += taken
            for _ in range(taken):
                self._waiting.task_done()

    async def _published(self, batch: list[tuple[float, bytes]]) -> bool:
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for _, text in batch:
                    pipeline.publish(self.channel, text)
                await pipeline.execute()
        except FAILURES:
            return False
        self.stats.sent += len(batch)
        return True

    async def _receive(self) -> None:
        """Listens, for as long as the app runs. What is missed between two connections is read again."""
        pause = Backoff()
        while True:
            try:
                async with self._subscribed() as pubsub:
                    pause = Backoff()
                    await self.sync()
                    await self._listen(pubsub)
            except FAILURES as error:
                self._lost(error)
            if time.monotonic() - self._synced >= DOWN_SYNC_SECONDS:
                await self.sync()
            await pause.wait()

    @asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[PubSub]:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(self.channel)
            if await pubsub.get_message(timeout=SILENCE_SECONDS) is None:
                raise TimeoutError("the subscription was not answered")
            log.info("Redis is there: the processes hear each other")
            self.stats.connected = True
            yield pubsub

    async def _listen(self, pubsub: PubSub) -> None:
        """Handles messages until the connection breaks, or says nothing even when it is asked."""
        asked = False
        while True:
            message = await pubsub.get_message(timeout=SILENCE_SECONDS)
            if message is None and asked:
                raise TimeoutError("the connection is silent")
            asked = message is None
            if message is None:
                await pubsub.ping()
            elif message["type"] == "message":
                self._handle(message["data"])

    def _handle(self, signed: bytes) -> None:
        try:
            origin, number, moment, topic, message = decode(self._signer.open(signed))
            if origin == self.origin:
                return
            self._require_new(origin, number, moment)
        except ValueError as reason:
            self._refuse(reason)
            return
        self._remember(origin, number)
        self.stats.received += 1
        try:
            self.handle(topic, message)
        except Exception:
            log.exception("A message of another process cannot be handled")

    def _require_new(self, origin: str, number: int, moment: float) -> None:
        """Raise ValueError for a message that may have been recorded.

        A process that has just started knows no numbers of the others yet, so nothing from before its start counts.
        """
        now = time.time()
        if number <= self._seen.get(origin, 0):
            raise ValueError("came before")
        if not max(now - YOUNG_SECONDS, self._since) - CLOCKS_DIFFER <= moment <= now + YOUNG_SECONDS:
            raise ValueError(f"is {now - moment:.0f} seconds old")

    def _refuse(self, reason: ValueError) -> None:
        self.stats.refused += 1
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = time.monotonic()
            log.warning("Messages in Redis were refused, %d since the start: the last %s", self.stats.refused, reason)

    def _remember(self, origin: str, number: int) -> None:
        """Keep the number of a process, and forget the process that has been silent for longest."""
        self._seen.pop(origin, None)
        self._seen[origin] = number
        if len(self._seen) > ORIGINS:
            del self._seen[next(iter(self._seen))]

    def _lost(self, error: BaseException) -> None:
        if self.stats.connected or not self._synced:
            log.warning("Redis cannot be reached, the processes do not hear each other: %s", type(error).__name__)
        self.stats.connected = False


class RedisRates(Rates):
    """The processes that share a Redis and a ``name`` (the app's database) count together. While Redis is away each
    counts by itself.
    """

    def __init__(self, url: str, name: str = "") -> None:
        super().__init__()
        self._prefix = f"{namespace(name)}:rates:"
        self._redis = connected(url, RATES_SECONDS)
        self._script = self._redis.register_script(TAKE)
        self._turns = asyncio.Semaphore(RATES_CONNECTIONS)
        self._away_until = 0.0

    async def count(self, name: str, limit: int, window: int, taken: int = 1) -> Count:
        shared = await self._count_shared(name, limit, window, taken)
        return shared or await super().count(name, limit, window, taken)

    async def _count_shared(self, name: str, limit: int, window: int, taken: int) -> Count | None:
        """None while Redis is away."""
        try:
            async with self._turns:
                if time.monotonic() < self._away_until:
                    return None
                allowed, count, free = await self._script([self._prefix + name], [limit, window, taken])
        except FAILURES as error:
            log.warning("Redis cannot be reached, each process limits rates by itself: %s", type(error).__name__)
            self._away_until = time.monotonic() + AWAY_SECONDS
            return None
        # Others may have written to the list: what comes of it is held to what it can be.
        return bool(allowed), count, min(max(0.0, float(free)), float(window))

    async def close(self) -> None:
        await self._redis.aclose()


async def reached(url: str) -> str | None:
    """Why a Redis does not answer; None when it does."""
    redis = connected(url, RATES_SECONDS)
    try:
        await redis.ping()
    except FAILURES as error:
        return type(error).__name__
    finally:
        await redis.aclose()
    return None
