"""The rules of ``get``, ``find`` and ``$select``."""

from __future__ import annotations

from apex.errors import BadRequest, NotFound
from apex.testing.basics import UNKNOWN_IDS, Contract, names, raises


class Reading(Contract):
    """The rules of ``get``, ``find`` and ``$select``."""

    async def test_get_gives_the_record(self) -> None:
        async with self.people() as service:
            id = await self.id_of(service, "Doug")
            doug = await service.get(id)
            assert (doug[self.key], doug["name"], doug["age"]) == (id, "Doug", 32)

    async def test_get_takes_an_id_as_urls_carry_it(self) -> None:
        async with self.people() as service:
            id = await self.id_of(service, "Doug")
            assert (await service.get(str(id)))["name"] == "Doug"

    async def test_get_selects_fields_and_the_id(self) -> None:
        async with self.people() as service:
            id = await self.id_of(service, "Doug")
            assert await service.get(id, {"query": {"$select": ["name"]}}) == {self.key: id, "name": "Doug"}

    async def test_get_applies_the_query(self) -> None:
        async with self.people() as service:
            id = await self.id_of(service, "Doug")
            assert (await service.get(id, {"query": {"age": {"$gt": 30}}}))["name"] == "Doug"
            with raises(NotFound, f"No record found for id '{id}'"):
                await service.get(id, {"query": {"name": "Bob"}})

    async def test_get_ignores_limit_skip_and_sort(self) -> None:
        async with self.people() as service:
            id = await self.id_of(service, "Doug")
            query = {"$limit": 0, "$skip": 5, "$sort": {"name": 1}}
            assert (await service.get(id, {"query": query}))["name"] == "Doug"

    async def test_get_with_another_id_in_the_query_finds_nothing(self) -> None:
        async with self.people() as service:
            id, other = await self.id_of(service, "Doug"), await self.id_of(service, "Bob")
            with raises(NotFound):
                await service.get(id, {"query": {self.key: other}})

    async def test_get_of_an_id_that_cannot_be_is_not_found(self) -> None:
        async with self.people() as service:
            for id in UNKNOWN_IDS:
                with raises(NotFound, "No record found for id"):
                    await service.get(id)

    async def test_find_gives_a_list_without_pagination(self) -> None:
        async with self.people() as service:
            assert names(await service.find()) == ["Bob", "Doug", "Alice"]

    async def test_find_of_nothing_gives_an_empty_list(self) -> None:
        async with self.people() as service:
            assert await service.find({"query": {"name": "Nobody"}}) == []

    async def test_find_selects_fields_and_the_id(self) -> None:
        async with self.people() as service:
            for select in (["name"], "name", ["name", self.key, "name"]):
                rows = await service.find({"query": {"$select": select}})
                assert [set(row) for row in rows] == [{self.key, "name"}] * 3

    async def test_an_empty_select_leaves_the_id(self) -> None:
        async with self.people() as service:
            assert [set(row) for row in await service.find({"query": {"$select": []}})] == [{self.key}] * 3

    async def test_an_unknown_field_cannot_be_selected(self) -> None:
        self.only_typed()
        async with self.people() as service:
            with raises(BadRequest, "Did you mean 'name'?"):
                await service.find({"query": {"$select": ["nme"]}})

    async def test_a_result_belongs_to_the_caller(self) -> None:
        async with self.people({"name": "Dave", "extra": {"a": [1]}}) as service:
            (row,) = await service.find()
            row["extra"]["a"].append(2)
            row["name"] = "Changed"
            assert names(await service.find()) == ["Dave"]
            assert (await service.find())[0]["extra"] == {"a": [1]}

    async def test_every_field_is_there_even_when_null(self) -> None:
        self.only_typed()
        async with self.people({"name": "Dave"}) as service:
            (row,) = await service.find()
            assert (row["age"], row["created"], row["time"], row["extra"]) == (None, None, None, None)

    async def test_the_query_is_not_changed(self) -> None:
        query = {"name": {"$in": ["Bob"]}, "$or": [{"age": "25"}], "$limit": "1", "$select": ["name"]}
        before = {"name": {"$in": ["Bob"]}, "$or": [{"age": "25"}], "$limit": "1", "$select": ["name"]}
        async with self.people() as service:
            await service.find({"query": query})
        assert query == before
