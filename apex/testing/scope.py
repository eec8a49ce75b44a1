"""The rules of scopes and private fields, with attempts to get past them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from apex.errors import BadRequest, Forbidden, NotFound
from apex.service import BoundService
from apex.testing.basics import Contract, names, raises, within
from apex.types import Row

OURS: Sequence[Row] = (
    {"name": "Ann", "age": 1, "organization_id": 1},
    {"name": "Art", "age": 2, "organization_id": 1},
)
THEIRS: Sequence[Row] = ({"name": "Zoe", "age": 1, "organization_id": 2}, {"name": "Zed", "age": 9})


class Scoping(Contract):
    """The rules of scopes. Ann and Art belong to the caller's organization 1, Zoe to 2, and Zed to none."""

    @asynccontextmanager
    async def tenants(self, **options: Any) -> AsyncIterator[BoundService]:
        async with self.people(*OURS, *THEIRS, **options) as service:
            yield service
            rest = await service.find({"query": {"name": {"$in": ["Zoe", "Zed"]}}, "paginate": False})
            assert [(row["name"], row["age"], row.get("organization_id")) for row in rest] == [
                ("Zoe", 1, 2), ("Zed", 9, None),
            ], "what is outside of the scope was changed"  # fmt: skip

    async def test_find_stays_inside(self) -> None:
        async with self.tenants(paginate={"default": 10}) as service:
            page = await service.find(within(1))
            assert (page["total"], names(page["data"])) == (2, ["Ann", "Art"])
            assert (await service.find(within(1, **{"$limit": 0})))["total"] == 2

    async def test_a_scope_holds_one_value_several_or_null(self) -> None:
        async with self.tenants() as service:
            for allowed, expected in ((1, ["Ann", "Art"]), ([1, 2], ["Ann", "Art", "Zoe"]), (None, ["Zed"]),
                                      ([None, 2], ["Zoe", "Zed"]), ({2}, ["Zoe"]), ((1,), ["Ann", "Art"])):  # fmt: skip
                assert names(await service.find({"scope": {"organization_id": allowed}})) == expected

    async def test_a_scope_compares_and_says_or(self) -> None:
        ours_or_nine: dict[str, Any] = {"$or": [{"organization_id": 1}, {"age": {"$gte": 9}}]}
        async with self.tenants() as service:
            for scope, expected in (({"age": {"$gt": 1}}, ["Art", "Zed"]), ({"age": {"$nin": [1]}}, ["Art", "Zed"]),
                                    (ours_or_nine, ["Ann", "Art", "Zed"]), ({"$or": []}, []),
                                    ({"name": {"$lt": "Z"}, **ours_or_nine}, ["Ann", "Art"])):  # fmt: skip
                assert names(await service.find({"scope": scope})) == expected

    async def test_a_patch_cannot_take_a_record_out_of_an_alternative(self) -> None:
        scope: dict[str, Any] = {"$or": [{"organization_id": 1}, {"age": {"$gte": 9}}]}
        async with self.people(*OURS, *THEIRS, multi=True) as service:
            ann, zed = await self.id_of(service, "Ann"), await self.id_of(service, "Zed")
            for id, data in ((zed, {"age": 8}), (ann, {"organization_id": 3}), (None, {"age": 8})):
                with raises(Forbidden, "outside of what you may touch"):
                    await service.patch(id, data, {"scope": scope})
            assert (await service.patch(ann, {"age": 8}, {"scope": scope}))["age"] == 8
            with raises(Forbidden, "age"):
                await service.create({"name": "New", "age": 8, "organization_id": 2}, {"scope": scope})

    async def test_an_empty_scope_list_allows_nothing(self) -> None:
        async with self.tenants(multi=True) as service:
            assert await service.find(within()) == []
            assert await service.remove(None, within()) == []
            with raises(Forbidden):
                await service.create({"name": "New", "organization_id": 1}, within())

    async def test_several_scope_fields_all_hold(self) -> None:
        async with self.tenants() as service:
            assert names(await service.find({"scope": {"organization_id": [1], "age": 2}})) == ["Art"]

    async def test_or_does_not_widen_the_scope(self) -> None:
        query: dict[str, Any] = {"name": "Zoe"}
        async with self.tenants() as service:
            for _ in range(9):
                query = {"$or": [query, {"age": {"$gte": 0}}]}
                assert names(await service.find(within(1, **query))) == ["Ann", "Art"]
                assert names(await service.find(within(1, **{"$and": [query]}))) == ["Ann", "Art"]

    async def test_or_that_names_the_scopes_field_does_not_widen_it(self) -> None:
        async with self.tenants() as service:
            for other in ({"organization_id": 2}, {"organization_id": None}, {"organization_id": {"$ne": 1}}, {}):
                query = {"$or": [other, {"organization_id": 1}]}
                assert names(await service.find(within(1, **query))) == ["Ann", "Art"]

    async def test_a_query_for_the_scopes_field_narrows_it(self) -> None:
        async with self.tenants() as service:
            for asked in (2, None, {"$in": [2]}, {"$gt": 1}, {"$nin": [1]}, {"$ne": 1}):
                assert await service.find(within(1, organization_id=asked)) == []
            assert names(await service.find(within(1, 2, organization_id=2))) == ["Zoe"]

    async def test_foreign_ids_are_not_found(self) -> None:
        async with self.tenants() as service:
            for name in ("Zoe", "Zed"):
                id = await self.id_of(service, name)
                for call in (service.get(id, within(1)), service.update(id, {"name": "x"}, within(1)),
                             service.patch(id, {"name": "x"}, within(1)), service.patch(id, {}, within(1)),
                             service.remove(id, within(1))):  # fmt: skip
                    with raises(NotFound, f"No record found for id '{id}'"):
                        await call

    async def test_lists_of_foreign_ids_find_nothing(self) -> None:
        async with self.tenants() as service:
            ids = [await self.id_of(service, name) for name in ("Zoe", "Zed", "Ann")]
            assert names(await service.find(within(1, **{self.key: {"$in": ids}}))) == ["Ann"]
            assert names(await service.find(within(1, **{"$or": [{self.key: id} for id in ids]}))) == ["Ann"]

    async def test_writes_of_many_stay_inside(self) -> None:
        async with self.tenants(multi=True) as service:
            for query in ({}, {"$or": [{}, {"organization_id": 2}]}):
                assert names(await service.patch(None, {"age": 7}, within(1, **query))) == ["Ann", "Art"]
            assert names(await service.remove(None, within(1, **{"$or": [{}, {"name": "Zoe"}]}))) == ["Ann", "Art"]

    async def test_create_is_stamped_with_the_scope(self) -> None:
        async with self.tenants(multi=True) as service:
            data = {"name": "New"}
            assert (await service.create(data, within(1)))["organization_id"] == 1
            assert [row["organization_id"] for row in await service.create([data, data], within(1))] == [1, 1]
            assert data == {"name": "New"}

    async def test_create_takes_a_field_inside_the_scope(self) -> None:
        async with self.tenants() as service:
            assert (await service.create({"name": "New", "organization_id": 1}, within(3, 1)))["organization_id"] == 1

    async def test_create_outside_the_scope_is_forbidden(self) -> None:
        async with self.tenants(multi=True) as service:
            for value in (2, None):
                with raises(Forbidden, "organization_id"):
                    await service.create({"name": "New", "organization_id": value}, within(1))
                with raises(Forbidden, "organization_id"):
                    await service.create([{"name": "New"}, {"name": "New", "organization_id": value}], within(1))
            assert await service.find({"query": {"name": "New"}}) == []

    async def test_create_in_one_of_several_must_say_which(self) -> None:
        async with self.tenants() as service:
            with raises(BadRequest, "organization_id is required"):
                await service.create({"name": "New"}, within(1, 2))

    async def test_a_record_cannot_be_moved_out_of_the_scope(self) -> None:
        async with self.tenants(multi=True) as service:
            id = await self.id_of(service, "Ann")
            for value in (2, None):
                data = {"name": "Ann", "organization_id": value}
                for call in (service.update(id, data, within(1)), service.patch(id, data, within(1)),
                             service.patch(None, data, within(1))):  # fmt: skip
                    with raises(Forbidden, "organization_id"):
                        await call
            assert (await service.get(id))["organization_id"] == 1

    async def test_update_keeps_the_record_inside(self) -> None:
        async with self.tenants() as service:
            id = await self.id_of(service, "Ann")
            assert (await service.update(id, {"name": "Anna"}, within(1)))["organization_id"] == 1

    async def test_a_foreign_id_in_the_body_is_ignored(self) -> None:
        async with self.tenants(multi=True) as service:
            id, other = await self.id_of(service, "Ann"), await self.id_of(service, "Zoe")
            assert (await service.patch(id, {self.key: other, "name": "Anna"}, within(1)))[self.key] == id
            assert (await service.update(id, {self.key: other, "name": "Anna"}, within(1)))[self.key] == id
            assert len(await service.patch(None, {self.key: other, "age": 3}, within(1))) == 2

    async def test_select_and_sort_show_nothing_outside(self) -> None:
        async with self.tenants(paginate={"default": 10}) as service:
            query = {"$select": ["name"], "$sort": {"organization_id": -1, "name": -1}}
            page = await service.find(within(1, **query))
            assert (page["total"], names(page["data"])) == (2, ["Art", "Ann"])
            assert [set(row) for row in page["data"]] == [{self.key, "name"}] * 2

    async def test_a_scope_in_the_query_is_only_a_field(self) -> None:
        self.only_typed()
        async with self.tenants() as service:
            for query in ({"scope": {"organization_id": 2}}, {"$scope": {"organization_id": 2}}):
                with raises(BadRequest):
                    await service.find({"scope": {"organization_id": 1}, "query": query})

    async def test_the_callers_scope_is_not_changed(self) -> None:
        scope: dict[str, Any] = {"organization_id": [1]}
        async with self.people(*OURS) as service:
            service.hooks({"before": {"find": [lambda context: context.params.scope.update(age=1)]}})
            assert names(await service.find({"scope": scope})) == ["Ann"]
        assert scope == {"organization_id": [1]}


