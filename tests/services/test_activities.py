"""Activities: places and agendas."""

from __future__ import annotations

from tests.services.crm import Crm, make, refused


async def test_a_place_needs_coordinates(crm: Crm) -> None:
    activity = await make(crm, "activities", subject="Call", activity_type="call")
    path = f"PATCH /activities/{activity['id']}"
    for place in ({"address": "Here"}, {"lat": "5", "lng": 1}, {"lat": 1}):
        refused(await crm.call(path, {"location_geocoded": place}), 400)
    for done in (0, 1.0, "true"):
        assert refused(await crm.call(path, {"done": done}), 400)["errors"] == {"done": "Must be true or false"}


async def test_an_agenda_is_sorted_and_filtered(crm: Crm) -> None:
    place = {"lat": 1.5, "lng": 2.5, "address": "Here"}
    for day, time in (("2025-04-16", "09:00:00"), ("2025-04-15", "14:30:00"), ("2025-04-15", "09:00:00")):
        call = {
            "subject": "Call",
            "activity_type": "call",
            "start_date": day,
            "start_time": time,
            "assigned_to_user_id": 790,
        }
        await make(crm, "activities", **call, contact_id=123, location_geocoded=place)
    query = "assigned_to_user_id=790&done=false&$sort[start_date]=1&$sort[start_time]=1"
    _, page = await crm.call(f"GET /activities?organization_id=456&{query}")
    assert [(one["start_date"], one["start_time"]) for one in page["data"]] == [
        ("2025-04-15", "09:00:00"), ("2025-04-15", "14:30:00"), ("2025-04-16", "09:00:00"),
    ]  # fmt: skip
    first = page["data"][0]
    assert first["contact"] == {"id": 123, "full_name": "John Doe"}
    assert first["location_geocoded"] == place
    assert first["assigned_to_user"] == {"id": 790, "full_name": "Member User"}
    _, done = await crm.call(f"PATCH /activities/{first['id']}", {"done": True})
    assert done["done"] is True
