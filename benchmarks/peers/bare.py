"""An ASGI app that answers each request with the same contact, to measure the server alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.peers.serving import serve

BODY = (
    b'{"id":8,"organization_id":1008,"first_name":"Hemsond","last_name":"Stelseandsirt","email":"hemsond.stelseandsirt7'
    b'@garundhou.example.com","phone":"9452064763","phone_country_code":"+1","phone_country_iso":"US","company_id":null'
    b',"channel_whatsapp_wa_id":null,"channel_instagram_user_id":null,"system_type":"contact","avatar_url":null,'
    b'"custom_fields_by_name":{},"created_at":"2024-01-01T00:00:07.000Z","updated_at":"2024-01-01T00:00:07.000Z",'
    b'"deleted_at":null,"created_by_user_id":10008,"owned_by_user_id":10008}'
)
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


async def app(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    serve(app)