class Hiding(Contract):
    """The rules of ``private`` fields. Callers can neither see nor query them. A schema decides what they may write."""

    @asynccontextmanager
    async def hidden(self) -> AsyncIterator[BoundService]:
        self.only_typed()
        async with self.make(private=["secret"], multi=True) as service:
            await service.create({"name": "Ann", "secret": "s3cret"})
            yield service
            (row,) = await service.find({"query": {"name": "Ann"}, "adapter": {"private": ()}})
            assert row["secret"] == "s3cret"

    async def test_private_fields_are_not_seen(self) -> None:
        async with self.hidden() as service:
            id = await self.id_of(service, "Ann")
            params = {"provider": "rest"}
            rows = [await service.get(id, params), *await service.find(params), await service.patch(id, {}, params),
                    await service.patch(id, {"age": 1}, params), await service.update(id, {"name": "Ann"}, params),
                    await service.create({"name": "New"}, params)]  # fmt: skip
            assert all("secret" not in row for row in rows)
            assert "secret" not in await service.remove(rows[-1][self.key], params)

    async def test_private_fields_are_unknown_in_queries(self) -> None:
        queries: list[dict[str, Any]] = [
            {"secret": "s3cret"}, {"secret": {"$ne": None}}, {"$or": [{"secret": "s3cret"}]}, {"$sort": {"secret": 1}},
            {"$select": ["secret"]}, {"$and": [{"$or": [{"secret": {"$gt": "a"}}]}]}, {"secrte": 1},
        ]  # fmt: skip
        async with self.hidden() as service:
            for query in queries:
                with raises(BadRequest, "Unknown field") as raised:
                    await service.find({"query": query, "provider": "rest"})
                assert "'secret'?" not in raised.error.message

    async def test_private_fields_cannot_be_selected_by_writes(self) -> None:
        params = {"query": {"$select": ["secret"]}, "provider": "rest"}
        async with self.hidden() as service:
            id = await self.id_of(service, "Ann")
            for call in (service.get(id, params), service.patch(id, {"age": 1}, params),
                         service.create({"name": "New"}, params), service.remove(id, params)):  # fmt: skip
                with raises(BadRequest, "Unknown field"):
                    await call

    async def test_private_fields_are_written_but_not_suggested(self) -> None:
        async with self.hidden() as service:
            id = await self.id_of(service, "Ann")
            assert "secret" not in await service.patch(id, {"secret": "s3cret"}, {"provider": "rest"})
            for call in (service.create({"secrte": "x"}), service.patch(id, {"secrte": "x"})):
                with raises(BadRequest, "secrte is unknown") as raised:
                    await call
                assert "'secret'?" not in str(raised.error.to_dict())

    async def test_an_update_keeps_private_fields(self) -> None:
        async with self.hidden() as service:
            id = await self.id_of(service, "Ann")
            await service.update(id, {"name": "Ann", "age": 5}, {"provider": "rest"})
