"""Cursors: what goes in comes out, for who made it and for the list it was made for alone."""

from __future__ import annotations

import subprocess
import sys
from base64 import urlsafe_b64decode
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex import Apex
from apex.adapters.cursors import Cursors, Place, beyond
from apex.adapters.memory import MemoryService
from apex.encoding import encode
from apex.errors import BadRequest
from apex.query.language import EVERYTHING, Compare, Junction, every

ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=-3, minutes=-30))])
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])), st.datetimes(timezones=ZONES), st.dates(), st.times(),
    st.decimals(allow_nan=False, allow_infinity=False), st.uuids(),
)  # fmt: skip
PLACES = st.lists(VALUES, max_size=4).map(tuple)
ORDER = (("name", 1), ("id", 1))
TAG = 16
"""Bytes that authenticate the others."""
FOREIGN = r"\$after is no cursor of this list: use it with the query that it came from"
SECRET = "a secret of at least thirty-two bytes"


@given(PLACES)
def test_a_place_comes_out_as_it_went_in(place: Place) -> None:
    cursor = Cursors(SECRET, "a").encrypt(place, ORDER, EVERYTHING)
    opened = Cursors(SECRET, "a").decrypt(cursor, ORDER, EVERYTHING)
    assert (opened, list(map(type, opened))) == (place, list(map(type, place)))
    assert cursor.isascii()
    assert cursor.replace("-", "").replace("_", "").isalnum()


@given(PLACES, st.data())
def test_any_other_byte_is_refused(place: Place, data: st.DataObject) -> None:
    cursors = Cursors(SECRET)
    cursor = cursors.encrypt(place, ORDER, EVERYTHING)
    where = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.characters(codec="latin-1").filter(lambda letter: letter != cursor[where]))
    with pytest.raises(BadRequest, match=FOREIGN):
        cursors.walk("$after", cursor[:where] + other + cursor[where + 1 :], ORDER, EVERYTHING)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda some: some.hex()))
def test_any_other_text_is_refused(text: str) -> None:
    if text:
        with pytest.raises(BadRequest, match=FOREIGN):
            Cursors(SECRET).walk("$after", text, ORDER, EVERYTHING)


@pytest.mark.parametrize(
    ("secret", "path", "order", "where"),
    [
        (SECRET + "!", "a", ORDER, EVERYTHING),
        (None, "a", ORDER, EVERYTHING),
        (SECRET, "b", ORDER, EVERYTHING),
        (SECRET, "a", (("name", 1), ("id", -1)), EVERYTHING),
        (SECRET, "a", ORDER, Compare("age", "$eq", 1)),
    ],
)
def test_a_cursor_is_for_one_secret_service_order_and_predicate(
    secret: str | None, path: str, order: Any, where: Any
) -> None:
    cursor = Cursors(SECRET, "a").encrypt(("x", 1), ORDER, EVERYTHING)
    with pytest.raises(BadRequest, match=FOREIGN):
        Cursors(secret, path).walk("$after", cursor, order, where)


def test_the_order_of_conditions_does_not_matter() -> None:
    one, two = Compare("age", "$eq", 1), Junction("or", (Compare("b", "$eq", None), Compare("a", "$gt", 2)))
    other = Junction("or", tuple(reversed(two.parts)))
    cursors = Cursors()
    cursor = cursors.encrypt((1, 2), ORDER, every(one, two))
    assert cursors.decrypt(cursor, ORDER, every(other, one)) == (1, 2)
    for wrong in (Junction("or", (one, two)), every(one, Junction("and", other.parts)), one, two):
        with pytest.raises(BadRequest, match=FOREIGN):
            cursors.walk("$after", cursor, ORDER, wrong)


def test_a_cursor_shows_nothing_of_its_place() -> None:
    place = ("a hidden value", 1)
    encrypted = urlsafe_b64decode(Cursors(SECRET).encrypt(place, ORDER, EVERYTHING) + "==")
    others = urlsafe_b64decode(Cursors(SECRET).encrypt(("a hidden valuf", 1), ORDER, EVERYTHING) + "==")
    assert b"hidden" not in encrypted
    same = [one == other for one, other in zip(encrypted[TAG:], others[TAG:], strict=True)]
    assert sum(same) < len(same) / 2, "equal texts look alike"


