"""Attacks of one tenant on another, made from the services of an app: they must reveal and change nothing.

``Attacks.prepare`` makes a record of each service for a victim and for an attacker, through the app itself. Each test
then attacks one method with the ids and texts of the victim, over REST and inside a batch. A service that is added
later is attacked too, as soon as the tests name a record for it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from apex.app import Apex
from apex.query.querystring import write
from apex.types import STANDARD, VERBS, Row

__all__ = ["MARK", "Attacks", "attackable"]

MARK: str = "canary-of-the-victim"
"""The text that marks the records of the victim. No answer to the attacker may show it."""

REFUSALS: tuple[int, ...] = (400, 401, 403, 404, 405, 409, 422)

Maker = Callable[[Mapping[str, Row], str], Row]
"""A function that returns the data of a new record, from the records made before by service, and a text to put in."""


class HTTPClient(Protocol):
    """An HTTP client that is logged in, such as ``httpx2.AsyncClient``."""

    @property
    def request(self) -> Callable[..., Awaitable[Any]]:
        """The coroutine function that sends a request. Its response has ``status_code``, ``text`` and ``json()``."""
        ...


def attackable(
    app: Apex, *, apart: tuple[str, ...] = ("authentication", "batch", "password-resets")
) -> list[tuple[str, str]]:
    """Return the path and method of everything that callers outside can reach, for ``pytest.mark.parametrize``.

    ``apart`` names services that hold nothing of a tenant.
    """
    return [
        (path, method) for path, bound in app.services.items() if path not in apart for method in bound._options.methods
    ]


@dataclass(frozen=True)
class Attempt:
    """A call of the attacker.

    With ``must_fail`` it has no harmless answer, and with ``must_be_empty`` it must find nothing.
    """

    method: str
    id: Any = None
    data: Any = None
    query: Row = field(default_factory=dict[str, Any])
    must_fail: bool = False
    must_be_empty: bool = False


class Attacks:
    """The records of a victim and of an attacker, and the attacks on each method.

    ::

        RECORDS = {"notes": lambda made, text: {"text": text}}
        attacks = await Attacks.prepare(app, victim=bob, attacker=ann, records=RECORDS, tenant="team_id")
        for path, method in attackable(app):
            await attacks.run(path, method)

    ``theirs`` and ``ours`` are the records of the victim and of the attacker, by service.
    """

    def __init__(
        self, app: Apex, victim: HTTPClient, attacker: HTTPClient, tenant: str, records: Mapping[str, Maker]
    ) -> None:
        self.app: Apex = app
        self.victim: HTTPClient = victim
        self.attacker: HTTPClient = attacker
        self.tenant: str = tenant
        self.records: Mapping[str, Maker] = records
        self.theirs: dict[str, Row] = {}
        self.ours: dict[str, Row] = {}
        self.data: dict[str, Row] = {}

    @classmethod
    async def prepare(
        cls, app: Apex, *, victim: HTTPClient, attacker: HTTPClient, records: Mapping[str, Maker], tenant: str
    ) -> Attacks:
        """Make a record of each service for both, and return the attacks.

        ``victim`` and ``attacker`` are clients of users in two tenants. ``records`` makes the data by service, in an
        order in which each refers to those before. The process itself makes those that no caller can create. ``tenant``
        is the field with the tenant of a record. Raises AssertionError if one of them may not make its own records, as
        the attacks would prove nothing then.
        """
        attacks = cls(app, victim, attacker, tenant, records)
        for path, make in records.items():
            attacks.data[path] = make(attacks.ours, "harmless")
            for client, made, data in (
                (victim, attacks.theirs, make(attacks.theirs, MARK)),
                (attacker, attacks.ours, attacks.data[path]),
            ):
                made[path] = await attacks._made(client, path, data)
        return attacks

    async def add(self, path: str, *, theirs: Any, ours: Any) -> None:
        """Add records of a service that exist already, by the ids of the victim's and of the attacker's."""
        key = self._key(path)
        self.theirs[path] = await self._read(self.victim, path, {key: theirs})
        self.ours[path] = await self._read(self.attacker, path, {key: ours})

    async def run(self, path: str, method: str) -> int:
        """Attack a method, and return the number of attempts. It is 0 if no record of the service is known.

        Raises AssertionError if an answer shows a record of the victim, if a call of the attacker succeeds that has no
        harmless answer, or if a record of the victim is not as it was.
        """
        tried = 0
        if path not in self.theirs:
            return tried
        for attempt in self._attempts(path, method):
            for way in (self._over_rest, self._in_batch):
                status, text = await way(path, attempt)
                self._require_harmless(path, attempt, status, text)
                tried += 1
        await self._require_unchanged(f"After {method} of {path}")
        return tried

    # Attempts.

    def _attempts(self, path: str, method: str) -> Iterator[Attempt]:
        if method == "find":
            yield from self._finds(path)
        elif method == "create":
            yield from self._creates(path)
        elif method in STANDARD:
            yield from self._on_records(path, method)
        else:
            yield from self._custom(path, method)

    def _finds(self, path: str) -> Iterator[Attempt]:
        theirs, ours = ({self.tenant: value} for value in self._tenants(path))
        id, key = self._id(path), self._key(path)
        yield Attempt("find")
        yield Attempt("find", query=theirs)
        yield Attempt("find", query={self.tenant: {"$ne": ours[self.tenant]}})
        yield Attempt("find", query={self.tenant: {"$in": [theirs[self.tenant], ours[self.tenant]]}})
        yield Attempt("find", query={key: {"$in": [id]}})
        yield Attempt("find", query={"$or": [theirs, {key: id}, {key: {"$gt": 0}}]})
        yield Attempt("find", query={"$and": [{"$or": [theirs, ours]}], "$limit": 100})
        yield Attempt("find", query={"$limit": -1, "$sort": {self.tenant: 1}})
        for name, value in self.theirs[path].items():
            if isinstance(value, str) and MARK in value:
                yield Attempt("find", query={name: value}, must_be_empty=True)
                yield Attempt("find", query={"$or": [{name: {"$gte": MARK}}, {name: value}]})
        service = self.app.service(path).service
        relations: Mapping[str, Any] = getattr(service, "relations", {})
        if relations:
            yield Attempt("find", query={"$populate": list(relations)})
        for relation, one in relations.items():
            for name, value in self.theirs.get(one.service, {}).items():
                if isinstance(value, str) and MARK in value:
                    yield Attempt("find", query={f"{relation}.{name}": value}, must_be_empty=True)
        if getattr(service, "searchable", ()):
            yield Attempt("find", query={"$search": MARK}, must_be_empty=True)

    def _creates(self, path: str) -> Iterator[Attempt]:
        data = self._valid(path)
        yield Attempt("create", data=data | {self.tenant: self._tenants(path)[0]}, must_fail=self.tenant in data)
        yield Attempt("create", data=[data | {self.tenant: self._tenants(path)[0]}])
        for name, value in self._pointers(path):
            yield Attempt("create", data=data | {name: value}, must_fail=True)
        yield Attempt("create", data=data | {self._key(path): self._id(path)})

    def _on_records(self, path: str, method: str) -> Iterator[Attempt]:
        data = self._valid(path) if method == "update" else self._change(path) if method == "patch" else None
        id, key, theirs = self._id(path), self._key(path), {self.tenant: self._tenants(path)[0]}
        for query in ({}, theirs, {"$or": [{key: {"$gt": 0}}]}):
            yield Attempt(method, id=id, data=data, query=query, must_fail=True)
        if method == "get":
            yield Attempt(method, id=id, query={"$select": [self.tenant]}, must_fail=True)
            return
        if data is not None:
            mine = self.ours[path][key]
            yield Attempt(method, id=mine, data=data | theirs)
            for name, value in self._pointers(path):
                yield Attempt(method, id=mine, data=data | {name: value}, must_fail=True)
        if method != "update":
            for query in (theirs, {key: {"$in": [id]}}, {"$or": [theirs, {key: id}]}):
                yield Attempt(method, data=data, query=query)

    def _custom(self, path: str, method: str) -> Iterator[Attempt]:
        id, theirs = self._id(path), {self.tenant: self._tenants(path)[0]}
        for data in ({}, theirs, {"id": id}, {"id": [id]}, {"id": id} | theirs, self._valid(path) | theirs):
            yield Attempt(method, data=data)
            yield Attempt(method, data=data, query=theirs)

    def _key(self, path: str) -> str:
        return str(getattr(self.app.service(path).service, "id", "id"))

    def _id(self, path: str) -> Any:
        return self.theirs[path][self._key(path)]

    def _tenants(self, path: str) -> tuple[Any, Any]:
        """Return the tenants of the victim and of the attacker."""
        found = [
            next((row[self.tenant] for row in (made.get(path, {}), *made.values()) if self.tenant in row), None)
            for made in (self.theirs, self.ours)
        ]
        return found[0], found[1]

    def _valid(self, path: str) -> Row:
        return dict(self.data.get(path, {}))

    def _change(self, path: str) -> Row:
        """Return data that changes a text of a record."""
        texts = (name for name, value in self._valid(path).items() if isinstance(value, str))
        name = next(texts, None)
        return {} if name is None else {name: "stolen"}

    def _pointers(self, path: str) -> Iterator[tuple[str, Any]]:
        """Yield the fields of the data that refer to another record, with the id of the victim's.

        Relations and foreign keys tell which fields those are.
        """
        service, data = self.app.service(path).service, self._valid(path)
        refers = {
            relation.key or f"{name}_id": relation.service
            for name, relation in getattr(service, "relations", {}).items()
            if relation.kind == "belongs_to"
        }
        tables = {getattr(bound.service, "table", None): other for other, bound in self.app.services.items()}
        for column in getattr(getattr(service, "table", None), "columns", ()):
            for foreign in column.foreign_keys:
                refers.setdefault(column.name, tables.get(foreign.column.table, ""))
        for name, other in refers.items():
            if name in data and name != self.tenant and other in self.theirs:
                yield name, self.theirs[other][self._key(other)]

    # Calls and their answers.

    async def _over_rest(self, path: str, attempt: Attempt) -> tuple[int, str]:
        url = f"/{path}" + ("" if attempt.id is None else f"/{quote(str(attempt.id), safe='')}")
        query = write(attempt.query)
        options: dict[str, Any] = {} if attempt.data is None else {"json": attempt.data}
        if attempt.method not in STANDARD:
            options["headers"] = {"X-Service-Method": attempt.method}
        verb = VERBS.get(attempt.method, "POST")
        response = await self.attacker.request(verb, f"{url}?{query}" if query else url, **options)
        return int(response.status_code), str(response.text)

    async def _in_batch(self, path: str, attempt: Attempt) -> tuple[int, str]:
        """Make the call inside a batch. Return 405 if the app has no batches."""
        if "batch" not in self.app.services:
            return 405, ""
        given = [getattr(attempt, name) for name in STANDARD.get(attempt.method, ("data",))]
        calls = [[attempt.method, path, *given, attempt.query]]
        response = await self.attacker.request("POST", "/batch", json={"calls": calls})
        if response.status_code >= 300:
            return int(response.status_code), str(response.text)
        (settled,) = response.json()
        status = 200 if settled["status"] == "fulfilled" else int(settled["reason"]["code"])
        return status, json.dumps(settled.get("value", settled.get("reason")), ensure_ascii=False)

    def _require_harmless(self, path: str, attempt: Attempt, status: int, text: str) -> None:
        told = f"{attempt} of {path}: {status} {text[:500]}"
        assert status < 500, told
        assert status in REFUSALS or not attempt.must_fail, told
        if status in REFUSALS:  # An error may repeat what the attacker has sent.
            assert MARK not in text or MARK in str(attempt.query), told
            return
        assert MARK not in text, told
        answer = json.loads(text) if text else None
        rows = answer.get("data", [answer]) if isinstance(answer, dict) else answer
        rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        assert not (attempt.must_be_empty and rows), told
        tenant, ours = self._tenants(path)
        if tenant is not None and tenant != ours:
            assert [row for row in rows if row.get(self.tenant) == tenant] == [], told

    async def _require_unchanged(self, when: str) -> None:
        """Assert that the victim still reads its records as they were made."""
        for path, row in self.theirs.items():
            found = await self._read(self.victim, path, row)
            assert found == row, f"{when} the victim's record of {path} is {found}, and was {row}"

    async def _made(self, client: HTTPClient, path: str, data: Row) -> Row:
        if "create" not in self.app.service(path)._options.methods:
            return await self._read(client, path, await self.app.service(path).create(data))
        response = await client.request("POST", f"/{path}", json=data)
        assert response.status_code in (200, 201), f"{path} could not be made of {data}: {response.text}"
        return await self._read(client, path, response.json())

    async def _read(self, client: HTTPClient, path: str, row: Row) -> Row:
        """Return a record as its owner reads it now, or as it is if the service has no ``get``."""
        if "get" not in self.app.service(path)._options.methods:
            return row
        response = await client.request("GET", f"/{path}/{quote(str(row[self._key(path)]), safe='')}")
        found: Row = response.json() if response.status_code == 200 else {"status": response.status_code}
        return found
