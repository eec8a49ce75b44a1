"""The time per call with and without each cache and each fast path, in one process.

``python -m benchmarks micro``. It is processor time, and the best of several rounds counts: what else a machine does
only ever adds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from timeit import Timer
from typing import Any

import marshmallow
from email_validator import validate_email
from sqlalchemy import select
from starlette.responses import Response
from starlette.routing import Match, Route

from apex import load_config
from apex.auth import Tokens
from apex.hooks import steps_of_call
from apex.migrations.migrate import upgrade
from apex.query import querystring
from apex.query.language import Compare, Syntax, _Parser, every
from apex.router import Router
from apex.schema.validation import EmailField, Schema
from apex.sql.clauses import Clauses
from apex.sql.statements import DIALECTS, Statement, StatementCache, compiled
from benchmarks.people import ORGANIZATION, USER, people
from services.app import CONFIG, create_app
from services.commands.demo_data import load_demo
from services.contacts import ContactSchema
from services.contacts import contacts as table

ROUNDS = 5
SECRET = "a secret of benchmarks, which is longer than a hash of it would be"
PEOPLE = 1_000
CALLS = 100
ORGANIZED = {"organization_id": ORGANIZATION}

Case = tuple[str, Callable[[], Any], Callable[[], Any]]
"""A subject, with the slow and the fast function."""


def main() -> None:
    print("| what | without µs | with µs | ratio |\n|---|---:|---:|---:|")
    for cases in (tokens, memberships, contacts, queries, statements, chains, paths):
        for name, without, with_ in cases():
            slow, fast = microseconds(without), microseconds(with_)
            print(f"| {name} | {slow:.2f} | {fast:.2f} | {slow / fast:.1f} |", flush=True)


def microseconds(function: Callable[[], Any]) -> float:
    """Return the time of one call."""
    timer = Timer(function, timer=time.process_time)
    number, _ = timer.autorange()
    return min(timer.repeat(ROUNDS, number)) / number * 1e6


def tokens() -> Iterator[Case]:
    """Verify the tokens of many people in turn."""
    here = Tokens(SECRET, {})
    made = cycle([here.create(number)[0] for number in range(PEOPLE)])
    nested = cycle([here.create(number, {"roles": ["admin"]})[0] for number in range(PEOPLE)])
    yield "a token is verified", lambda: here._verify(next(made)), lambda: here.verify(next(made))
    yield "one with a list in it", lambda: here._verify(next(nested)), lambda: here.verify(next(nested))


def memberships() -> Iterator[Case]:
    """Read the memberships of one user repeatedly, on SQLite."""
    with TemporaryDirectory() as directory, asyncio.Runner() as runner:
        url = f"sqlite:///{Path(directory) / 'crm.db'}"
        upgrade(url)
        app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": url}))
        service = app.service("memberships").service

        def calls(once: Callable[[int], Awaitable[Any]]) -> Callable[[], None]:
            async def all_of_them() -> None:
                for _ in range(CALLS):
                    await once(USER)

            return lambda: runner.run(all_of_them())

        runner.run(app.setup())
        runner.run(load_demo(app))
        yield f"the memberships of {CALLS} calls", calls(service._read), calls(service.of_user)
        runner.run(app.teardown())


def contacts() -> Iterator[Case]:
    """Validate the data of people in turn. The slow function is marshmallow's own load."""
    made = list(people(PEOPLE))
    short = [{"first_name": one.first, "last_name": one.last, "email": one.email} for one in made]
    phones = [{"phone": one.phone, "phone_country_code": "+1", "phone_country_iso": "US"} for one in made]
    whole, patch = ContactSchema(), ContactSchema(partial=tuple(ContactSchema().fields))
    yield "a contact to create is checked", *loads(whole, [one | ORGANIZED for one in short])
    yield "one with a phone", *loads(whole, [one | more | ORGANIZED for one, more in zip(short, phones, strict=True)])
    yield "a patch of its name", *loads(patch, [{"first_name": one.first} for one in made])
    field, emails = EmailField(max=254), cycle([one.email for one in made])
    yield (
        "an e-mail address",
        lambda: validate_email(next(emails), check_deliverability=False).normalized,
        lambda: field.deserialize(next(emails)),
    )


def queries() -> Iterator[Case]:
    """Parse the query strings of a list and a get."""
    page = f"organization_id={ORGANIZATION}&$limit=25&$sort[created_at]=-1"
    yield "the query string of a page", lambda: querystring._parse(page), lambda: querystring.parse(page)
    syntax = Syntax({})
    yield "no query at all", lambda: _Parser(syntax).parse({}), lambda: syntax.parse({})


def statements() -> Iterator[Case]:
    """Read the contacts of a tenant, building the statement or looking it up by its shape."""
    dialect = DIALECTS["postgresql"]
    clauses, known = Clauses(table, dialect), StatementCache()
    where = every(Compare("organization_id", "$eq", ORGANIZATION), Compare("deleted_at", "$eq", None))

    def build() -> Statement:
        return compiled(select(table).where(clauses.clause(where)), dialect)

    yield "a statement", build, lambda: known.get(clauses.shape(where, {}), build)


def chains() -> Iterator[Case]:
    """Run a get with hooks composed for the call or at registration."""
    with TemporaryDirectory() as directory:
        url = f"sqlite:///{Path(directory) / 'crm.db'}"
        app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": url}))
        bound = app.service("contacts")
        call = bound.service.get
        yield (
            "the hooks of a get",
            lambda: steps_of_call(app.store, bound._store, "get", call),
            lambda: bound._steps["get"],
        )


def paths() -> Iterator[Case]:
    """Find one of thirty services by Starlette's routes or by the tree of paths."""
    names = [f"services-{number}" for number in range(29)] + ["contacts"]
    routes = [Route(f"/{name}/{{id}}", lambda request: Response()) for name in names]
    scope = {"type": "http", "method": "GET", "path": "/contacts/123"}
    router: Router[str] = Router()
    for name in names:
        router.insert(name, name)
    yield (
        "a service is found",
        lambda: next(route for route in routes if route.matches(scope)[0] is Match.FULL),
        lambda: router.lookup(["contacts", "123"]),
    )


def loads(schema: Schema, rows: list[dict[str, Any]]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    each = cycle(rows)
    return lambda: marshmallow.Schema.load(schema, next(each)), lambda: schema.load(next(each))
