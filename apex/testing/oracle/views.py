"""Views: the records of a service as one client knows them, by its last read and the events since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from apex.types import Row


@dataclass(frozen=True, slots=True)
class Event:
    """An event as a client has received it, with its offset in the log if the client shows that."""

    service: str
    name: str
    record: Any
    offset: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A record that a client shows otherwise than ``find`` does. None means that the record is not there."""

    client: str
    service: str
    id: Any
    shown: Row | None
    found: Row | None

    def __str__(self) -> str:
        fields = [name for name in {**(self.shown or {}), **(self.found or {})} if self._differs(name)]
        if self.shown is None or self.found is None:
            has, has_not = ("find", self.client) if self.shown is None else (self.client, "find")
            return f"{self.service} {self.id}: {has} has it, and {has_not} does not"
        values = (f"{name} is {self.shown.get(name)!r} and not {self.found.get(name)!r}" for name in fields)
        return f"{self.service} {self.id}: for {self.client}, {', '.join(values)}"

    def _differs(self, name: str) -> bool:
        return self.shown is not None and self.found is not None and self.shown.get(name) != self.found.get(name)


class View:
    """The records of one service, as a careful client keeps them.

    Events that arrive while the client reads are applied to what it has read. With a ``query`` of values the view has
    only the records with these values::

        view = View("notes", {"team_id": 1})
        view.begin()
        view.end([{"id": 1, "team_id": 1, "text": "hello"}])
        view.apply(Event("notes", "patched", {"id": 1, "team_id": 1, "text": "hello again"}))
    """

    def __init__(self, service: str, query: Mapping[str, Any] | None = None, id: str = "id") -> None:
        self.service: str = service
        self.query: Mapping[str, Any] = query or {}
        self.id: str = id
        self.records: dict[Any, Row] = {}
        self.read: dict[Any, Row] = {}
        """The records of the last read alone."""
        self._waiting: list[Event] | None = None

    def begin(self) -> None:
        """Begin to read. Events wait for the end."""
        self._waiting = []

    def end(self, records: Iterable[Row]) -> None:
        """Replace all records with those that were read, and apply the events since ``begin``."""
        self.read = {record[self.id]: record for record in records}
        self.records = dict(self.read)
        waiting, self._waiting = self._waiting or [], None
        for event in waiting:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Apply an event. One without a record with an id changes nothing."""
        if self._waiting is not None:
            self._waiting.append(event)
            return
        if not isinstance(event.record, Mapping) or self.id not in event.record:
            return
        matches = all(event.record.get(name) == value for name, value in self.query.items())
        if event.name == "removed" or not matches:
            self.records.pop(event.record[self.id], None)
        elif event.name in ("created", "updated", "patched"):
            self.records[event.record[self.id]] = dict(event.record)

    def settle(self) -> None:
        """Count the records of now as those of the last read."""
        self.read = dict(self.records)

    def differences(self, client: str, found: Iterable[Row]) -> list[Difference]:
        """Return the records that differ from those that ``find`` gives now."""
        now = {record[self.id]: record for record in found}
        return [
            Difference(client, self.service, id, self.records.get(id), now.get(id))
            for id in sorted(self.records.keys() | now.keys(), key=str)
            if self.records.get(id) != now.get(id)
        ]
