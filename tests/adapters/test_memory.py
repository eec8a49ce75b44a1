"""The adapter contract on memory: with fields, without them, and with an id of another name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from apex.adapters.memory import MemoryService
from apex.app import Apex
from apex.query import coercion as coerce
from apex.query.coercion import Coerce
from apex.service import BoundService
from apex.testing import AdapterContract

TYPES: Mapping[str, Coerce] = {
    "name": coerce.optional(coerce.text),
    "age": coerce.nullable(coerce.small_integer),
    "created": coerce.nullable(coerce.boolean),
    "time": coerce.nullable(coerce.timestamp),
    "extra": coerce.json,
    "secret": coerce.optional(coerce.text),
    "organization_id": coerce.nullable(coerce.small_integer),
}


class TestMemory(AdapterContract):
    @asynccontextmanager
    async def make(self, **options: Any) -> AsyncIterator[BoundService]:
        fields = {self.key: coerce.small_integer, **TYPES} if self.typed else None
        app = Apex().use("people", MemoryService(fields=fields, id=self.key, **options))
        await app.setup()
        yield app.service("people")
        await app.teardown()


class TestMemoryWithoutFields(TestMemory):
    typed = False


class TestMemoryWithAnotherId(TestMemory):
    key = "_key"
