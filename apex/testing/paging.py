"""The rules of ``$limit``, ``$skip``, ``$sort`` and pages."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from apex.errors import BadRequest
from apex.testing.basics import Contract, names, raises

PAGES = {"default": 2, "max": 3}


class Paging(Contract):
    """The rules of pages and orders."""

    async def test_limit_holds_without_pagination(self) -> None:
        async with self.people() as service:
            for limit, expected in ((2, 2), ("2", 2), ("2abc", 2), (0, 0), ("0", 0), (10**12, 3)):
                assert len(await service.find({"query": {"$limit": limit}})) == expected

    async def test_limits_that_are_none_are_ignored_without_pagination(self) -> None:
        async with self.people() as service:
            for limit in (-1, "abc", "", None):
                assert len(await service.find({"query": {"$limit": limit}})) == 3

    async def test_skip_leaves_rows_out(self) -> None:
        async with self.people() as service:
            assert names(await service.find({"query": {"$sort": {"name": 1}, "$skip": 1}})) == ["Bob", "Doug"]
            assert names(await service.find({"query": {"$sort": {"name": 1}, "$skip": "1", "$limit": 1}})) == ["Bob"]

    async def test_skip_beyond_the_end_finds_nothing(self) -> None:
        async with self.people(paginate=PAGES) as service:
            for skip in (3, 2**31, 2**63 - 1):
                page = await service.find({"query": {"$skip": skip}})
                assert page == {"total": 3, "limit": 2, "skip": skip, "data": []}

    async def test_skip_must_be_a_number_of_rows(self) -> None:
        async with self.people() as service:
            for skip in (-1, "-1", "abc", "", 1.5, True, None, 2**63):
                with raises(BadRequest, "$skip"):
                    await service.find({"query": {"$skip": skip}})

    async def test_a_page_counts_all_matches(self) -> None:
        async with self.people(paginate={"default": 1, "max": 2}) as service:
            page = await service.find({"query": {"$sort": {"name": -1}}})
            assert list(page) == ["total", "limit", "skip", "data"]
            assert (page["total"], page["limit"], page["skip"], names(page["data"])) == (3, 1, 0, ["Doug"])

    async def test_a_page_counts_what_the_query_matches(self) -> None:
        async with self.people(paginate={"default": 1, "max": 2}) as service:
            page = await service.find({"query": {"name": "Doug"}})
            assert (page["total"], names(page["data"])) == (1, ["Doug"])

    async def test_a_page_is_at_most_the_maximum(self) -> None:
        async with self.people(paginate={"default": 1, "max": 2}) as service:
            page = await service.find({"query": {"$limit": 4, "$skip": 1, "$sort": {"name": 1}}})
            assert (page["limit"], page["skip"], names(page["data"])) == (2, 1, ["Bob", "Doug"])

    async def test_a_limit_of_zero_only_counts(self) -> None:
        async with self.people(paginate={"default": 1, "max": 2}) as service:
            for limit in (0, "0"):
                page = await service.find({"query": {"$limit": limit, "age": {"$gt": 20}}})
                assert page == {"total": 2, "limit": 0, "skip": 0, "data": []}

    async def test_limits_that_are_none_give_the_default(self) -> None:
        async with self.people(paginate=PAGES) as service:
            for limit in (-1, "-1", "abc", "", None):
                assert (await service.find({"query": {"$limit": limit}}))["limit"] == 2

    async def test_a_maximum_alone_gives_rows_only_when_asked(self) -> None:
        async with self.people(paginate={"max": 2}) as service:
            assert (await service.find())["data"] == []
            assert len((await service.find({"query": {"$limit": 5}}))["data"]) == 2

    async def test_a_default_alone_has_no_maximum(self) -> None:
        async with self.people(paginate={"default": 1}) as service:
            assert len((await service.find())["data"]) == 1
            assert len((await service.find({"query": {"$limit": 50}}))["data"]) == 3

    async def test_empty_pagination_options_do_not_paginate(self) -> None:
        async with self.people(paginate={}) as service:
            assert len(await service.find()) == 3

    async def test_a_call_may_set_its_own_pagination(self) -> None:
        async with self.people(paginate={"default": 1, "max": 2}) as service:
            assert len((await service.find({"paginate": {"default": 3}}))["data"]) == 3
            assert len(await service.find({"paginate": False})) == 3
            assert (await service.find({"paginate": None}))["limit"] == 1

    async def test_a_call_may_set_its_pagination_as_an_adapter_option(self) -> None:
        async with self.people() as service:
            page = await service.find({"adapter": {"paginate": {"default": 3}}})
            assert (page["limit"], page["skip"], page["total"]) == (3, 0, 3)

    async def test_a_query_cannot_turn_pagination_off(self) -> None:
        async with self.people(paginate={"default": 1, "max": 2}) as service:
            for query in ({"$paginate": False}, {"$limit": {"$gt": 1}}, {"$limit": [9]}):
                with suppress(BadRequest):
                    assert len((await service.find({"query": query, "provider": "rest"}))["data"]) == 1

    async def test_sort_orders_both_ways(self) -> None:
        async with self.people() as service:
            assert names(await service.find({"query": {"$sort": {"name": 1}}})) == ["Alice", "Bob", "Doug"]
            assert names(await service.find({"query": {"$sort": {"name": -1}}})) == ["Doug", "Bob", "Alice"]
            assert names(await service.find({"query": {"$sort": {"age": "1"}}})) == ["Alice", "Bob", "Doug"]

    async def test_sort_takes_several_fields_in_order(self) -> None:
        rows = [{"name": "b", "age": 1}, {"name": "a", "age": 2}, {"name": "a", "age": 1}]
        async with self.people(*rows) as service:
            found = await service.find({"query": {"$sort": {"age": -1, "name": 1}}})
            assert [(row["age"], row["name"]) for row in found] == [(2, "a"), (1, "a"), (1, "b")]

    async def test_sort_must_name_a_direction(self) -> None:
        async with self.people() as service:
            for sort in ({"name": 0}, {"name": "up"}, {"name": True}, {"name": None}, "name", ["name"]):
                with raises(BadRequest, "$sort"):
                    await service.find({"query": {"$sort": sort}})

    async def test_null_comes_first_ascending_and_last_descending(self) -> None:
        async with self.people(*[{"name": str(age), "age": age} for age in (5, None, 3)]) as service:
            assert names(await service.find({"query": {"$sort": {"age": 1}}})) == ["None", "3", "5"]
            assert names(await service.find({"query": {"$sort": {"age": -1}}})) == ["5", "3", "None"]

    async def test_text_is_ordered_by_code_point(self) -> None:
        texts = ["b", "Z", "\U0001f600", "é", "a", "\uff5e", "", "ab", "a b", "_"]
        async with self.people(*[{"name": text} for text in texts]) as service:
            assert names(await service.find({"query": {"$sort": {"name": 1}}})) == sorted(texts)
            assert names(await service.find({"query": {"name": {"$gte": "b"}, "$sort": {"name": 1}}})) == [
                text for text in sorted(texts) if text >= "b"
            ]

    async def test_moments_and_booleans_are_ordered(self) -> None:
        times = ["2023-01-01T00:00:00.010Z", "0999-12-31T00:00:00Z", "2023-01-01T02:00:00+02:00"]
        rows = [{"name": str(n), "time": time, "created": n == 1} for n, time in enumerate(times)]
        async with self.people(*rows) as service:
            assert names(await service.find({"query": {"$sort": {"created": -1}, "$limit": 1}})) == ["1"]
            if self.typed:
                assert names(await service.find({"query": {"$sort": {"time": 1}}})) == ["1", "2", "0"]

    async def test_ties_are_broken_by_id_in_the_direction_of_the_last_field(self) -> None:
        rows: list[dict[str, Any]] = [{self.key: id, "name": "same", "age": id % 2} for id in (13, 11, 14, 12)]
        async with self.people(*rows) as service:
            for sort, expected in (({}, [11, 12, 13, 14]), ({"name": 1}, [11, 12, 13, 14]),
                                   ({"name": -1}, [14, 13, 12, 11]), ({"name": -1, "age": 1}, [12, 14, 11, 13]),
                                   ({"age": 1, self.key: -1}, [14, 12, 13, 11])):  # fmt: skip
                found = await service.find({"query": {"$sort": sort}})
                assert [row[self.key] for row in found] == expected

    async def test_pages_neither_repeat_nor_lose_a_row(self) -> None:
        async with self.people(*[{"name": "same", "age": n} for n in range(7)], paginate=PAGES) as service:
            pages = [await service.find({"query": {"$sort": {"name": 1}, "$skip": skip}}) for skip in (0, 2, 4, 6)]
            assert [row["age"] for page in pages for row in page["data"]] == list(range(7))
