"""The examples of the published contract for contacts, as they are printed there."""

from __future__ import annotations

from tests.services.crm import CONTACT, SEARCH, Crm, refused

JOHN = {
    "id": 123, "first_name": "John", "last_name": "Doe", "email": "john.doe@example.com", "phone": "1234567890",
    "phone_country_code": "+1", "phone_country_iso": "US", "organization_id": 456,
    "created_at": "2023-01-01T00:00:00.000Z", "updated_at": "2023-01-01T00:00:00.000Z", "deleted_at": None,
    "created_by_user_id": 789, "owned_by_user_id": 789, "company_id": 101, "channel_whatsapp_wa_id": None,
    "channel_instagram_user_id": None, "system_type": "contact", "avatar_url": "/path/to/avatar.jpg",
    "custom_fields_by_name": {"Industry": "Technology", "Preferred Contact Method": "Email"},
}  # fmt: skip

NEW = {
    "organization_id": 456, "first_name": "Jane", "last_name": "Smith", "email": "jane.smith@example.com",
    "phone": "9876543210", "phone_country_code": "+1", "phone_country_iso": "US", "owned_by_user_id": 789,
    "company_id": 101,
}  # fmt: skip


async def test_list_takes_its_query_from_a_json_body(crm: Crm) -> None:
    query = {
        "organization_id": 456, "$limit": 25, "$skip": 0, "$sort": {"created_at": -1}, "fastJoinForContactList": True,
    }  # fmt: skip
    status, page = await crm.call("GET /contacts", {"query": query})
    assert status == 200
    assert {name: page[name] for name in ("total", "limit", "skip")} == {"total": 2, "limit": 25, "skip": 0}
    assert [contact["id"] for contact in page["data"]] == [124, 123]
    assert page["data"][1] == JOHN | {
        "owner": {"id": 789, "first_name": "Admin", "last_name": "User"},
        "company": {"id": 101, "name": "Example Corp"},
    }


async def test_get(crm: Crm) -> None:
    assert await crm.call("GET /contacts/123", headers={"content-type": "application/json"}) == (200, JOHN)
    assert set(JOHN) == CONTACT


async def test_create(crm: Crm) -> None:
    status, contact = await crm.call("POST /contacts", NEW)
    assert status == 201
    assert set(contact) == CONTACT
    assert contact["created_at"] == contact["updated_at"]
    assert contact.items() >= (
        NEW | {
            "deleted_at": None, "created_by_user_id": 789, "channel_whatsapp_wa_id": None,
            "channel_instagram_user_id": None, "system_type": "contact", "avatar_url": None,
        }
    ).items()  # fmt: skip
    assert await crm.call(f"GET /contacts/{contact['id']}") == (200, contact)


async def test_update(crm: Crm) -> None:
    changes = {"email": "john.updated@example.com", "phone": "5551234567", "company_id": 102}
    status, contact = await crm.call("PATCH /contacts/123", changes)
    assert status == 200
    assert contact == JOHN | changes | {"updated_at": contact["updated_at"]}
    assert contact["updated_at"] > JOHN["updated_at"]
    assert await crm.call("GET /contacts/123") == (200, contact)


async def test_delete_sets_deleted_at_and_gives_the_row(crm: Crm) -> None:
    status, contact = await crm.call("DELETE /contacts/123", headers={"content-type": "application/json"})
    assert status == 200
    assert contact["deleted_at"] == contact["updated_at"] > JOHN["updated_at"]
    assert contact == JOHN | {name: contact[name] for name in ("deleted_at", "updated_at")}


async def test_search(crm: Crm) -> None:
    data = {"searchTerm": "john", "organization_id": 456, "$limit": 5, "searchIn": "name"}
    status, page = await crm.call("POST /contacts", data, headers=SEARCH)
    assert status == 200
    assert {name: page[name] for name in ("total", "limit", "skip")} == {"total": 2, "limit": 5, "skip": 0}
    assert page["data"][0] == JOHN
    assert [contact["id"] for contact in page["data"]] == [123, 124]


async def test_error(crm: Crm) -> None:
    assert await crm.call("POST /contacts", NEW | {"email": "nobody"}) == (
        400,
        {
            "name": "BadRequest",
            "message": "Invalid contact data",
            "code": 400,
            "className": "bad-request",
            "errors": {"email": "Invalid email format"},
        },
    )


async def test_status_codes(crm: Crm) -> None:
    refused(await crm.call("POST /contacts", {}), 400)
    refused(await crm.call("GET /contacts/123", user=None), 401)
    refused(await crm.call("GET /contacts/201"), 403)
    refused(await crm.call("GET /contacts/999"), 404)
