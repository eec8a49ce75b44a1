"""A check before measuring: the servers must give the same answers to the same requests."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from typing import Any

import psycopg

from benchmarks import load
from benchmarks.servers import Server
from benchmarks.tenants import Tenants, encoded, new_contact, sample

Answer = tuple[int, Any]
"""Status and body."""

OWN = ("id", "created_at", "updated_at")
"""The fields of a new contact that each server sets itself."""


def ask(port: int, method: str, path: str, token: str | None, data: Any = None) -> Answer:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection.request(method, path, None if data is None else encoded(data).encode(), headers)
    response = connection.getresponse()
    try:
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def list_path(organization: int) -> str:
    return f"/contacts?organization_id={organization}&%24limit=25&%24sort%5Bcreated_at%5D=-1"


def require_same(servers: Mapping[str, Server], tenants: Tenants, kinds: Sequence[str]) -> None:
    """Raises SystemExit when an answer to one of ``kinds`` differs, or a server does not keep strangers out.

    A create comes last: it changes what lists answer.
    """
    for kind in sorted(kinds, key=load.KINDS.index):
        answers = {name: ANSWERS[kind](server.port, tenants) for name, server in servers.items()}
        first, expected = next(iter(answers.items()))
        for name, answer in answers.items():
            if answer != expected:
                raise SystemExit(f"{kind}: {first} answers {_short(expected)}, {name} answers {_short(answer)}")
    for name, server in servers.items():
        _require_sealed(name, server, tenants)
    print(f"The same answers: {', '.join(servers)}; {', '.join(kinds)}", flush=True)


def _get(port: int, tenants: Tenants) -> Answer:
    mine = sample(tenants)
    return ask(port, "GET", f"/contacts/{mine['id']}", mine["token"])


def _list(port: int, tenants: Tenants) -> Answer:
    mine = sample(tenants)
    return ask(port, "GET", list_path(mine["organization"]), mine["token"])


def _create(port: int, tenants: Tenants) -> Answer:
    mine = sample(tenants)
    status, body = ask(port, "POST", "/contacts", mine["token"], new_contact(mine["organization"], 77_777))
    return status, {name: value for name, value in body.items() if name not in OWN}


ANSWERS = {"get": _get, "list": _list, "create": _create}


def _short(answer: Answer) -> str:
    return textwrap.shorten(str(answer), 1_500)


def _require_sealed(name: str, server: Server, tenants: Tenants) -> None:
    """Check that a server refuses requests without a token, for another organization, and with wrong data."""
    mine = sample(tenants)
    get, token, organization = f"/contacts/{mine['id']}", mine["token"], mine["organization"]
    stranger, wrong = mine["id"] % tenants.organizations + 1, {**new_contact(organization, 1), "email": "nowhere"}
    refused = {
        "without a token": ask(server.port, "GET", get, None),
        "for a signature that is wrong": ask(server.port, "GET", get, token[:-4] + "AAAA"),
        "for a stranger's contact": ask(server.port, "GET", f"/contacts/{stranger}", token),
        "for a stranger's list": ask(server.port, "GET", list_path(organization + 1), token),
        "for an e-mail address that is none": ask(server.port, "POST", "/contacts", token, wrong),
    }
    for what, (status, body) in refused.items():
        if not 400 <= status < 500:
            raise SystemExit(f"{name} answers {status} {what}: {body}")


def require_audit(url: str, tenants: Tenants) -> None:
    """Raises SystemExit unless each contact that was created has its entry."""
    with psycopg.connect(url) as connection:
        created = connection.execute("SELECT count(*) FROM contacts WHERE id > %s", (tenants.contacts,)).fetchone()
        recorded = connection.execute("SELECT count(DISTINCT record_id) FROM audit").fetchone()
    if created != recorded:
        raise SystemExit(f"{created} contacts were created, and {recorded} are in the audit")
