"""The history of writes as the database itself has it: triggers write each stored state into a table of their own.

The oracle of ``apex.testing`` compares views. This history also tells which event was missed, which came out of order,
and which client saw something that it must not see.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError

from apex.errors import Unavailable
from apex.testing.oracle import Event, Follower

SERVICES = ("notes", "tasks")
GRACE_SECONDS = 1.0
"""Seconds until a change of a role holds in all processes."""
OPERATIONS = {"INSERT": "created", "UPDATE": "patched", "DELETE": "removed"}

POSTGRES = [
    """CREATE TABLE history (seq bigserial PRIMARY KEY, service text, event text, record_id bigint, team_id bigint,
       stamp bigint, xid xid8 DEFAULT pg_current_xact_id())""",
    """CREATE FUNCTION record_history() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE one record;
    BEGIN
        IF TG_OP = 'DELETE' THEN one := OLD; ELSE one := NEW; END IF;
        INSERT INTO history (service, event, record_id, team_id, stamp)
        VALUES (TG_TABLE_NAME, TG_OP, one.id, one.team_id, one.stamp);
        RETURN NULL;
    END $$""",
    *(
        f"CREATE TRIGGER history AFTER INSERT OR UPDATE OR DELETE ON {name}"
        " FOR EACH ROW EXECUTE FUNCTION record_history()"
        for name in SERVICES
    ),
]
SQLITE = [
    """CREATE TABLE history (seq integer PRIMARY KEY AUTOINCREMENT, service text, event text, record_id integer,
       team_id integer, stamp integer)""",
    *(
        f"CREATE TRIGGER history_{name}_{operation} AFTER {operation} ON {name} BEGIN"
        f" INSERT INTO history (service, event, record_id, team_id, stamp)"
        f" VALUES ('{name}', '{operation}', {row}.id, {row}.team_id, {row}.stamp); END"
        for name in SERVICES
        for operation, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"))
    ),
]


@dataclass(frozen=True, slots=True)
class State:
    """A stored state of a record."""

    seq: int
    service: str
    event: str
    id: int
    team: int
    stamp: int

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.service, self.event, self.id, self.stamp


@dataclass
class Faults:
    """The numbers of what went wrong, and the first of each kind as sentences."""

    missed: int = 0
    disordered: int = 0
    stale: int = 0
    forbidden: int = 0
    different: int = 0
    stories: list[str] = field(default_factory=list)

    def note(self, kind: str, text: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.stories.append(f"{kind}: {text}")

    @property
    def total(self) -> int:
        return self.missed + self.disordered + self.stale + self.forbidden + self.different

    def __str__(self) -> str:
        return (
            f"{self.missed} events missed, {self.disordered} out of order,"
            f" {self.stale} times the last event was not the last state,"
            f" {self.forbidden} seen without the right, {self.different} records of views differ from find"
        )


class History:
    """The history of a database."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(
            url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT", pool_pre_ping=True
        )
        self.is_postgres = url.startswith("postgresql")

    def install(self) -> None:
        """Create the table and the triggers."""
        with self.engine.connect() as connection:
            for statement in POSTGRES if self.is_postgres else SQLITE:
                connection.exec_driver_sql(statement)

    def snapshot(self) -> str:
        """Return a text that tells which states are stored now."""
        query = "SELECT pg_current_snapshot()" if self.is_postgres else "SELECT coalesce(max(seq), 0) FROM history"
        with self.engine.connect() as connection:
            return str(connection.exec_driver_sql(query).scalar_one())

    def since(self, connection: Connection, snapshot: str) -> list[State]:
        """Return the states that a snapshot did not have, the oldest first."""
        known = (
            "pg_visible_in_snapshot(xid, CAST(:snapshot AS pg_snapshot))"
            if self.is_postgres
            else "seq <= CAST(:snapshot AS integer)"
        )
        query = f"SELECT seq, service, event, record_id, team_id, stamp FROM history WHERE NOT {known} ORDER BY seq"
        rows = connection.execute(text(query), {"snapshot": snapshot})
        return [State(row[0], row[1], OPERATIONS[row[2]], *row[3:]) for row in rows]


