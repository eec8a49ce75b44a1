"""Whole records, which clients such as react-admin send back: every service accepts them as they were received."""

from __future__ import annotations

from services.shared.tenant import TenantService
from tests.services.crm import Crm, refused

SERVERS = ("id", "created_at", "updated_at", "deleted_at", "created_by_user_id")


async def test_a_received_record_can_be_sent_back(crm: Crm) -> None:
    tried = set()
    for path, bound in crm.app.services.items():
        if not isinstance(bound.service, TenantService) or "patch" not in bound._options.methods:
            continue
        if (example := bound.service.examples.get("create")) is not None:
            await crm.call(f"POST /{path}", example.data)
        _, page = await crm.call(f"GET /{path}?organization_id=456")
        for record in page["data"][:3]:
            tried.add(path)
            status, patched = await crm.call(f"PATCH /{path}/{record['id']}", record)
            assert status == 200, (path, patched)
            moved = dict.fromkeys(("updated_at", *bound.service.volatile))
            assert {**patched, **moved} == {**record, **moved}, path
            for field in SERVERS:
                body = await crm.call(f"PATCH /{path}/{record['id']}", {**patched, field: 99})
                assert refused(body, 400, field)["errors"].keys() == {field}, path
    assert {"contacts", "companies", "deals", "products", "support-tickets", "custom-fields"} <= tried, tried
