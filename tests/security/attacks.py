"""Attacks on one method of a service, by the kind of the method. They are made from the registry."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from marshmallow import fields, validate
from websockets import ConnectionClosed

from apex.schema.validation import Schema, Text
from apex.service import BoundService
from apex.transports.batch import MOST_CALLS
from apex.types import STANDARD
from hooks.audit import API
from tests.security.stage import ATTACKER, MARK, VICTIM, Row, Stage, references

VERBS = {"find": "GET", "get": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "remove": "DELETE"}
REFUSALS = (400, 401, 403, 404, 405, 422)
OPEN = ("authentication",)
"""Services for those who are not logged in: nothing of a tenant is in them."""
BATCH = "batch"
"""The service that calls the others: each of them is attacked through it, too."""
SETTLING = ("api/webhook/crm",)
"""Services that answer each item of a list by itself: a wrong item is refused, and not the request."""


@dataclass(frozen=True)
class Attempt:
    """A call. ``must_fail`` says that it has no harmless answer, and ``must_lack`` is what no answer may contain."""

    method: str
    id: Any = None
    data: Any = None
    query: Any = None
    must_fail: bool = False
    must_lack: str = ""


def attempts(stage: Stage, path: str, method: str) -> Iterator[Attempt]:
    bound = stage.app.service(path)
    if method == "find":
        yield from _finds(stage, bound)
    elif method in ("get", "update", "patch", "remove"):
        yield from _on_records(stage, bound, method)
    else:
        yield from _with_data(stage, bound, method)


def _finds(stage: Stage, bound: BoundService) -> Iterator[Attempt]:
    ours, theirs = {"organization_id": ATTACKER}, {"organization_id": VICTIM}
    ids = _ids_of(stage, bound)
    filters: list[Row] = [{name: True} for name in getattr(bound.service, "filters", {})]
    for base in ({}, *filters):
        yield Attempt("find", query=base)
        yield Attempt("find", query=base | theirs)
        yield Attempt("find", query=base | {"organization_id": {"$in": [VICTIM, ATTACKER]}})
        yield Attempt("find", query=base | {"organization_id": {"$ne": ATTACKER}})
        for own in (ours, {}):
            yield Attempt("find", query=base | own | {"id": {"$in": ids}})
            yield Attempt("find", query=base | own | {"id": ids[0]})
            yield Attempt("find", query=base | own | {"$or": [theirs, {"id": {"$in": ids}}, {"id": {"$gt": 0}}]})
            yield Attempt("find", query=base | own | {"$and": [{"$or": [theirs, ours]}], "$limit": 100})
            yield Attempt("find", query=base | own | {"$limit": -1, "$skip": 0, "$sort": {"organization_id": 1}})
    for name in getattr(bound.service, "private", ()):
        if name not in _fields(bound):
            yield Attempt("find", query=ours | {"$select": [name]}, must_fail=True)
            yield Attempt("find", query=ours | {"$sort": {name: 1}}, must_fail=True)
            yield Attempt("find", query=ours | {name: {"$gt": ""}}, must_fail=True)
            yield Attempt("find", query=ours | {"$or": [{name: MARK}]}, must_fail=True)
    yield Attempt("find", query=ours | {"$select": ["organization.name"]})


def _on_records(stage: Stage, bound: BoundService, method: str) -> Iterator[Attempt]:
    data: Row | None = None if method in ("get", "remove") else {}
    schema: Any = getattr(bound.service, "schema", None)
    if data is not None and schema is not None:
        names = [name for name, one in schema().load_fields.items() if isinstance(one, Text)]
        data = {name: "stolen" for name in names[:1] if name not in schema.create_only}
    for id in _ids_of(stage, bound):
        for query in ({}, {"organization_id": ATTACKER}, {"organization_id": VICTIM}, {"$or": [{"id": {"$gt": 0}}]}):
            yield Attempt(method, id=id, data=data, query=query, must_fail=True)
    mine = stage.rows[ATTACKER].get(getattr(getattr(bound.service, "table", None), "name", ""), {})
    if mine and method in ("get", "patch"):
        yield Attempt(method, id=mine[bound.service.id], data=data and {})
    if mine and method == "patch":
        for name, (target, key) in _pointers(bound):
            theirs = {name: stage.rows[VICTIM][target][key]}
            yield Attempt(method, id=mine[bound.service.id], data=theirs, must_fail=True)
    if mine and method != "get":
        theirs = {"id": {"$in": _ids_of(stage, bound)}}
        for many in ({"organization_id": VICTIM}, {}, theirs | {"organization_id": VICTIM}):
            yield Attempt(method, id=None, data=data, query=many, must_fail=True)
        for either in (theirs, {"$or": [theirs, {"organization_id": VICTIM}]}):
            for own in ({"organization_id": ATTACKER}, {}):
                yield Attempt(method, id=None, data=data, query=own | either)


def _with_data(stage: Stage, bound: BoundService, method: str) -> Iterator[Attempt]:
    if (valid := body(stage, bound, method)) is not None:
        yield Attempt(method, data=valid)
        if "searchTerm" in valid:
            yield Attempt(method, data=valid | {"searchTerm": MARK})
        if "rows" in valid:
            yield from _imports(stage, bound, valid)
        if "source" in valid:
            yield from _events(stage, method, valid)
        if "custom_fields_by_name" in _fields(bound):
            # Were the victim's definitions read, its own would be suggested.
            near = {stage.rows[VICTIM]["custom_fields"]["name"][1:]: "x"}
            yield Attempt(method, data=valid | {"custom_fields_by_name": near})
        theirs = valid | {"organization_id": VICTIM}
        in_organization = "organization_id" in valid
        yield Attempt(method, data=theirs, must_fail=in_organization)
        yield Attempt(method, data=theirs, query={"organization_id": ATTACKER}, must_fail=in_organization)
        yield Attempt(method, data=[theirs], must_fail=True)
        yield Attempt(method, data=[valid, theirs], must_fail=True)
        yield Attempt(method, data=valid | {"id": stage.ids[0]})
        # A method that only reads takes what is the victim's for a filter, which then leaves nothing.
        reads = method in getattr(bound.service, "reads", ())
        for name, (target, key) in _pointers(bound):
            theirs = valid | {name: stage.rows[VICTIM][target][key]}
            yield Attempt(method, data=theirs, must_fail=not reads, must_lack='"count":')
        if "id" in valid:
            for id in _ids_of(stage, bound):
                yield Attempt(method, data=valid | {"id": id}, must_fail=True)
                yield Attempt(method, data=valid | {"id": [valid["id"], id]}, must_fail=True)


def _events(stage: Stage, method: str, valid: Row) -> Iterator[Attempt]:
    """Return events that would find the victim's records, alone and among others."""
    contact, company = (stage.rows[VICTIM][table] for table in ("contacts", "companies"))
    data = {"crm_id": contact["crm_id"], "company": company["name"], "id": contact["uuid"]}
    theirs = {"source": contact["crm_source"], "data": data}
    yield Attempt(method, data=theirs)
    yield Attempt(method, data=[valid, theirs, theirs])
    yield Attempt(method, data={**theirs, "data": [data, valid["data"]]})


