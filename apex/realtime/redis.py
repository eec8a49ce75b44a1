"""The bus and the rate limits that the processes of an app share through Redis.

Other programs may be able to write to that Redis, so messages of the bus are signed. Rates are not, as Redis itself
counts them.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property, partial
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
from apex.limits.rates import Count, Rates
from apex.realtime.bus import Bus, BusStats
from apex.transaction import after_commit

CONNECT_SECONDS = 2
SILENCE_SECONDS = 10
CLOSE_SECONDS = 1
FLUSH_SECONDS = 0.01
OUTAGE_SYNC_SECONDS = 5
QUEUE = 10_000
BATCH = 100
MAX_AGE_SECONDS = 60
MAX_ORIGINS = 1_000
CLOCKS_DIFFER = 5
"""Seconds by which a message may be older than the process that receives it."""
REPORT_SECONDS = 60
"""Seconds between two log lines about refused messages."""

RATES_CONNECTIONS = 20
RATES_SECONDS = 2
OUTAGE_SECONDS = 1
"""Seconds for which the rates do not ask Redis after it has failed."""

# Each list has the moments of the requests in a window, the oldest first, by the clock of Redis. A script runs as one
# step for all processes.
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

FAILURES: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)

log: logging.Logger = logging.getLogger("apex")


def connect(url: str, seconds: float) -> Redis:
    """Return a client that does not retry.

    It raises an error at once if Redis cannot be reached, and if an answer takes longer than ``seconds``.
    """
    limits: dict[str, Any] = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": seconds}
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **limits)


def prefix_of(name: str) -> str:
    """Return the prefix of an app's names in Redis, which apps may share. ``name`` is the app's database."""
    return f"apex:{sha256(name.encode()).hexdigest()[:16]}"


class Signer:
    """Signs the messages of a channel with HMAC-SHA256 (RFC 2104). The keys are derived from an app's secrets.

    A message of an app with another secret, or for another channel, is refused. During a change of secrets a message
    carries two signatures, so that processes with the old and with the new secret understand each other. Without a
    secret everyone can derive the key.
    """

    def __init__(self, secrets: Sequence[str], channel: str) -> None:
        label = f"apex bus: {channel}".encode()
        self._keys = [hmac.digest(secret.encode(), label, "sha256") for secret in secrets or ("",)]

    def sign(self, text: bytes) -> bytes:
        """Return a message with its signatures in front."""
        return b"%b\n%b" % (b" ".join(self._signatures(text)), text)

    def open(self, signed: bytes) -> bytes:
        """Return the text of a signed message. Raises ValueError if none of its signatures is valid."""
        given, _, text = signed.partition(b"\n")
        valid = self._signatures(text)
        if not any(hmac.compare_digest(one, other) for one in given.split(b" ", 2)[:2] for other in valid):
            raise ValueError("is not signed with a secret of this app")
        return text

    def _signatures(self, text: bytes) -> list[bytes]:
        return [hmac.digest(key, text, "sha256").hex().encode() for key in self._keys]


class RedisBus(Bus):
    """Connects the processes that have the same ``name`` (the app's database) through one Redis.

    ``secrets`` returns the secrets that messages are signed with. A process handles a message at most once. It refuses
    a message without a valid signature, a repeated one, and one that is older than a minute or than the process.

    During an outage of Redis the app goes on. Up to ``QUEUE`` messages wait for at most ``MAX_AGE_SECONDS``. The
    functions of ``on_sync`` run every ``OUTAGE_SYNC_SECONDS``, and once more after the outage.
    """

    alone: bool = False

    def __init__(self, url: str, name: str, secrets: Callable[[], Sequence[str]] = tuple) -> None:
        super().__init__()
        self._stats: BusStats = BusStats()
        self.origin: str = uuid4().hex
        self.channel: str = prefix_of(name)
        self._url = url
        self._secrets = secrets
        self._since = time.time()
        self._reported = -float(REPORT_SECONDS)
        self._numbers = self._queued = self._settled = 0
        self._waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUE)
        self._seen: dict[str, int] = {}
        self._synced = 0.0

    @property
    def stats(self) -> BusStats:
        return self._stats

    def send(self, topic: str, message: Any) -> None:
        after_commit(partial(self._send, topic, message))

    def _send(self, topic: str, message: Any) -> None:
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
        """The signer, made with the first message, when the app has all of its settings."""
        return Signer(self._secrets(), self.channel)

    async def open(self) -> None:
        await super().open()
        self._since = time.time()
        # If the library reconnected by itself, the bus would not notice that messages were lost.
        self._redis = connect(self._url, SILENCE_SECONDS)
        self._tasks += [asyncio.create_task(self._receive()), asyncio.create_task(self._deliver())]

    async def close(self) -> None:
        """Wait a second for Redis to take the queued messages, and close."""
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
        """Send the queued messages in order. Retry each until Redis has taken it or it is too old."""
        while True:
            batch = [await self._waiting.get()]
            while not self._waiting.empty() and len(batch) < BATCH:
                batch.append(self._waiting.get_nowait())
            count = len(batch)
            backoff = Backoff()
            while batch and not await self._publish(batch):
                await backoff.wait()
                recent = [one for one in batch if time.monotonic() - one[0] < MAX_AGE_SECONDS]
                self.stats.dropped += len(batch) - len(recent)
                batch = recent
            self._settled += count
            for _ in range(count):
                self._waiting.task_done()

    async def _publish(self, batch: list[tuple[float, bytes]]) -> bool:
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
        """Receive messages while the app runs. After each new connection, sync, as messages may have been missed."""
        backoff = Backoff()
        while True:
            try:
                async with self._subscribed() as pubsub:
                    backoff = Backoff()
                    await self.sync()
                    await self._listen(pubsub)
            except FAILURES as error:
                self._note_outage(error)
            if time.monotonic() - self._synced >= OUTAGE_SYNC_SECONDS:
                await self.sync()
            await backoff.wait()

    @asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[PubSub]:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(self.channel)
            if await pubsub.get_message(timeout=SILENCE_SECONDS) is None:
                raise TimeoutError("the subscription was not answered")
            log.info("Redis is connected: the processes share events")
            self.stats.connected = True
            yield pubsub

    async def _listen(self, pubsub: PubSub) -> None:
        """Handle messages until the connection breaks or does not answer a ping."""
        is_pinged = False
        while True:
            message = await pubsub.get_message(timeout=SILENCE_SECONDS)
            if message is None and is_pinged:
                raise TimeoutError("the connection is silent")
            is_pinged = message is None
            if message is None:
                await pubsub.ping()
            elif message["type"] == "message":
                data: Any = message["data"]
                self._handle(data)

    def _handle(self, signed: bytes) -> None:
        """Handle a message of another process, unless it is refused."""
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
        """Raise ValueError for a message that someone may have recorded and sent again.

        A process that has just started does not know the numbers of the others yet. So it refuses messages from before
        its start.
        """
        now = time.time()
        if number <= self._seen.get(origin, 0):
            raise ValueError("is repeated")
        if not max(now - MAX_AGE_SECONDS, self._since) - CLOCKS_DIFFER <= moment <= now + MAX_AGE_SECONDS:
            raise ValueError(f"is {now - moment:.0f} seconds old")

    def _refuse(self, reason: ValueError) -> None:
        self.stats.refused += 1
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = time.monotonic()
            log.warning("Messages in Redis were refused, %d since the start: the last %s", self.stats.refused, reason)

    def _remember(self, origin: str, number: int) -> None:
        """Store the number of a process, and evict the process that has been silent for the longest time."""
        self._seen.pop(origin, None)
        self._seen[origin] = number
        if len(self._seen) > MAX_ORIGINS:
            del self._seen[next(iter(self._seen))]

    def _note_outage(self, error: BaseException) -> None:
        if self.stats.connected or not self._synced:
            log.warning("Redis cannot be reached, the processes do not share events: %s", type(error).__name__)
        self.stats.connected = False


class RedisRates(Rates):
    """Rates that all processes with the same ``name`` (the app's database) count together in Redis.

    During an outage of Redis the rates of ``otherwise`` count, by default those of this process alone.
    """

    def __init__(self, url: str, name: str = "", otherwise: Rates | None = None) -> None:
        super().__init__()
        self.otherwise: Rates = otherwise or Rates()
        self._prefix = f"{prefix_of(name)}:rates:"
        self._redis = connect(url, RATES_SECONDS)
        self._script = self._redis.register_script(TAKE)
        self._turns = asyncio.Semaphore(RATES_CONNECTIONS)
        self._outage_until = 0.0

    async def count(self, name: str, limit: int, window: int, taken: int = 1) -> Count:
        shared = await self._count_shared(name, limit, window, taken)
        return shared or await self.otherwise.count(name, limit, window, taken)

    @property
    def counted(self) -> int:
        return self.otherwise.counted

    async def _count_shared(self, name: str, limit: int, window: int, taken: int) -> Count | None:
        """Return the count in Redis, or None during an outage."""
        try:
            async with self._turns:
                if time.monotonic() < self._outage_until:
                    return None
                allowed, count, seconds = await self._script([self._prefix + name], [limit, window, taken])
        except FAILURES as error:
            log.warning("Redis cannot be reached, each process counts rate limits by itself: %s", type(error).__name__)
            self._outage_until = time.monotonic() + OUTAGE_SECONDS
            return None
        # Another program may have written to the list, so the result is limited to possible values.
        return bool(allowed), count, min(max(0.0, float(seconds)), float(window))

    async def close(self) -> None:
        await self.otherwise.close()
        await self._redis.aclose()


async def connection_error(url: str) -> str | None:
    """Return the name of the error with which a Redis cannot be reached, or None if it answers."""
    redis = connect(url, RATES_SECONDS)
    try:
        await redis.ping()
    except FAILURES as error:
        return type(error).__name__
    finally:
        await redis.aclose()
    return None