class Rights:
    """The roles of users in teams, with the times of their changes."""

    def __init__(self) -> None:
        self._changes: dict[tuple[int, int], list[tuple[float, float, str | None]]] = defaultdict(list)

    def change(self, user: int, team: int, role: str | None, begun: float) -> None:
        """Note a change that began at a moment and is now done."""
        self._changes[user, team].append((begun, time.monotonic(), role))

    def now(self, user: int, team: int) -> str | None:
        """Return the role of a user in a team."""
        changes = self._changes.get((user, team))
        return changes[-1][2] if changes else None

    def within(self, user: int, team: int, since: float, until: float) -> set[str | None]:
        """Return the roles that a user may have had at a time between two moments."""
        changes = self._changes.get((user, team), [])
        ends = [end + GRACE_SECONDS for _, end, _ in changes[1:]] + [float("inf")]
        return {role for (begun, _, role), end in zip(changes, ends, strict=True) if begun <= until and since <= end}


@dataclass(frozen=True, slots=True)
class Heard:
    """An event that a follower has received at a moment."""

    key: tuple[str, str, int, int]
    team: int
    has_secret: bool
    at: float


class Witness:
    """Compares the events that a follower has received since its last read with the history."""

    def __init__(self, follower: Follower, user: int, history: History, rights: Rights) -> None:
        self.follower, self.user, self.history, self.rights = follower, user, history, rights
        self.snapshot = ""
        self.heard: list[Heard] = []
        self.all: list[tuple[Heard, float]] = []
        self.connected_at = time.monotonic()
        self._tell_event, self._tell_connection = follower.on_event, follower.on_connection
        follower.on_read, follower.on_event, follower.on_connection = self._begin, self._hear, self._connect

    async def _begin(self, follower: Follower) -> None:
        # An event before this moment is about a state that the read will find.
        try:
            self.snapshot = self.history.snapshot()
        except OperationalError as error:
            raise Unavailable("The database restarts") from error
        self.heard = []

    def _connect(self, follower: Follower, text: str) -> None:
        self._tell_connection(follower, text)
        self.connected_at = time.monotonic()

    def _hear(self, follower: Follower, event: Event) -> None:
        self._tell_event(follower, event)
        if event.service in SERVICES:
            record, name = event.record, "patched" if event.name == "updated" else event.name
            key = (event.service, name, record["id"], record["stamp"])
            heard = Heard(key, record["team_id"], "secret" in record, time.monotonic())
            self.heard.append(heard)
            self.all.append((heard, self.connected_at))

    def restart(self) -> None:
        """Forget what was compared. The follower shows what ``find`` gives, and nobody writes."""
        self.snapshot, self.heard = self.history.snapshot(), []
        for view in self.follower.views.values():
            view.settle()

    def check(self, connection: Connection, begun: Mapping[int, float], faults: Faults) -> None:
        """Note what was missed, disordered or forbidden. ``begun`` has the moment of each write by its stamp."""
        states: dict[tuple[str, int], list[State]] = defaultdict(list)
        for state in self.history.since(connection, self.snapshot):
            states[state.service, state.id].append(state)
        heard: dict[tuple[str, int], list[tuple[str, str, int, int]]] = defaultdict(list)
        for one in self.heard:
            heard[one.key[0], one.key[2]].append(one.key)
        for record, history in states.items():
            if self.rights.now(self.user, history[0].team) is not None:
                self._check_record(record, history, heard.get(record, []), faults)
        for one, connected_at in self.all:
            self._check_right(one, max(begun.get(one.key[3], 0.0), connected_at), faults)
        self.all.clear()

    def _check_record(
        self,
        record: tuple[str, int],
        history: list[State],
        heard: list[tuple[str, str, int, int]],
        faults: Faults,
    ) -> None:
        name, places = self.follower.name, {state.key: state.seq for state in history}
        read = self.follower.views[record[0]].read.get(record[1])
        seen_at = max((state.seq for state in history if read and state.stamp == read["stamp"]), default=0)
        required = [state for state in history if state.seq > seen_at]
        for state in required:
            if state.key not in heard:
                faults.note("missed", f"{name} did not get {state.key}")
        newest = 0
        for key in dict.fromkeys(heard):
            # States that the read has found may come once more.
            place = places.get(key, 0)
            if 0 < place < newest:
                faults.note("disordered", f"{name} got {key} after a newer state")
            newest = max(newest, place)
        if history[-1].key in heard and heard[-1] != history[-1].key:
            faults.note("stale", f"{name} got {heard[-1]} last, after {history[-1].key}")

    def _check_right(self, one: Heard, since: float, faults: Faults) -> None:
        roles = self.rights.within(self.user, one.team, since, one.at) - {None}
        if not roles or (one.has_secret and roles == {"viewer"}):
            faults.note("forbidden", f"{self.follower.name} got {one.key} with the roles {sorted(map(str, roles))}")