def _imports(stage: Stage, bound: BoundService, valid: Row) -> Iterator[Attempt]:
    """Return rows that would find the victim's records, and rows that refer to them."""
    needed = bound.service.schema().load_fields.items()
    row = {name: _valid(one) for name, one in needed if one.required and name != "organization_id"}
    for key, columns in bound.service.import_keys.items():
        found = {name: stage.rows[VICTIM][bound.service.table.name][name] for name in columns}
        yield Attempt(
            "import", data=valid | {"rows": [row | found], "upsert": key, "dry_run": True}, must_lack='"updated":1'
        )
    for name, (target, column) in _pointers(bound):
        pointing = row | {name: stage.rows[VICTIM][target][column]}
        yield Attempt("import", data=valid | {"rows": [pointing], "dry_run": True}, must_lack='"created":1')


def body(stage: Stage, bound: BoundService, method: str) -> Row | None:
    """Return the smallest valid data of the method, about the attacker's own records."""
    own: type[Schema] | None = getattr(bound.service, "schema", None)
    schema = own if method in STANDARD else getattr(bound.service, "custom", {}).get(method)
    if schema is None:
        return None
    valid = dict(_required(stage, bound, schema()))
    return valid | {"id": stage.removed[ATTACKER][bound.service.table.name]["id"]} if method == "restore" else valid


