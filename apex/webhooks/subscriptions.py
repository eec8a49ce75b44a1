"""The events that a webhook is for: ``notes created``, ``notes *`` or ``*``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from apex.events import EVENTS
from apex.log.rights import FOR_NOBODY
from apex.query.language import shortened, suggestion

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.service import BoundService

EVERY = "*"
MOST_EVENTS = 100
LONGEST_EVENT = 310


class Subscription:
    """The events of a webhook, ready to be compared with entries of the log."""

    __slots__ = ("names", "services")

    def __init__(self, events: Iterable[str]) -> None:
        self.names: frozenset[str] = frozenset(events)
        self.services: list[str] | None = None
        if EVERY not in self.names:
            self.services = sorted({name.rpartition(" ")[0] for name in self.names})

    def has(self, service: str | None, event: str) -> bool:
        """Return True if a webhook is for an event of a service. Messages between processes have no service."""
        if service is None:
            return False
        names = self.names
        return f"{service} {event}" in names or f"{service} {EVERY}" in names or EVERY in names


def require_events(events: Any, known: Mapping[str, Sequence[str]], unread: Collection[str] = ()) -> None:
    """Raise ValueError unless events are a list of those in ``known``, which maps services to their events.

    ``unread`` are the services whose events nobody may read.
    """
    if not isinstance(events, list | tuple) or not 1 <= len(events) <= MOST_EVENTS:
        raise ValueError(f"Must be a list of 1 to {MOST_EVENTS} events, such as 'notes created' or 'notes *'")
    for name in events:
        if not isinstance(name, str):
            raise ValueError("Must be a list of texts")
        service, _, event = name.rpartition(" ")
        if name == EVERY or (event == EVERY and service in known) or event in known.get(service, ()):
            continue
        if service in known:
            hint = suggestion(event, known[service])
            raise ValueError(f"There is no event '{shortened(name)}'.{hint} '{service} *' stands for all of them")
        if service in unread:
            raise ValueError(f"The events of '{service}' are for nobody: {FOR_NOBODY}")
        hint = suggestion(service or name, known)
        raise ValueError(f"There is no event '{shortened(name)}'.{hint} Write a service, a space and an event")


def events_of(app: Apex, services: Iterable[str], tenant: str | None) -> dict[str, list[str]]:
    """Return the events of services by path. With ``tenant``, only of services whose records belong to tenants."""
    return dict(_events_of(app, services, tenant))


def _events_of(app: Apex, services: Iterable[str], tenant: str | None) -> Iterator[tuple[str, list[str]]]:
    for path in services:
        bound = app.services[path]
        policy = bound._policy
        if not bound._is_logged or (tenant and policy is not None and policy.tenant is None):
            continue
        if events := sorted(_names(bound)):
            yield path, events


def _names(bound: BoundService) -> set[str]:
    stores = any(method in EVENTS for method in bound._hookable)
    return {*(EVENTS.values() if stores else ()), *bound._options.events}
