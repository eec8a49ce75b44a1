"""Tests of password hashes: the supported kinds, and their cost for the server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex import Apex, AuthenticationService, MemoryService
from apex.auth.passwords import AT_ONCE, QUEUE, Passwords, hash_password
from apex.errors import Unavailable
from apex.limits.queues import FairQueue
from tests.auth.test_jwt import SECRET

T = TypeVar("T")

QUICK = {"time_cost": 1, "memory_cost": 8, "parallelism": 1}
# A published test vector: the password is U*U.
OF_FEATHERS = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"


class Watched(Passwords):
    """Passwords that count the running hashes, and their maximum."""

    def __init__(self) -> None:
        super().__init__(QUICK)
        self.lock = threading.Lock()
        self.worked = self.working = self.most = 0

    async def _run(self, function: Callable[[], T]) -> T:
        return await super()._run(lambda: self.watch(function))

    def watch(self, function: Callable[[], T]) -> T:
        with self.lock:
            self.worked += 1
            self.working += 1
            self.most = max(self.most, self.working)
        try:
            return function()
        finally:
            with self.lock:
                self.working -= 1


async def test_a_password_belongs_to_its_hash_alone() -> None:
    passwords = Passwords(QUICK)
    stored = await passwords.hash("pässword")
    assert stored.startswith("$argon2id$")
    assert await passwords.verify(stored, "pässword")
    assert not await passwords.verify(stored, "password")
    assert not await passwords.verify(stored, "")


async def test_each_hash_has_its_own_salt() -> None:
    passwords = Passwords(QUICK)
    assert await passwords.hash("a") != await passwords.hash("a")


async def test_a_hash_of_feathers_is_verified() -> None:
    passwords = Passwords(QUICK)
    for prefix in ("$2a$", "$2b$"):
        stored = OF_FEATHERS.replace("$2a$", prefix)
        assert await passwords.verify(stored, "U*U")
        assert not await passwords.verify(stored, "U*V")


async def test_bcrypt_reads_the_first_72_bytes() -> None:
    stored = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert await Passwords(QUICK).verify(stored, "x" * 72 + "ignored")
    assert not await Passwords(QUICK).verify(stored, "x" * 71)


async def test_hashes_of_feathers_and_of_other_settings_are_outdated() -> None:
    stored = await Passwords(QUICK).hash("p")
    assert Passwords(QUICK).is_outdated(OF_FEATHERS)
    assert not Passwords(QUICK).is_outdated(stored)
    assert Passwords({**QUICK, "time_cost": 2}).is_outdated(stored)


@pytest.mark.parametrize("stored", ["", "x", "plain text", "$2a$", "$2b$10$short", "$argon2id$v=19$m=8", "$1$md5$x"])
async def test_a_malformed_hash_matches_no_password(stored: str) -> None:
    passwords = Passwords(QUICK)
    assert not await passwords.verify(stored, stored)
    assert not await passwords.verify(stored, "")


async def test_a_password_of_any_length_costs_the_same() -> None:
    passwords = Watched()
    with pytest.raises(ValueError, match="at most 1024 characters"):
        await passwords.hash("x" * 1025)
    assert not await passwords.verify(OF_FEATHERS, "x" * 1_000_000)
    assert not await passwords.verify(None, "x" * 1_000_000)
    assert passwords.worked == 0
    assert await passwords.verify(await passwords.hash("x" * 1024), "x" * 1024)


@pytest.mark.parametrize("stored", [None, OF_FEATHERS, "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAA"])
async def test_without_a_hash_as_much_work_is_done(stored: str | None) -> None:
    passwords = Watched()
    for _ in range(3):
        assert not await passwords.verify(stored, "p")
    assert passwords.worked == 3


async def test_few_hashes_are_worked_on_at_once() -> None:
    passwords = Watched()
    stored = await passwords.hash("p")
    assert all(await asyncio.gather(*(passwords.verify(stored, "p") for _ in range(20))))
    assert passwords.most <= AT_ONCE
    assert passwords.worked == 21


async def test_the_event_loop_runs_while_a_hash_is_computed() -> None:
    passwords, released = Passwords(QUICK), threading.Event()
    waiting = asyncio.create_task(passwords._run(lambda: released.wait(10)))
    done: list[Any] = [await asyncio.sleep(0, n) for n in range(100)]
    assert (len(done), waiting.done()) == (100, False)
    released.set()
    assert await waiting


async def test_a_cancelled_hash_keeps_its_place_until_it_ends() -> None:
    passwords, released = Watched(), threading.Event()
    busy = [asyncio.create_task(passwords._run(lambda: released.wait(10))) for _ in range(AT_ONCE * 3)]
    await asyncio.sleep(0)
    for task in busy[: AT_ONCE * 2]:
        task.cancel()
    released.set()
    await asyncio.gather(*busy, return_exceptions=True)
    assert await passwords.hash("p")
    assert passwords.most <= AT_ONCE


async def test_a_long_queue_is_sent_away() -> None:
    passwords = Passwords(QUICK)
    stored = await passwords.hash("secret")
    answers = await asyncio.gather(
        *(passwords.verify(stored, "secret") for _ in range(QUEUE + 5)), return_exceptions=True
    )
    assert answers.count(True) == QUEUE
    assert [type(answer) for answer in answers].count(Unavailable) == 5
    assert await passwords.verify(stored, "secret")


# The fair queue.


async def in_order(turns: FairQueue, *asked: tuple[str, ...]) -> list[str]:
    """Return names in the order in which they are served, with ``-`` before refused ones. All wait for the first one.

    A name is the last of its parties.
    """
    served: list[str] = []
    go = asyncio.Event()

    async def take(*parties: str) -> None:
        try:
            async with turns.turn(parties):
                served.append(parties[-1])
                await go.wait()
        except Unavailable:
            served.append(f"-{parties[-1]}")

    tasks = []
    for parties in asked:
        tasks.append(asyncio.create_task(take(*parties)))
        await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*tasks)
    return served


async def test_a_rare_party_is_served_before_a_frequent_one() -> None:
    guesses = [("guesser", f"guess{number}") for number in range(4)]
    assert await in_order(FairQueue(1, 10, "Busy"), *guesses, ("home", "ann")) == [
        "guess0", "guess1", "ann", "guess2", "guess3",
    ]  # fmt: skip


async def test_many_addresses_that_guess_one_account_are_one_party() -> None:
    guesses = [(f"address{number}", "ann") for number in range(4)]
    assert await in_order(FairQueue(1, 10, "Busy"), *guesses, ("home", "ben")) == [
        "ann",
        "ann",
        "ben",
        "ann",
        "ann",
    ]


async def test_a_full_queue_refuses_the_most_frequent_party() -> None:
    guesses = [("guesser", f"guess{number}") for number in range(5)]
    served = await in_order(FairQueue(1, 4, "Busy"), *guesses, ("home", "ann"), ("office", "ben"))
    assert served == ["guess0", "-guess4", "-guess3", "-guess2", "guess1", "ann", "ben"]


async def test_a_party_that_was_refused_starts_over_once_all_is_quiet() -> None:
    turns = FairQueue(1, 2, "Busy")
    await in_order(turns, *[("guesser", f"guess{number}") for number in range(50)])
    assert await in_order(turns, ("guesser", "a"), ("home", "b")) == ["a", "b"]


@given(
    asked=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("123")), max_size=30),
    cancelled=st.sets(st.integers(0, 29)),
    most=st.integers(1, 8),
)
async def test_every_turn_that_is_taken_is_given_back(
    asked: list[tuple[str, str]], cancelled: set[int], most: int
) -> None:
    turns, working, seen = FairQueue(2, most, "Busy"), 0, [0]

    async def take(*parties: str) -> None:
        nonlocal working
        async with turns.turn(parties):
            working += 1
            seen.append(working)
            try:
                await asyncio.sleep(0)
            finally:
                working -= 1

    tasks = [asyncio.create_task(take(*parties)) for parties in asked]
    await asyncio.sleep(0)
    for number in cancelled & set(range(len(tasks))):
        tasks[number].cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in ended} <= {type(None), Unavailable, asyncio.CancelledError}
    assert max(seen) <= 2
    assert await in_order(turns, ("z", "free")) == ["free"]
    assert (turns._working, turns._waiting, turns._last) == (0, {}, {})


async def test_the_hook_stores_hashes_in_place_of_passwords() -> None:
    app = Apex({"authentication": {"secret": SECRET, "argon2": QUICK}})
    app.use("authentication", AuthenticationService(app))
    users = app.use("users", MemoryService(multi=True), hooks={"before": {"all": [hash_password()]}}).service("users")
    ann, bob = await users.create([{"password": "correct horse"}, {"name": "Bob"}])
    assert await app.get("defaultAuthentication").passwords.verify(ann["password"], "correct horse")
    assert bob == {"name": "Bob", "id": 1}
    assert (await users.patch(0, {"password": "battery"}))["password"] != "battery"
    assert (await users.patch(0, {"name": "Ann"}))["password"] != "battery"