def _required(stage: Stage, bound: BoundService, schema: Schema) -> Iterator[tuple[str, Any]]:
    pointers = dict(_pointers(bound))
    for name, one in schema.load_fields.items():
        key = one.data_key or name
        if key == "organization_id":
            yield key, ATTACKER
        elif name in pointers:
            target, column = pointers[name]
            yield key, stage.rows[ATTACKER][target][column]
        elif one.required and key == "id":
            yield key, stage.rows[ATTACKER][bound.service.table.name]["id"]
        elif name == "since":
            yield key, datetime.now(UTC).isoformat()  # All entries since then are there.
        elif one.required:
            yield key, one.metadata.get("example") or _valid(one)
        elif "example" in one.metadata:
            yield key, one.metadata["example"]


def _valid(one: fields.Field[Any]) -> Any:
    for rule in one.validators:
        if isinstance(rule, validate.OneOf):
            return next(iter(rule.choices))
    if isinstance(one, fields.Nested):
        return {name: _valid(inner) for name, inner in one.schema.load_fields.items() if inner.required}
    if isinstance(one, fields.Number):
        return 1
    return [] if isinstance(one, fields.List) else {} if isinstance(one, fields.Dict) else "spy"


def _pointers(bound: BoundService) -> Iterator[tuple[str, tuple[str, str]]]:
    """Return the fields of a service that refer to records, with the table and the column."""
    table = getattr(bound.service, "table", None)
    if table is None or not hasattr(table, "constraints"):
        return
    schema = getattr(bound.service, "schema", None)
    known = schema().load_fields if schema is not None else {}
    yield from ((name, target) for name, target in references(table) if name in known)


def _fields(bound: BoundService) -> Any:
    syntax = getattr(bound.service, "syntax", None)
    return (syntax.fields if syntax is not None else None) or {}


def _ids_of(stage: Stage, bound: BoundService) -> list[Any]:
    """Return the ids of the victim's records of a service, or if they are unknown, of all its records."""
    name = getattr(getattr(bound.service, "table", None), "name", "")
    rows = [rows[name] for rows in (stage.rows[VICTIM], stage.removed[VICTIM]) if name in rows]
    return [row[bound.service.id] for row in rows] or stage.ids


async def answers(stage: Stage, path: str, attempt: Attempt, turn: int) -> AsyncIterator[tuple[str, int, str]]:
    """Make the attempt over REST and over a socket, with a token and with a key."""
    one, other = proofs(turn)
    for organization in (VICTIM, ATTACKER) if is_dialect(stage.app.service(path)) else (VICTIM,):
        status, text = await _over_rest(stage, one, path, attempt, organization)
        yield f"REST as {one} in {organization}", status, text
    status, text = await _over_socket(stage, other, path, attempt)
    yield f"socket as {other}", status, text


def proofs(turn: int) -> tuple[str, str]:
    """Return the proof for REST, and the one for sockets and batches."""
    return ("user", "key") if turn % 2 else ("key", "user")


def is_dialect(bound: BoundService) -> bool:
    """Return True for a service of the other API, whose callers name their organization in a header."""
    return getattr(bound.service, "api", API) != API


async def _over_rest(stage: Stage, who: str, path: str, attempt: Attempt, organization: int) -> tuple[int, str]:
    method = attempt.method
    headers = stage.proofs[who] | ({} if method in STANDARD else {"x-service-method": method})
    headers["x-organization-id"] = str(stage.rows[organization]["organizations"]["uuid"])
    url = "/" + _filled(path) + ("" if attempt.id is None else "/" + quote(str(attempt.id), safe=""))
    options: Row = {"headers": headers}
    if method in ("find", "get"):
        options["json"] = {"query": attempt.query or {}}
    else:
        options["params"] = _flat(attempt.query)
        if attempt.data is not None:
            options["json"] = attempt.data
    response = await stage.http.request(VERBS.get(method, "POST"), url, **_jsonable(options))
    return response.status_code, response.text


