"""The rules of ``update``, ``patch`` and ``remove``, for one record and for many."""

from __future__ import annotations

import copy
from typing import Any

from apex.errors import BadRequest, MethodNotAllowed, NotFound
from apex.testing.basics import UNKNOWN_IDS, Contract, names, raises, wire


class Writing(Contract):
    """The rules of ``update``, ``patch`` and ``remove``."""

    async def test_update_replaces_the_record(self) -> None:
        data = {"name": "Dougler"}
        async with self.people({"name": "Doug", "age": 32, "extra": {"a": 1}}) as service:
            id = await self.id_of(service, "Doug")
            updated = await service.update(id, data)
            assert (updated[self.key], updated["name"], updated.get("age")) == (id, "Dougler", None)
            assert (await service.get(id)).get("extra") is None
        assert data == {"name": "Dougler"}

    async def test_update_never_changes_the_id(self) -> None:
        async with self.people() as service:
            id = await self.id_of(service, "Doug")
            assert (await service.update(id, {self.key: 99, "name": "Dougler"}))[self.key] == id
            assert (await service.patch(id, {self.key: 99, "name": "Doug"}))[self.key] == id

    async def test_update_selects_fields_and_the_id(self) -> None:
        async with self.people() as service:
            id = await self.id_of(service, "Doug")
            params = {"query": {"$select": ["name"]}}
            assert await service.update(id, {"name": "Dougler"}, params) == {self.key: id, "name": "Dougler"}

    async def test_update_takes_one_record(self) -> None:
        async with self.people(multi=True) as service:
            with raises(BadRequest, "You can not replace multiple instances. Did you mean 'patch'?"):
                await service.update(None, {"name": "Dougler"})
            with raises(BadRequest, "You can not replace multiple instances"):
                await service.update(await self.id_of(service, "Doug"), [{"name": "Dougler"}])

    async def test_update_of_nothing_is_an_empty_record(self) -> None:
        async with self.people() as service:
            id = await self.id_of(service, "Doug")
            assert (await service.update(id, {}))[self.key] == id
            assert (await service.get(id)).get("name") is None

    async def test_patch_changes_what_is_given(self) -> None:
        data = {"name": "PatchDoug"}
        async with self.people() as service:
            id = await self.id_of(service, "Doug")
            patched = await service.patch(id, data)
            assert (patched[self.key], patched["name"], patched["age"]) == (id, "PatchDoug", 32)
        assert data == {"name": "PatchDoug"}

    async def test_patch_sets_null(self) -> None:
        async with self.people({"name": "Doug", "age": 32, "extra": {"a": 1}}) as service:
            id = await self.id_of(service, "Doug")
            patched = await service.patch(id, {"age": None, "extra": None})
            assert (patched["name"], patched["age"], patched["extra"]) == ("Doug", None, None)
            assert len(await service.find({"query": {"age": None}})) == 1

    async def test_patch_selects_fields_and_the_id(self) -> None:
        async with self.people() as service:
            id = await self.id_of(service, "Doug")
            params = {"query": {"$select": ["name"]}}
            assert await service.patch(id, {"age": 1}, params) == {self.key: id, "name": "Doug"}

    async def test_patch_of_nothing_gives_the_record(self) -> None:
        async with self.people() as service:
            id = await self.id_of(service, "Doug")
            assert (await service.patch(id, {}))["age"] == 32
            with raises(NotFound):
                await service.patch(123456789, {})

    async def test_patch_of_the_queried_field_gives_the_record(self) -> None:
        async with self.people() as service:
            id = await self.id_of(service, "Doug")
            assert (await service.patch(id, {"name": "Dougler"}, {"query": {"name": "Doug"}}))["name"] == "Dougler"

    async def test_patch_many_needs_multi(self) -> None:
        async with self.people(multi=["create", "remove"]) as service:
            with raises(MethodNotAllowed, "Can not patch multiple entries"):
                await service.patch(None, {"age": 1})

    async def test_patch_many_changes_all_that_match(self) -> None:
        async with self.people(multi=["patch"]) as service:
            patched = await service.patch(None, {"created": True}, {"query": {"age": {"$lt": 30}}})
            assert sorted(names(patched)) == ["Alice", "Bob"]
            assert names(await service.find({"query": {"created": True}})) == ["Bob", "Alice"]

    async def test_patch_many_ignores_pages_and_limits(self) -> None:
        rows = [{"name": f"name {number}"} for number in range(14)]
        async with self.people(*rows, multi=True, paginate={"default": 10, "max": 10}) as service:
            assert len(await service.patch(None, {"age": 1}, {"query": {"$limit": 2}})) == 14
            assert len(await service.patch(None, {})) == 14

    async def test_patch_many_gives_rows_that_match_still(self) -> None:
        async with self.people({"name": "a", "age": 8}, {"name": "b", "age": 8}, multi=True) as service:
            patched = await service.patch(None, {"age": 2}, {"query": {"age": {"$lt": 10}}})
            assert [row["age"] for row in patched] == [2, 2]

    async def test_patch_many_gives_rows_that_match_no_more(self) -> None:
        async with self.people({"name": "a", "age": 10}, {"name": "b", "age": 10}, multi=True) as service:
            patched = await service.patch(None, {"age": 2}, {"query": {"age": 10}})
            assert [row["age"] for row in patched] == [2, 2]

    async def test_many_of_none_is_an_empty_list(self) -> None:
        async with self.people(multi=True) as service:
            assert await service.patch(None, {"age": 1}, {"query": {"name": "Nobody"}}) == []
            assert await service.remove(None, {"query": {"name": "Nobody"}}) == []

    async def test_remove_gives_the_record_as_it_was(self) -> None:
        async with self.people({"name": "Doug", "age": 32, "extra": {"a": 1}}) as service:
            removed = await service.remove(await self.id_of(service, "Doug"))
            assert (removed["name"], removed["age"], removed["extra"]) == ("Doug", 32, {"a": 1})
            assert await service.find() == []

    async def test_remove_selects_fields_and_the_id(self) -> None:
        async with self.people() as service:
            id = await self.id_of(service, "Doug")
            assert await service.remove(id, {"query": {"$select": ["name"]}}) == {self.key: id, "name": "Doug"}

    async def test_remove_many_needs_multi(self) -> None:
        async with self.people(multi=["create", "patch"]) as service:
            with raises(MethodNotAllowed, "Can not remove multiple entries"):
                await service.remove(None)
            assert len(await service.find()) == 3

    async def test_remove_many_takes_all_that_match(self) -> None:
        async with self.people(multi=["remove"]) as service:
            assert names(await service.remove(None, {"query": {"age": {"$lt": 30}}})) == ["Bob", "Alice"]
            assert names(await service.find()) == ["Doug"]

    async def test_remove_many_ignores_pages_and_limits(self) -> None:
        rows = [{"name": f"name {number}"} for number in range(14)]
        async with self.people(*rows, multi=True, paginate={"default": 10, "max": 10}) as service:
            assert len((await service.find())["data"]) == 10
            assert len(await service.find({"paginate": False})) == 14
            assert len(await service.remove(None, {"query": {"$limit": 2}})) == 14

    async def test_writes_apply_the_query(self) -> None:
        async with self.people() as service:
            id, params = await self.id_of(service, "Doug"), {"query": {"name": "Bob"}}
            for call in (service.update(id, {"name": "x"}, params), service.patch(id, {"name": "x"}, params),
                         service.remove(id, params)):  # fmt: skip
                with raises(NotFound, f"No record found for id '{id}'"):
                    await call
            assert (await service.get(id))["age"] == 32

    async def test_writes_with_another_id_in_the_query_find_nothing(self) -> None:
        async with self.people() as service:
            id, params = await self.id_of(service, "Doug"), {"query": {self.key: await self.id_of(service, "Bob")}}
            for call in (service.update(id, {"name": "x"}, params), service.patch(id, {"name": "x"}, params),
                         service.remove(id, params)):  # fmt: skip
                with raises(NotFound):
                    await call
            assert sorted(names(await service.find())) == ["Alice", "Bob", "Doug"]

    async def test_writes_of_an_id_that_cannot_be_find_nothing(self) -> None:
        async with self.people() as service:
            for id in UNKNOWN_IDS:
                for call in (service.update(id, {"name": "x"}), service.patch(id, {"name": "x"}), service.remove(id)):
                    with raises(NotFound, "No record found for id"):
                        await call

    async def test_writes_refuse_what_cannot_be_stored(self) -> None:
        self.only_typed()
        async with self.people(multi=True) as service:
            id = await self.id_of(service, "Doug")
            for data in ({"age": "old"}, {"age": 2**31}, {"nmae": "x"}, {"time": "noon"}, {"name": "\ud800"}):
                for call in (service.create(data), service.update(id, data), service.patch(None, data)):
                    with raises(BadRequest, next(iter(data))):
                        await call

    async def test_writes_take_an_object_alone(self) -> None:
        async with self.people(multi=True) as service:
            id = await self.id_of(service, "Doug")
            for call in (service.update(id, None), service.patch(id, None), service.patch(None, [{"age": 1}])):
                with raises(BadRequest):
                    await call