@pytest.mark.parametrize("value", [[1], {"a": 1}, float("nan"), float("inf"), 1j, object()])
def test_a_value_without_a_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="has no place in a cursor"):
        Cursors().encrypt((value,), ORDER, EVERYTHING)


def test_what_comes_beyond_a_place() -> None:
    moment = datetime(2023, 1, 1, tzinfo=UTC)
    assert beyond((("id", 1),), (7,)) == Compare("id", "$above", 7)
    assert beyond((("at", -1), ("id", -1)), (moment, 7)) == every(
        Compare("at", "$upto", moment), Junction("or", (Compare("at", "$below", moment), Compare("id", "$below", 7)))
    )


async def test_processes_with_the_same_secret_know_each_others_cursors() -> None:
    async def first(secret: str | None, cursor: str) -> Any:
        settings = {} if secret is None else {"authentication": {"secret": secret}}
        store = {n: {"id": n} for n in range(3)}
        app = Apex(settings).use("things", MemoryService(store=store, paginate={"default": 2}))
        await app.setup()
        return await app.service("things").find({"query": {"$after": cursor}})

    cursor = (await first(SECRET, ""))["next"]
    assert (await first(SECRET, cursor))["data"] == [{"id": 2}]
    for secret in (SECRET + "!", None):
        with pytest.raises(BadRequest, match=FOREIGN):
            await first(secret, cursor)


async def test_a_list_is_not_walked_by_what_has_no_order_in_a_cursor() -> None:
    rows = {n: {"id": n, "tags": [n], **{f"f{field}": n for field in range(40)}} for n in range(3)}
    service = MemoryService(store=rows, paginate={"default": 2})
    app = Apex().use("things", service)
    find = app.service("things").find
    with pytest.raises(BadRequest, match=r"\$after does not go with this order: list has no place in a cursor"):
        await find({"query": {"$after": "", "$sort": {"tags": 1}}})
    with pytest.raises(BadRequest, match=r"\$sort must have at most 32 fields beside \$before"):
        await find({"query": {"$before": "", "$sort": {f"f{field}": 1 for field in range(40)}}})
    page = await find({"query": {"$after": "", "$sort": {"id": -1, **{f"f{field}": 1 for field in range(40)}}}})
    assert [row["id"] for row in page["data"]] == [2, 1]


async def test_values_of_mixed_types_are_walked_in_their_order() -> None:
    values = [True, "b", None, 2, "a", 1.5, False, None, "2"]
    store = {n: {"id": n, "value": value} for n, value in enumerate(values)}
    app = Apex().use("things", MemoryService(store=store, paginate={"default": 2}))
    for direction in (1, -1):
        query = {"$sort": {"value": direction}}
        listed = await app.service("things").find({"query": query, "paginate": False})
        found: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await app.service("things").find({"query": {**query, "$after": cursor}})
            found, cursor = found + page["data"], page["next"]
        assert found == listed


def test_days_and_hours_are_places() -> None:
    place = (date(2023, 1, 31), time(12, 30, 0, 1), Decimal("1.50"), None)
    cursors = Cursors()
    assert cursors.decrypt(cursors.encrypt(place, ORDER, EVERYTHING), ORDER, EVERYTHING) == place


@given(PLACES)
def test_a_cursor_is_short(place: Place) -> None:
    written = encode([str(value) for value in place])
    assert len(Cursors(SECRET).encrypt(place, ORDER, EVERYTHING)) < 24 + 4 / 3 * (len(written) + 16 * len(place))


def test_a_cursor_of_an_earlier_version_is_refused() -> None:
    with pytest.raises(BadRequest, match=FOREIGN):
        Cursors(SECRET, "a").walk("$after", "DLmZfmeEwjK24n-Fc7TN_4yo-E2jVHA", ORDER, EVERYTHING)


def test_the_cipher_is_loaded_with_the_first_cursor() -> None:
    code = (
        "import sys; from apex.adapters.cursors import Cursors; Cursors('x'); assert 'cryptography' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