async def in_batch(
    stage: Stage, path: str, attempts: Sequence[Attempt], turn: int
) -> AsyncIterator[tuple[Attempt, str, int, str]]:
    """Make the attempts in one batch."""
    _, who = proofs(turn)
    headers = stage.proofs[who] | {"x-organization-id": str(stage.rows[VICTIM]["organizations"]["uuid"])}
    calls = [_call(path, attempt) for attempt in attempts]
    response = await stage.http.post("/batch", **_jsonable({"headers": headers, "json": {"calls": calls}}))
    for attempt, settled in zip(attempts, response.json(), strict=True):
        status = settled.get("reason", {"code": 200})["code"]
        yield attempt, f"batch as {who} in {VICTIM}", status, json.dumps(settled)


def _call(path: str, attempt: Attempt) -> list[Any]:
    given = [getattr(attempt, name) for name in STANDARD.get(attempt.method, ("data",))]
    return [attempt.method, _filled(path), *given, attempt.query or {}]


async def _over_socket(stage: Stage, who: str, path: str, attempt: Attempt) -> tuple[int, str]:
    asked = json.dumps(_call(path, attempt), default=str)
    try:
        answer = await stage.sockets[who].ask(asked)
    except ConnectionClosed:  # An attack has changed the attacker's own rights.
        await stage.connect()
        answer = await stage.sockets[who].ask(asked)
    status = 200 if len(answer) > 1 else int(answer[0]["code"])
    return status, json.dumps(answer)


def _filled(path: str) -> str:
    """Return the path, with the victim in its placeholders."""
    return "/".join(str(VICTIM) if part.startswith(":") else part for part in path.split("/"))


def _flat(query: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    items = query.items() if isinstance(query, dict) else enumerate(query or [])
    for name, value in items:
        key = f"{prefix}[{name}]" if prefix else str(name)
        flat |= _flat(value, key) if isinstance(value, dict | list) else {key: value}
    return flat


def _jsonable(options: Row) -> Row:
    if "json" in options:
        options = {**options, "content": json.dumps(options.pop("json"), default=str)}
        options["headers"] = options["headers"] | {"content-type": "application/json"}
    return options


async def attack(stage: Stage, path: str, method: str) -> int:
    """Assert that a method reveals nothing of the victim. Return the number of attempts."""
    tried = 0
    batches: tuple[list[Attempt], list[Attempt]] = ([], [])
    for turn, attempt in enumerate(attempts(stage, path, method)):
        async for way, status, text in answers(stage, path, attempt, turn):
            _judge(stage, path, attempt, way, status, text)
            tried += 1
        batches[turn % 2].append(attempt)
    for turn, batch in enumerate(batches):
        for start in range(0, len(batch), MOST_CALLS):
            async for attempt, way, status, text in in_batch(stage, path, batch[start : start + MOST_CALLS], turn):
                _judge(stage, path, attempt, way, status, text)
                tried += 1
    return tried


def _judge(stage: Stage, path: str, attempt: Attempt, way: str, status: int, text: str) -> None:
    """Assert that an answer reveals nothing of the victim."""
    told = f"{attempt} of {path} over {way}: {status} {text[:300]}"
    assert status < 500, told
    status = _settled(path, attempt, status, text)
    foreign = is_dialect(stage.app.service(path)) and way.endswith(str(VICTIM))
    assert not (attempt.must_fail or foreign) or status in REFUSALS, told
    shown = _victims_ids(stage, text)
    assert status in REFUSALS or not shown, f"{told} shows {shown}"
    given = attempt.data is not None and MARK in str(attempt.data)
    assert MARK not in text or given, told
    assert not attempt.must_lack or attempt.must_lack not in text.replace(" ", ""), told


def _settled(path: str, attempt: Attempt, status: int, text: str) -> int:
    """Return the status of an attempt. If a list has an answer for each item, return the last status."""
    if path in SETTLING and isinstance(attempt.data, list) and status == 200:
        answer = json.loads(text)
        status = (answer["value"] if isinstance(answer, dict) else answer)[-1]["status"]
    return status


def _victims_ids(stage: Stage, text: str) -> set[str]:
    """Return the ids of the victim in an answer."""
    found = set(re.findall(r"[0-9a-f-]{36}|[0-9]{7,}", text))
    return found & {str(id) for id in stage.ids} if found else found
