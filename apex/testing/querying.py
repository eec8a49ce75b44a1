"""The rules of operators, ``$or`` and ``$and``, null, and patterns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apex.errors import BadRequest
from apex.service import BoundService
from apex.testing.basics import Contract, names, raises

LIKES = ("$like", "$notlike", "$ilike")


class Querying(Contract):
    """The rules of the rows that a query finds."""

    async def found(self, service: BoundService, query: Mapping[str, Any]) -> list[str]:
        """Return the names of the found rows in order."""
        return sorted(names(await service.find({"query": query, "provider": "rest"})))

    async def test_equal(self) -> None:
        async with self.people() as service:
            assert await self.found(service, {"name": "Alice"}) == ["Alice"]
            assert await self.found(service, {"name": "Alice", "age": 20}) == []

    async def test_text_is_equal_in_case_and_spaces(self) -> None:
        async with self.people({"name": "Dave"}, {"name": "dave"}, {"name": "Dave "}) as service:
            assert await self.found(service, {"name": "Dave"}) == ["Dave"]

    async def test_less_and_greater(self) -> None:
        async with self.people() as service:
            assert await self.found(service, {"age": {"$lt": 25}}) == ["Alice"]
            assert await self.found(service, {"age": {"$lte": 25}}) == ["Alice", "Bob"]
            assert await self.found(service, {"age": {"$gt": 25}}) == ["Doug"]
            assert await self.found(service, {"age": {"$gte": 25}}) == ["Bob", "Doug"]

    async def test_several_operators_of_a_field_all_hold(self) -> None:
        async with self.people() as service:
            assert await self.found(service, {"age": {"$gt": 18, "$lt": 30}}) == ["Alice", "Bob"]

    async def test_in_and_not_in(self) -> None:
        async with self.people() as service:
            assert await self.found(service, {"name": {"$in": ["Alice", "Bob", "Eve"]}}) == ["Alice", "Bob"]
            assert await self.found(service, {"name": {"$nin": ["Alice", "Bob", "Eve"]}}) == ["Doug"]
            assert await self.found(service, {"age": {"$in": [25, 25]}}) == ["Bob"]

    async def test_in_takes_one_value_as_a_list_of_one(self) -> None:
        async with self.people() as service:
            assert await self.found(service, {"name": {"$in": "Alice"}}) == ["Alice"]

    async def test_in_an_empty_list_is_nothing_and_not_in_it_everything(self) -> None:
        async with self.people({"name": "Bob", "age": 1}, {"name": "Dan"}) as service:
            assert await self.found(service, {"age": {"$in": []}}) == []
            assert await self.found(service, {"age": {"$nin": []}}) == ["Bob", "Dan"]

    async def test_in_takes_thousands_of_values(self) -> None:
        many = [f"name {number}" for number in range(5_000)]
        async with self.people() as service:
            assert await self.found(service, {"name": {"$in": [*many, "Doug"]}}) == ["Doug"]
            assert await self.found(service, {"name": {"$nin": [*many, "Doug"]}}) == ["Alice", "Bob"]
            assert await self.found(service, {"age": {"$in": [*range(26, 5_000)]}}) == ["Doug"]

    async def test_more_than_ten_thousand_values_are_refused(self) -> None:
        async with self.people() as service:
            with raises(BadRequest, "10000 values"):
                await service.find({"query": {"age": {"$in": list(range(10_001))}}})

    async def test_in_holds_for_every_type(self) -> None:
        row = {"name": "Dave", "age": 1, "created": True, "time": "2023-01-02T03:04:05.678Z"}
        async with self.people(row, {"name": "Dan", "age": 2, "created": False}) as service:
            for name, value in row.items():
                assert await self.found(service, {name: {"$in": [value]}}) == ["Dave"]
                assert await self.found(service, {name: {"$nin": [value]}}) == ([] if name == "time" else ["Dan"])

    async def test_null_is_equal_to_null_alone(self) -> None:
        async with self.people({"name": "Bob", "age": 0}, {"name": "Dan"}) as service:
            assert await self.found(service, {"age": None}) == ["Dan"]
            assert await self.found(service, {"age": {"$ne": None}}) == ["Bob"]

    async def test_null_is_never_different(self) -> None:
        async with self.people({"name": "Bob", "age": 5}, {"name": "Dan", "age": 6}, {"name": "Eve"}) as service:
            assert await self.found(service, {"age": {"$ne": 5}}) == ["Dan"]
            assert await self.found(service, {"age": {"$nin": [5]}}) == ["Dan"]

    async def test_null_is_neither_less_nor_greater(self) -> None:
        async with self.people({"name": "Bob", "age": 5}, {"name": "Eve"}) as service:
            for operator in ("$lt", "$lte", "$gt", "$gte"):
                assert "Eve" not in await self.found(service, {"age": {operator: 5}})
                with raises(BadRequest, operator):
                    await service.find({"query": {"age": {operator: None}}})

    async def test_null_may_stand_in_a_list(self) -> None:
        async with self.people({"name": "Bob", "age": 5}, {"name": "Dan", "age": 6}, {"name": "Eve"}) as service:
            assert await self.found(service, {"age": {"$in": [5, None]}}) == ["Bob", "Eve"]
            assert await self.found(service, {"age": {"$nin": [5, None]}}) == ["Dan"]
            assert await self.found(service, {"age": {"$in": [None]}}) == ["Eve"]
            assert await self.found(service, {"age": {"$nin": [None]}}) == ["Bob", "Dan"]

    async def test_or_matches_any(self) -> None:
        async with self.people() as service:
            assert await self.found(service, {"$or": [{"name": "Alice"}, {"name": "Bob"}]}) == ["Alice", "Bob"]
            assert await self.found(service, {"$or": [{"name": "Alice"}, {"age": {"$gt": 30}}]}) == ["Alice", "Doug"]

    async def test_or_is_one_condition_among_others(self) -> None:
        query = {"age": {"$lt": 30}, "$or": [{"name": "Doug"}, {"age": {"$gte": 18, "$lt": 25}}]}
        async with self.people() as service:
            assert await self.found(service, query) == ["Alice"]

    async def test_and_matches_all(self) -> None:
        async with self.people() as service:
            assert await self.found(service, {"$and": [{"age": 19}]}) == ["Alice"]
            assert await self.found(service, {"$and": [{"age": 19}, {"name": "Bob"}]}) == []
            assert await self.found(service, {"$and": [{"age": {"$gt": 1}}, {"age": {"$lt": 20}}]}) == ["Alice"]

    async def test_or_and_and_nest(self) -> None:
        nested = {"$or": [{"$and": [{"name": "Alice"}, {"age": 19}]}, {"$and": [{"name": "Bob"}, {"age": 0}]}]}
        async with self.people() as service:
            assert await self.found(service, {"$and": [{"$or": [{"name": "Alice"}]}]}) == ["Alice"]
            assert await self.found(service, nested) == ["Alice"]

    async def test_an_empty_query_in_or_matches_everything(self) -> None:
        async with self.people() as service:
            assert len(await self.found(service, {"$or": [{"name": "Alice"}, {}]})) == 3
            assert len(await self.found(service, {"$and": [{}]})) == 3

    async def test_or_and_and_must_be_lists_of_queries(self) -> None:
        async with self.people() as service:
            values: list[Any] = [[], {}, "x", None, [1], [None], [[]]]
            for value in values:
                for name in ("$or", "$and"):
                    with raises(BadRequest, name):
                        await service.find({"query": {name: value}})

    async def test_nesting_has_a_limit(self) -> None:
        query: dict[str, Any] = {"name": "Alice"}
        for _ in range(10):
            query = {"$or": [query]}
        async with self.people() as service:
            assert await self.found(service, query) == ["Alice"]
            with raises(BadRequest, "nested deeper"):
                await service.find({"query": {"$and": [query]}})

    async def test_an_unknown_filter_is_refused(self) -> None:
        async with self.people() as service:
            for query in ({"$foo": 1}, {"$where": "1"}, {"$limitt": 1}, {"$": 1}):
                with raises(BadRequest, f"Invalid filter value {next(iter(query))}"):
                    await service.find({"query": query})

    async def test_an_unknown_operator_is_refused_with_what_holds_it(self) -> None:
        async with self.people() as service:
            with raises(BadRequest, "Invalid query parameter $regex") as raised:
                await service.find({"query": {"name": {"$regex": "A"}}})
            assert raised.error.data == {"$regex": "A"}
            with raises(BadRequest, "Invalid query parameter $foo"):
                await service.find({"query": {"$or": [{"$foo": 1}]}})

    async def test_an_unknown_field_is_refused_with_a_suggestion(self) -> None:
        self.only_typed()
        async with self.people() as service:
            queries: tuple[dict[str, Any], ...] = ({"nmae": 1}, {"$or": [{"nmae": 1}]}, {"$sort": {"nmae": 1}})
            for query in queries:
                with raises(BadRequest, "Did you mean 'name'?"):
                    await service.find({"query": query})

    async def test_values_are_taken_from_the_strings_of_urls(self) -> None:
        self.only_typed()
        row = {"name": "Dave", "age": 1, "created": True, "time": "2023-01-02T03:04:05.678Z"}
        async with self.people(row, {"name": "Dan", "age": 2, "created": False}) as service:
            for query in ({"age": "1"}, {"created": "true"}, {"time": "2023-01-02T05:04:05.678+02:00"}):
                assert await self.found(service, query) == ["Dave"]
            assert await self.found(service, {"time": "null"}) == ["Dan"]
            assert await self.found(service, {"time": ""}) == ["Dan"]

    async def test_a_value_of_the_wrong_type_is_refused(self) -> None:
        self.only_typed()
        async with self.people() as service:
            for name, value in (("age", "old"), ("age", 2**63), ("age", True), ("created", "yes"), ("time", "noon"),
                                ("name", 5), ("name", "a\0b"), ("name", ["Bob"]), ("name", "\ud800")):  # fmt: skip
                with raises(BadRequest, name):
                    await service.find({"query": {name: value}})

    async def test_a_filter_of_the_service_is_taken(self) -> None:
        async with self.people(filters={"$deep": lambda value: value}) as service:
            assert len(await service.find({"query": {"$deep": "yes"}})) == 3

    async def test_patterns_need_to_be_allowed(self) -> None:
        async with self.people() as service:
            for operator in LIKES:
                with raises(BadRequest, f"Invalid query parameter {operator}"):
                    await service.find({"query": {"name": {operator: "A%"}}})

    async def test_like_matches_runs_and_single_characters(self) -> None:
        rows = [{"name": name} for name in ("abc", "aXc", "ac", "ABC", "abcd", "a\nc")]
        async with self.people(*rows, operators=LIKES) as service:
            assert await self.found(service, {"name": {"$like": "a%c"}}) == ["a\nc", "aXc", "abc", "ac"]
            assert await self.found(service, {"name": {"$like": "a_c"}}) == ["a\nc", "aXc", "abc"]
            assert await self.found(service, {"name": {"$notlike": "a%"}}) == ["ABC"]
            assert await self.found(service, {"name": {"$like": ""}}) == []

    async def test_ilike_ignores_case_beyond_ascii(self) -> None:
        async with self.people({"name": "ÉMILE"}, {"name": "émile"}, {"name": "emile"}, operators=LIKES) as service:
            assert await self.found(service, {"name": {"$ilike": "Émi%"}}) == ["ÉMILE", "émile"]
            assert await self.found(service, {"name": {"$like": "émi%"}}) == ["émile"]

    async def test_a_backslash_takes_the_next_character_as_it_is(self) -> None:
        rows = [{"name": name} for name in ("50%", "50x", "a_b", "axb", "c\\d")]
        async with self.people(*rows, operators=LIKES) as service:
            for pattern, expected in ((r"50\%", "50%"), (r"a\_b", "a_b"), (r"c\\d", "c\\d"), (r"\a\xb", "axb")):
                for operator in ("$like", "$ilike"):
                    assert await self.found(service, {"name": {operator: pattern}}) == [expected]

    async def test_special_characters_of_other_patterns_are_plain(self) -> None:
        rows = [{"name": name} for name in ("a.c", "abc", "a*c", "[a]", "a")]
        async with self.people(*rows, operators=LIKES) as service:
            for pattern in ("a.c", "a*c", "[a]"):
                assert await self.found(service, {"name": {"$like": pattern}}) == [pattern]

    async def test_patterns_do_not_match_null(self) -> None:
        async with self.people({"name": "Bob", "secret": "a"}, {"name": "Eve"}, operators=LIKES) as service:
            assert await self.found(service, {"secret": {"$like": "%"}}) == ["Bob"]
            assert await self.found(service, {"secret": {"$notlike": "x"}}) == ["Bob"]
            assert await self.found(service, {"secret": {"$ilike": "%"}}) == ["Bob"]

    async def test_a_pattern_that_cannot_be_is_refused(self) -> None:
        async with self.people(operators=LIKES) as service:
            for operator in LIKES:
                for pattern in ("a\\", "a\\\\\\", None, 5, "%" * 20_000):
                    with raises(BadRequest):
                        await service.find({"query": {"name": {operator: pattern}}})

    async def test_patterns_are_for_text_alone(self) -> None:
        self.only_typed()
        async with self.people(operators=LIKES) as service:
            for operator in LIKES:
                for name, value in (("age", 5), ("created", True), ("time", "2023-01-01")):
                    with raises(BadRequest, name):
                        await service.find({"query": {name: {operator: value}}})

    async def test_quotes_and_code_are_values(self) -> None:
        texts = ["'; DROP TABLE people; --", '"', "`", "%(p0)s", ":p0", "{}", "$1", "?"]
        async with self.people(*[{"name": text} for text in texts]) as service:
            for text in texts:
                assert await self.found(service, {"name": text}) == [text]
                assert await self.found(service, {"name": {"$in": [text]}}) == [text]
