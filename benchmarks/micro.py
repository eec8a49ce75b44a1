"""What is remembered or taken the short way, with and without: time per call, in one process.

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

from apex import brackets, load_config
from apex.migrate import upgrade
from apex.query import Syntax, _Parser
from apex.schema import Email, Schema
from apex.tokens import Tokens
from benchmarks.people import ORGANIZATION, USER, people
from services.app import CONFIG, create_app
from services.contacts import ContactSchema
from services.demo import load_demo

ROUNDS = 5
SECRET = "a secret of benchmarks, which is longer than a hash of it would be"
PEOPLE = 1_000
CALLS = 100
ORGANIZED = {"organization_id": ORGANIZATION}

Case = tuple[str, Callable[[], Any], Callable[[], Any]]
"""What is done, without and with what makes it fast."""


def main() -> None:
    print("| what | without µs | with µs | ratio |\n|---|---:|---:|---:|")
    for cases in (tokens, memberships, contacts, queries):
        for name, without, with_ in cases():
            slow, fast = microseconds(without), microseconds(with_)
            print(f"| {name} | {slow:.2f} | {fast:.2f} | {slow / fast:.1f} |", flush=True)


def microseconds(function: Callable[[], Any]) -> float:
    """Of one call."""
    timer = Timer(function, timer=time.process_time)
    number, _ = timer.autorange()
    return min(timer.repeat(ROUNDS, number)) / number * 1e6


def tokens() -> Iterator[Case]:
    """The tokens of as many people, each in turn."""
    here = Tokens(SECRET, {})
    made = cycle([here.create(number)[0] for number in range(PEOPLE)])
    nested = cycle([here.create(number, {"roles": ["admin"]})[0] for number in range(PEOPLE)])
    yield "a token is verified", lambda: here._verify(next(made)), lambda: here.verify(next(made))
    yield "one with a list in it", lambda: here._verify(next(nested)), lambda: here.verify(next(nested))


def memberships() -> Iterator[Case]:
    """Those of one user, who calls again and again, on SQLite."""
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
    """Data of people in turn; without is marshmallow's own load."""
    made = list(people(PEOPLE))
    short = [{"first_name": one.first, "last_name": one.last, "email": one.email} for one in made]
    phones = [{"phone": one.phone, "phone_country_code": "+1", "phone_country_iso": "US"} for one in made]
    whole, patch = ContactSchema(), ContactSchema(partial=tuple(ContactSchema().fields))
    yield "a contact to create is checked", *loads(whole, [one | ORGANIZED for one in short])
    yield "one with a phone", *loads(whole, [one | more | ORGANIZED for one, more in zip(short, phones, strict=True)])
    yield "a patch of its name", *loads(patch, [{"first_name": one.first} for one in made])
    field, emails = Email(max=254), cycle([one.email for one in made])
    yield (
        "an e-mail address",
        lambda: validate_email(next(emails), check_deliverability=False).normalized,
        lambda: field.deserialize(next(emails)),
    )


def queries() -> Iterator[Case]:
    """Of a list and of a get."""
    page = f"organization_id={ORGANIZATION}&$limit=25&$sort[created_at]=-1"
    yield "the query string of a page", lambda: brackets._parse(page), lambda: brackets.parse(page)
    syntax = Syntax({})
    yield "no query at all", lambda: _Parser(syntax).parse({}), lambda: syntax.parse({})


def loads(schema: Schema, rows: list[dict[str, Any]]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    each = cycle(rows)
    return lambda: marshmallow.Schema.load(schema, next(each)), lambda: schema.load(next(each))
