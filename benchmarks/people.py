"""Many contacts with names in realistic frequencies, and search terms for them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any
from uuid import UUID

import psycopg

from apex.encoding import timestamp
from hooks.search_forms import normalise

ORGANIZATION, USER = 456, 789
FIRST_NAMES, LAST_NAMES = 2_000, 20_000
COMMON = 30
"""The n-th name is as frequent as 1 / (n + COMMON): the most common first name has 0.8 % of all people."""

_ONSETS = ["b", "br", "c", "ch", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "sh", "st", "t", "v", "w"]
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ea", "ia", "ou"]
_CODAS = ["", "", "", "l", "n", "r", "s", "m", "nd", "rt", "ck"]

START = datetime(2024, 1, 1, tzinfo=UTC)

COLUMNS = (
    "uuid", "first_name", "last_name", "email", "phone", "phone_country_code", "phone_country_iso", "organization_id",
    "created_at", "updated_at", "created_by_user_id", "owned_by_user_id", "system_type", "custom_fields_by_name",
    "first_name_form", "last_name_form", "email_form",
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    first: str
    last: str
    email: str
    phone: str


def names(count: int, syllables: int, chance: random.Random) -> list[str]:
    """Return different made-up names."""
    found: dict[str, None] = {}
    while len(found) < count:
        parts = (chance.choice(_ONSETS) + chance.choice(_VOWELS) + chance.choice(_CODAS) for _ in range(syllables))
        found["".join(parts).capitalize()] = None
    return list(found)


def people(count: int, seed: int = 1) -> Iterator[Person]:
    """Yield people, the same ones for the same seed."""
    chance = random.Random(seed)
    firsts, lasts = names(FIRST_NAMES, 2, chance), names(LAST_NAMES, 3, chance)
    first_weights, last_weights = (list(accumulate(1 / (n + COMMON) for n in range(len(x)))) for x in (firsts, lasts))
    for number in range(count):
        first = chance.choices(firsts, cum_weights=first_weights)[0]
        last = chance.choices(lasts, cum_weights=last_weights)[0]
        email = f"{first}.{last}{number % 1000}@{lasts[number % 5000]}.example.com".lower()
        yield Person(first, last, email, f"{chance.randrange(2_000_000_000, 9_999_999_999)}")


Owner = tuple[int, int]
"""The organization of a contact and the user who owns it."""


def _always(number: int) -> Owner:
    return ORGANIZATION, USER


def settled(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection whose commits are in the log at once: only then VACUUM takes their rows for visible to all, and a
    count finds them in the index alone.
    """
    return psycopg.connect(url, autocommit=True, options="-c synchronous_commit=on")


def load(
    url: str,
    count: int,
    values: Callable[[int], str] = lambda number: "{}",
    owner: Callable[[int], Owner] = _always,
) -> None:
    """Copies people into contacts, by default into one organization on top of the demo data; ``values`` gives the
    custom fields of the n-th as JSON, ``owner`` whose it is.
    """
    with settled(url) as connection:
        with connection.cursor().copy(f"COPY contacts ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            for number, person in enumerate(people(count)):
                copy.write_row(row(number, person, values(number), owner(number)))
        connection.execute("VACUUM (ANALYZE) contacts, contact_values")


def row(number: int, person: Person, values: str, owner: Owner) -> tuple[object, ...]:
    """Return the n-th contact in the order of ``COLUMNS``."""
    organization, user = owner
    moment = timestamp(START + timedelta(seconds=number))
    return (
        str(UUID(int=number + 1)), person.first, person.last, person.email, person.phone, "+1", "US", organization,
        moment, moment, user, user, "contact", values,
        normalise(person.first), normalise(person.last), normalise(person.email),
    )  # fmt: skip


def terms(count: int, seed: int = 2) -> dict[str, list[tuple[str, str]]]:
    """Return search terms by kind, each with the field to search, taken from existing people."""
    chance = random.Random(seed)
    sample = chance.sample(list(people(50_000)), count)
    return {
        "full name": [("name", f"{person.first} {person.last}") for person in sample],
        "last name": [("name", person.last) for person in sample],
        "first name": [("name", person.first) for person in sample],
        "start of an e-mail": [("email", person.email.partition("@")[0][:12]) for person in sample],
        "seven digits of a phone": [("phone", person.phone[2:9]) for person in sample],
    }