class Merging(Contract):
    """The rules of ``merge``: a patch merges the keys of these fields."""

    async def test_a_patch_merges_the_keys_of_an_object(self) -> None:
        data = {"extra": {"b": 3, "c": {"d": 1}}}
        before = copy.deepcopy(data)
        async with self.people({"name": "Dave", "extra": {"a": 1, "b": 2}}, merge=["extra"]) as service:
            id = await self.id_of(service, "Dave")
            assert (await service.patch(id, data))["extra"] == {"a": 1, "b": 3, "c": {"d": 1}}
            assert (await service.get(id))["extra"] == {"a": 1, "b": 3, "c": {"d": 1}}
        assert data == before

    async def test_null_removes_a_key(self) -> None:
        async with self.people({"name": "Dave", "extra": {"a": 1, "b": 2}}, merge=["extra"]) as service:
            id = await self.id_of(service, "Dave")
            assert (await service.patch(id, {"extra": {"a": None, "x": None}}))["extra"] == {"b": 2}

    async def test_inner_objects_are_replaced(self) -> None:
        old = {"a": {"x": 1, "y": None}, "b": {"z": None}}
        async with self.people({"name": "Dave", "extra": old}, merge=["extra"]) as service:
            id = await self.id_of(service, "Dave")
            patched = await service.patch(id, {"extra": {"a": {"w": None}, "c": [True, 1.5, None]}})
            assert wire(patched["extra"]) == {"a": {"w": None}, "b": {"z": None}, "c": [True, 1.5, None]}

    async def test_null_is_taken_as_an_empty_object(self) -> None:
        async with self.people({"name": "Dave"}, merge=["extra"]) as service:
            id = await self.id_of(service, "Dave")
            assert (await service.patch(id, {"extra": {"a": 1}}))["extra"] == {"a": 1}
            assert (await service.patch(id, {"extra": {}}))["extra"] == {"a": 1}

    async def test_null_for_the_whole_field_empties_it(self) -> None:
        async with self.people({"name": "Dave", "extra": {"a": 1}}, merge=["extra"]) as service:
            id = await self.id_of(service, "Dave")
            assert (await service.patch(id, {"extra": None}))["extra"] is None

    async def test_an_update_replaces_the_object(self) -> None:
        async with self.people({"name": "Dave", "extra": {"a": 1}}, merge=["extra"]) as service:
            id = await self.id_of(service, "Dave")
            assert (await service.update(id, {"extra": {"b": 2}}))["extra"] == {"b": 2}

    async def test_only_objects_are_merged(self) -> None:
        async with self.people({"name": "Dave", "extra": {"a": 1}}, merge=["extra"], multi=True) as service:
            id = await self.id_of(service, "Dave")
            for value in ([1], "text", 5, True):
                with raises(BadRequest, "extra must be an object"):
                    await service.patch(id, {"extra": value})
            assert (await service.get(id))["extra"] == {"a": 1}

    async def test_a_patch_of_many_merges_each(self) -> None:
        rows: list[dict[str, Any]] = [{"name": "a", "extra": {"a": 1}}, {"name": "b", "extra": {"b": 2}}, {"name": "c"}]
        async with self.people(*rows, merge=["extra"], multi=True) as service:
            patched = await service.patch(None, {"extra": {"x": True}})
            assert [row["extra"] for row in patched] == [{"a": 1, "x": True}, {"b": 2, "x": True}, {"x": True}]

    async def test_a_patch_without_merge_replaces_the_object(self) -> None:
        async with self.people({"name": "Dave", "extra": {"a": 1}}) as service:
            id = await self.id_of(service, "Dave")
            assert (await service.patch(id, {"extra": {"b": 2}}))["extra"] == {"b": 2}
