"""The counts of the log in this process, which metrics and ``apex log status`` show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class LogStats:
    """The counts of the log since the start of this process: ``app.log.stats``.

    ``written`` counts the entries that the process has stored, ``handled`` those that its follower has handed on, and
    ``pruned`` those that it has deleted, as too old or too many. ``replays`` counts the clients that got everything
    that they had missed, ``refused_replays`` those that were told to read again.

    ``last_id`` is the id of the last handled entry. ``behind`` is 0 if all entries are handled, else the number of
    those in the last read, as more follow. ``read_at`` is the moment of the last read to the end, in seconds of
    ``time.monotonic``, and None while the log is not followed. ``kept_entries`` and ``kept_bytes`` are those of the
    recent entries in memory. ``waiting`` is the number of calls that wait for an entry. ``webhooks`` are those of the
    service for webhooks, if the app has one.
    """

    written: int = 0
    handled: int = 0
    pruned: int = 0
    replays: int = 0
    refused_replays: int = 0
    last_id: int = 0
    behind: int = 0
    read_at: float | None = None
    kept_entries: int = 0
    kept_bytes: int = 0
    waiting: int = 0
    webhooks: WebhookStats | None = None


@dataclass(slots=True)
class WebhookStats:
    """The counts of the deliveries to webhooks since the start of this process.

    ``delivered`` and ``failed`` count its attempts, and ``disabled`` the webhooks that it has given up. ``waiting`` is
    the number of messages in the database that wait for another attempt.
    """

    delivered: int = 0
    failed: int = 0
    disabled: int = 0
    waiting: int = 0
