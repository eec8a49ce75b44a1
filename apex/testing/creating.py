"""The rules of ``create``, for one record and for many."""

from __future__ import annotations

import copy
from typing import Any

from apex.errors import BadRequest, Conflict, MethodNotAllowed
from apex.testing.basics import Contract, names, raises, wire


class Creating(Contract):
    """The rules of ``create``."""

    async def test_create_gives_the_record_with_its_id(self) -> None:
        data = {"name": "Bill", "age": 40, "extra": {"a": {"b": 1}}}
        before = copy.deepcopy(data)
        async with self.make() as service:
            bill = await service.create(data)
            assert (bill["name"], bill["age"], bill["extra"]) == ("Bill", 40, {"a": {"b": 1}})
            assert (await service.get(bill[self.key]))["name"] == "Bill"
        assert data == before

    async def test_create_ignores_the_query(self) -> None:
        async with self.make() as service:
            query = {"name": "Dave", "$limit": 0, "$nonsense": 1}
            assert (await service.create({"name": "Bill"}, {"query": query}))["name"] == "Bill"

    async def test_create_selects_fields_and_the_id(self) -> None:
        async with self.make() as service:
            bill = await service.create({"name": "Bill", "age": 40}, {"query": {"$select": ["name"]}})
            assert set(bill) == {self.key, "name"}

    async def test_create_takes_an_empty_record(self) -> None:
        async with self.make(multi=True) as service:
            first = await service.create({})
            assert first[self.key] is not None
            assert len({row[self.key] for row in [first, *await service.create([{}, {}])]}) == 3

    async def test_create_takes_an_id(self) -> None:
        async with self.make(multi=True) as service:
            assert (await service.create({self.key: 77, "name": "Bill"}))[self.key] == 77
            many = await service.create([{self.key: 90, "name": "a"}, {self.key: 80, "name": "b"}])
            assert [row[self.key] for row in many] == [90, 80]

    async def test_create_of_an_id_that_is_taken_is_a_conflict(self) -> None:
        async with self.make(multi=True) as service:
            await service.create({self.key: 77, "name": "Bill"})
            with raises(Conflict, self.key) as raised:
                await service.create([{self.key: 78, "name": "Dave"}, {self.key: 77, "name": "Eve"}])
            assert raised.error.errors == {self.key: "Is taken"}
            assert names(await service.find()) == ["Bill"]

    async def test_create_many_needs_multi(self) -> None:
        async with self.make() as service:
            for data in ([], [{"name": "Dave"}]):
                with raises(MethodNotAllowed, "Can not create multiple entries"):
                    await service.create(data)

    async def test_create_many_keeps_the_order(self) -> None:
        many = [{"name": f"name {number % 7} {number}"} for number in range(300)]
        async with self.make(multi=["create"]) as service:
            created = await service.create(many)
            assert names(created) == names(many)
            assert names(await service.find()) == names(many)
            assert await service.create([]) == []

    async def test_create_many_takes_records_of_different_shapes(self) -> None:
        many: list[dict[str, Any]] = [{"name": "Dave"}, {"age": 5, "name": "Dan"}, {}, {"extra": {"a": 1}}]
        async with self.make(multi=True) as service:
            created = await service.create(many)
            assert [row.get("name") for row in created] == ["Dave", "Dan", None, None]
            assert [row.get("age") for row in created] == [None, 5, None, None]
            assert created[3]["extra"] == {"a": 1}

    async def test_create_many_takes_an_id_for_some(self) -> None:
        many = [{"name": "Dave"}, {self.key: 70, "name": "Dan"}, {"name": "Eve"}]
        async with self.make(multi=True) as service:
            created = await service.create(many)
            assert names(created) == ["Dave", "Dan", "Eve"]
            assert created[1][self.key] == 70
            assert len(await service.find()) == 3

    async def test_create_many_stores_all_or_nothing(self) -> None:
        self.only_typed()
        async with self.make(multi=True) as service:
            with raises(BadRequest, "age"):
                await service.create([{"name": "Dave"}, {"age": "old"}])
            assert await service.find() == []

    async def test_create_takes_an_object_alone(self) -> None:
        async with self.make(multi=True) as service:
            values: list[Any] = [None, 5, "text", [None], [[]]]
            for data in values:
                with raises(BadRequest, "must be an object"):
                    await service.create(data)

    async def test_create_names_every_field_that_is_wrong(self) -> None:
        self.only_typed()
        async with self.make() as service:
            with raises(BadRequest) as raised:
                await service.create({"nmae": "Dave", "age": "old", "created": 5, "name": "a\0"})
            assert set(raised.error.errors or ()) == {"nmae", "age", "created", "name"}
            assert "Did you mean 'name'?" in (raised.error.errors or {})["nmae"]

    async def test_texts_come_back_as_they_are(self) -> None:
        texts = ["", "null", "'\"\\`", "%(p0)s :p0 $1 ?", " é \U0001f600 \u2028\n\t", "x" * 10_000]
        async with self.make(multi=True) as service:
            assert names(await service.create([{"name": text} for text in texts])) == texts
            assert names(await service.find()) == texts

    async def test_json_comes_back_as_it_is(self) -> None:
        values: list[Any] = [{}, {"a": None}, {"a": [1, 1.5, "é", True, {"b": {}}]}, None]
        async with self.make(multi=True) as service:
            created = await service.create([{"extra": value} for value in values])
            assert [row["extra"] for row in wire(created)] == values
            assert [row["extra"] for row in wire(await service.find())] == values

    async def test_numbers_and_moments_keep_their_limits(self) -> None:
        self.only_typed()
        row = {"age": -(2**31), "time": "0001-01-01T00:00:00.001Z", "organization_id": 2**31 - 1}
        async with self.make() as service:
            stored = wire(await service.get((await service.create(row))[self.key]))
            assert {name: stored[name] for name in row} == row
