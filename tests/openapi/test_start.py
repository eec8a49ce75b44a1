"""The page at ``/``, which leads to what an app serves."""

from __future__ import annotations

import re

from apex import Apex, MemoryService, rest
from apex.observability import health
from apex.openapi import openapi, start_page
from tests.support.serving import serving


async def test_the_page_leads_to_what_is_served_and_to_nothing_else() -> None:
    app = Apex({"openapi": {"title": "Notes & more"}}).configure(start_page).configure(rest)
    app.configure(openapi).configure(health)
    app.use("notes", MemoryService()).use("internal", MemoryService(), methods=())
    async with serving(app) as client:
        page = await client.get("/")
        links = re.findall('href="([^":]+)"', page.text)
        assert links == ["docs/", "openapi.json", "healthz", "readyz"]
        assert [(await client.get(f"/{link}")).status_code for link in links] == [200] * 4
    assert "<h1>Notes &amp; more</h1>" in page.text
    assert ("/notes" in page.text, "/internal" in page.text) == (True, False)
