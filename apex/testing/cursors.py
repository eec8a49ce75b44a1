"""The rules of ``$after``, ``$before`` and ``$total``."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from apex.errors import BadRequest
from apex.service import BoundService
from apex.testing.basics import Contract, names, raises, within

PAGES = {"default": 2, "max": 3}
NAMES = ("", "a", "Z", "é", "\U0001f600", "a\nb", "\u2028", None)
AGES = (-(2**31), 0, 7, 2**31 - 1, None)
TIMES = ("2023-01-01T00:00:00.010Z", "2023-01-01T00:00:00.011Z", "0999-12-31T00:00:00Z", None)
SORTABLE = ("name", "age", "created", "time")


def some_rows(chance: random.Random, most: int) -> list[dict[str, Any]]:
    """Return rows with many equal values and with nulls. ``extra`` differs, because a store may assign an id again."""
    return [
        {
            "name": chance.choice(NAMES),
            "age": chance.choice(AGES),
            "created": chance.choice((True, False, None)),
            "time": chance.choice(TIMES),
            "extra": {"is": chance.random()},
        }
        for _ in range(chance.randint(0, most))
    ]


async def walk(
    service: BoundService, name: str, query: Mapping[str, Any], most: int = 99
) -> list[list[dict[str, Any]]]:
    """Return all pages, from the beginning with ``$after`` or from the end with ``$before``."""
    pages, cursor = [], ""
    while cursor is not None:
        page = await service.find({"query": {**query, name: cursor}})
        pages.append(page["data"])
        cursor = page["next" if name == "$after" else "previous"]
        assert len(pages) < most, "the walk does not end"
    return pages


class Cursors(Contract):
    """The rules of cursors: they meet each row once, in the order of a list, while rows are added and removed."""

    def a_sort(self, chance: random.Random) -> dict[str, int]:
        fields = chance.sample((*SORTABLE, self.key), chance.randint(0, 3))
        return {field: chance.choice((1, -1)) for field in fields}

    async def test_a_walk_gives_a_page_and_the_cursors_of_its_ends(self) -> None:
        async with self.people(paginate=PAGES) as service:
            page = await service.find({"query": {"$after": "", "$sort": {"name": 1}}})
            assert list(page) == ["limit", "next", "previous", "data"]
            assert (page["limit"], names(page["data"]), page["previous"]) == (2, ["Alice", "Bob"], None)
            page = await service.find({"query": {"$after": page["next"], "$sort": {"name": 1}}})
            assert (names(page["data"]), page["next"]) == (["Doug"], None)
            page = await service.find({"query": {"$before": page["previous"], "$sort": {"name": 1}}})
            assert (names(page["data"]), page["previous"]) == (["Alice", "Bob"], None)
            assert page["next"] is not None

    async def test_a_walk_from_the_end_gives_pages_in_the_order_of_the_list(self) -> None:
        async with self.people(paginate=PAGES) as service:
            page = await service.find({"query": {"$before": "", "$sort": {"name": 1}}})
            assert (names(page["data"]), page["next"]) == (["Bob", "Doug"], None)
            page = await service.find({"query": {"$before": page["previous"], "$sort": {"name": 1}}})
            assert (names(page["data"]), page["previous"]) == (["Alice"], None)
            page = await service.find({"query": {"$after": page["next"], "$sort": {"name": 1}}})
            assert names(page["data"]) == ["Bob", "Doug"]

    async def test_a_walk_meets_every_row_once_in_the_order_of_the_list(self) -> None:
        for seed in range(12):
            chance = random.Random(seed)
            async with self.make(paginate={"default": 3}) as service:
                for row in some_rows(chance, 14):
                    await service.create(row)
                for _ in range(5):
                    query = {"$sort": self.a_sort(chance), "$limit": chance.randint(1, 15)}
                    await self.check_walks(service, query)

    async def check_walks(self, service: BoundService, query: Mapping[str, Any]) -> None:
        """Assert that walks from both ends meet the rows of the list."""
        listed = await service.find({"query": {"$sort": query["$sort"]}, "paginate": False})
        forwards, backwards = [await walk(service, name, query) for name in ("$after", "$before")]
        assert [row for page in forwards for row in page] == listed, query
        assert [row for page in reversed(backwards) for row in page] == listed, query

    async def test_a_walk_goes_through_what_the_query_matches(self) -> None:
        async with self.people(*[{"name": "ab"[n % 2], "age": n} for n in range(7)], paginate=PAGES) as service:
            pages = await walk(service, "$after", {"name": "b", "age": {"$gt": 1}, "$sort": {"age": -1}})
            assert [[row["age"] for row in page] for page in pages] == [[5, 3]]

    async def test_a_walk_stays_inside_the_scope(self) -> None:
        rows = [{"name": str(n), "organization_id": n % 2, "age": n // 4} for n in range(8)]
        async with self.people(*rows, paginate=PAGES) as service:
            query = {"$sort": {"age": -1}, "$or": [{"organization_id": 0}, {"organization_id": 1}]}
            page = await service.find(within(1, **query, **{"$after": ""}))
            rest = await service.find(within(1, **query, **{"$after": page["next"]}))
            assert names(page["data"] + rest["data"]) == ["7", "5", "3", "1"]
            for organizations in ((0,), (0, 1)):
                with raises(BadRequest, "$after is no cursor of this list"):
                    await service.find(within(*organizations, **query, **{"$after": page["next"]}))

    async def test_rows_that_come_and_go_neither_repeat_nor_hide_the_others(self) -> None:
        for seed in range(12):
            chance = random.Random(seed)
            async with self.make(paginate={"default": 3}) as service:
                for row in some_rows(chance, 14):
                    await service.create(row)
                await self.check_changing(
                    service, chance, {"$sort": self.a_sort(chance), "$limit": chance.randint(1, 4)}
                )

    async def check_changing(self, service: BoundService, chance: random.Random, query: Mapping[str, Any]) -> None:
        """Assert that a walk meets the rows that stay, while others are added and removed."""
        sort = {"query": {"$sort": query["$sort"]}, "paginate": False}
        before = await service.find(sort)
        seen: list[Any] = []
        cursor: str | None = ""
        while cursor is not None and len(seen) < 99:
            page = await service.find({"query": {**query, "$after": cursor}})
            seen += [row["extra"]["is"] for row in page["data"]]
            cursor = page["next"]
            there = await service.find({"paginate": False})
            if there:
                await service.remove(chance.choice(there)[self.key])
            for row in some_rows(chance, 1):
                await service.create(row)
        after = {row["extra"]["is"] for row in await service.find(sort)}
        assert len(set(seen)) == len(seen), query
        stayed = [row["extra"]["is"] for row in before if row["extra"]["is"] in after]
        assert [one for one in seen if one in stayed] == stayed, query

    async def test_the_place_of_a_row_that_is_gone_stays(self) -> None:
        async with self.people(*[{"name": name} for name in "abcd"], paginate=PAGES) as service:
            page = await service.find({"query": {"$after": "", "$sort": {"name": 1}}})
            await service.remove(page["data"][1][self.key])
            page = await service.find({"query": {"$after": page["next"], "$sort": {"name": 1}}})
            assert names(page["data"]) == ["c", "d"]

    async def test_from_behind_an_end_a_walk_leads_back(self) -> None:
        ways = (("$after", "next", "$before", "previous", "d"), ("$before", "previous", "$after", "next", "a"))
        for name, there, back_name, back, last in ways:
            async with self.people(*[{"name": letter} for letter in "abcd"], paginate=PAGES) as service:
                page = await service.find({"query": {name: "", "$limit": 3}})
                await service.remove(await self.id_of(service, last))
                page = await service.find({"query": {name: page[there]}})
                assert (page["data"], page[there]) == ([], None)
                page = await service.find({"query": {back_name: page[back], "$limit": 3}})
                assert names(page["data"]) == [letter for letter in "abcd" if letter != last]

    async def test_fields_that_are_not_selected_are_not_shown(self) -> None:
        async with self.people(paginate=PAGES) as service:
            query = {"$sort": {"age": 1}, "$select": ["name"], "$after": ""}
            page = await service.find({"query": query})
            assert [set(row) for row in page["data"]] == [{self.key, "name"}] * 2
            page = await service.find({"query": {**query, "$after": page["next"]}})
            assert page["data"] == [{self.key: await self.id_of(service, "Doug"), "name": "Doug"}]

    async def test_a_cursor_is_of_its_list_alone(self) -> None:
        async with self.people(paginate=PAGES) as service:
            query = {"$sort": {"name": 1}, "age": {"$gt": 1}, "created": None}
            cursor = (await service.find({"query": {**query, "$after": ""}}))["next"]
            others: Sequence[Mapping[str, Any]] = (
                {"$sort": {"name": -1}}, {"$sort": {}}, {"$sort": {"name": 1, "age": 1}}, {"age": {"$gt": 2}},
                {"age": {"$gte": 1}}, {"name": "Doug"}, {"$or": [{"age": 1}]},
            )  # fmt: skip
            for other in others:
                for name in ("$after", "$before"):
                    with raises(BadRequest, f"{name} is no cursor of this list") as raised:
                        await service.find({"query": {**query, **other, name: cursor}})
                    assert "use it with the query that it came from" in raised.error.errors[name]
            for same in ({"$limit": 1}, {"$select": ["age"]}, {"$total": "exact"}):
                page = await service.find({"query": {"created": None, **query, **same, "$after": cursor}})
                assert len(page["data"]) == 1

    async def test_a_cursor_of_another_service_is_refused(self) -> None:
        async with self.people(paginate=PAGES) as service:
            cursor = (await service.find({"query": {"$after": ""}}))["next"]
            await service.service.setup(service._app, "others")
            with raises(BadRequest, "$after is no cursor of this list"):
                await service.find({"query": {"$after": cursor}})

    async def test_a_cursor_that_was_tampered_with_is_refused(self) -> None:
        async with self.people(paginate=PAGES) as service:
            query = {"$sort": {"name": 1}}
            cursor = (await service.find({"query": {**query, "$after": ""}}))["next"]
            for place in range(len(cursor)):
                flipped = chr(ord(cursor[place]) ^ 1)
                for wrong in (cursor[:place] + flipped + cursor[place + 1 :], cursor[:place], cursor[place + 1 :]):
                    if wrong:
                        with raises(BadRequest, "$after is no cursor of this list"):
                            await service.find({"query": {**query, "$after": wrong}})

    async def test_a_text_that_is_no_cursor_is_refused(self) -> None:
        async with self.people(paginate=PAGES) as service:
            wrong: Sequence[Any] = (
                None,
                1,
                True,
                [],
                ["a"],
                {},
                {"$gt": 1},
                "a",
                "====",
                "é",
                "\0",
                "a" * 9999,
                "-_" * 40,
            )
            for cursor in wrong:
                for name in ("$after", "$before"):
                    with raises(BadRequest, name):
                        await service.find({"query": {name: cursor}})

    async def test_a_cursor_goes_with_no_other_place(self) -> None:
        async with self.people(paginate=PAGES) as service:
            first = await service.find({"query": {"$after": "", "$limit": 1}})
            cursor = first["next"]
            for query in ({"$after": cursor, "$skip": 1}, {"$before": cursor, "$skip": 1},
                          {"$after": cursor, "$before": cursor}):  # fmt: skip
                with raises(BadRequest, "leave one of them out"):
                    await service.find({"query": query})

    async def test_an_empty_cursor_counts_alone(self) -> None:
        async with self.people(paginate=PAGES) as service:
            first = await service.find({"query": {"$after": "", "$before": "", "$skip": 0, "$limit": 1}})
            assert first == await service.find({"query": {"$after": "", "$limit": 1}})
            second = await service.find({"query": {"$after": first["next"], "$before": "", "$limit": 1}})
            assert second == await service.find({"query": {"$after": first["next"], "$limit": 1}})
            skipped = await service.find({"query": {"$after": "", "$skip": 1, "$limit": 1}})
            assert skipped == await service.find({"query": {"$skip": 1, "$limit": 1}})

    async def test_a_cursor_needs_a_page(self) -> None:
        async with self.people(paginate=PAGES) as service:
            with raises(BadRequest, "$after needs pages"):
                await service.find({"query": {"$after": ""}, "paginate": False})
            with raises(BadRequest, "$limit must be 1 or more"):
                await service.find({"query": {"$after": "", "$limit": 0}})

    async def test_a_list_alone_has_cursors_and_totals(self) -> None:
        async with self.people(paginate=PAGES, multi=True) as service:
            id = await self.id_of(service, "Doug")
            for query in ({"$after": ""}, {"$before": ""}, {"$total": False}):
                params = {"query": query}
                for call in (service.get(id, params), service.patch(None, {"age": 1}, params),
                             service.update(id, {}, params), service.remove(None, params)):  # fmt: skip
                    with raises(BadRequest, "is for lists alone"):
                        await call
            assert len(await service.find({"paginate": False})) == 3

    async def test_a_walk_may_be_as_wide_as_all_rows(self) -> None:
        async with self.people(paginate={"default": 1}) as service:
            page = await service.find({"query": {"$after": "", "$limit": 2**63 - 1}})
            assert (len(page["data"]), page["next"], page["previous"]) == (3, None, None)

    async def test_a_page_without_total(self) -> None:
        async with self.people(paginate=PAGES) as service:
            for total in (False, "false"):
                page = await service.find({"query": {"$total": total, "$skip": 2, "$sort": {"name": 1}}})
                assert list(page) == ["limit", "skip", "data"]
                assert (page["limit"], page["skip"], names(page["data"])) == (2, 2, ["Doug"])
            assert await service.find({"query": {"$total": False, "$limit": 0}}) == {"limit": 0, "skip": 0, "data": []}

    async def test_a_total_that_may_be_estimated_says_whether_it_is(self) -> None:
        async with self.people(paginate=PAGES) as service:
            for query in ({"$limit": 1}, {"$skip": 1}, {"$skip": 9}, {"$limit": 0}, {"$limit": 3}, {"$after": ""}):
                page = await service.find({"query": {**query, "$total": "estimated"}})
                assert list(page)[:2] == ["total", "estimated"]
                assert page["total"] >= len(page["data"])
                assert page["estimated"] or page["total"] == 3

    async def test_a_page_that_is_not_full_tells_its_total_itself(self) -> None:
        async with self.people(paginate=PAGES) as service:
            for query in ({"$limit": 3, "name": {"$ne": "Bob"}}, {"$skip": 1, "name": {"$ne": "Bob"}},
                          {"$limit": 3, "$after": "", "name": {"$ne": "Bob"}}):  # fmt: skip
                page = await service.find({"query": {**query, "$total": "estimated"}})
                assert (page["total"], page["estimated"]) == (2, False)
            page = await service.find({"query": {"$total": "estimated", "name": "Nobody"}})
            assert (page["total"], page["estimated"], page["data"]) == (0, False, [])

    async def test_an_exact_total_is_the_default_and_may_be_asked_for(self) -> None:
        async with self.people(paginate=PAGES) as service:
            for total in ("exact", "true", True):
                assert await service.find({"query": {"$total": total}}) == await service.find()
            for name in ("$after", "$before"):
                page = await service.find({"query": {name: "", "$total": True}})
                assert list(page) == ["total", "limit", "next", "previous", "data"]
                assert page["total"] == 3

    async def test_a_total_on_the_way_counts_all(self) -> None:
        async with self.people(paginate=PAGES) as service:
            cursor = (await service.find({"query": {"$after": ""}}))["next"]
            page = await service.find({"query": {"$after": cursor, "$total": True}})
            assert (page["total"], len(page["data"])) == (3, 1)

    async def test_a_total_is_one_of_three(self) -> None:
        async with self.people(paginate=PAGES) as service:
            for total in (None, "", "maybe", "False", 0, 1, "1", [], ["exact"], {}, {"$gt": 1}):
                with raises(BadRequest, "$total must be exact (or true), estimated or false"):
                    await service.find({"query": {"$total": total}})

    async def test_a_plain_list_has_no_total_to_leave_out(self) -> None:
        async with self.people() as service:
            for total in (False, "estimated", "exact"):
                assert len(await service.find({"query": {"$total": total}})) == 3
