"""Static files and the document: compressed for clients that take it, with tags of their own."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from httpx2 import AsyncClient

from apex import Apex, MemoryService, rest
from apex.openapi import routes
from apex.transports.pages import page, takes_gzip
from tests.support.serving import serving

OWN = ("date", "x-request-id")
"""Headers of one answer alone."""

SCRIPT = "const answer = 42\n" * 100


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[AsyncClient]:
    (tmp_path / "page.js").write_text(SCRIPT)
    (tmp_path / "index.html").write_text("<p>short")
    (tmp_path / "picture.png").write_bytes(bytes(1_000))
    app = Apex()
    app.configure(lambda app: rest(app, routes=[*routes(app), *page("/page", tmp_path)]))
    app.use("notes", MemoryService())
    async with serving(app) as client:
        yield client


@pytest.mark.parametrize("path", ["/page/page.js", "/openapi.json"])
async def test_texts_are_compressed_for_clients_that_take_it(client: AsyncClient, path: str) -> None:
    plain, zipped = [await client.get(path, headers={"accept-encoding": way}) for way in ("identity", "br, gzip")]
    assert (plain.headers.get("content-encoding"), zipped.headers["content-encoding"]) == (None, "gzip")
    assert int(zipped.headers["content-length"]) < int(plain.headers["content-length"]) == len(plain.content)
    assert plain.content == zipped.content
    assert all("Accept-Encoding" in answer.headers["vary"] for answer in (plain, zipped))
    assert plain.headers["content-type"] == zipped.headers["content-type"]


@pytest.mark.parametrize("path", ["/page/page.js", "/openapi.json"])
async def test_each_form_has_a_tag_of_its_own(client: AsyncClient, path: str) -> None:
    for way, other in (("identity", "gzip"), ("gzip", "identity")):
        first = await client.get(path, headers={"accept-encoding": way})
        known = {"if-none-match": first.headers["etag"]}
        same = await client.get(path, headers={"accept-encoding": way, **known})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
        assert "Accept-Encoding" in same.headers["vary"]
        assert (await client.get(path, headers={"accept-encoding": other, **known})).status_code == 200


@pytest.mark.parametrize("path", ["/page/page.js", "/openapi.json", "/page/"])
async def test_head_answers_as_get_does(client: AsyncClient, path: str) -> None:
    for way in ("identity", "gzip"):
        get, head = [await client.request(verb, path, headers={"accept-encoding": way}) for verb in ("GET", "HEAD")]
        assert head.content == b""
        said = [{name: value for name, value in each.headers.items() if name not in OWN} for each in (get, head)]
        assert said[0] == said[1]


async def test_what_does_not_become_smaller_is_sent_as_it_is(client: AsyncClient) -> None:
    for path, body in (("/page/", b"<p>short"), ("/page/picture.png", bytes(1_000))):
        answer = await client.get(path, headers={"accept-encoding": "gzip"})
        assert (answer.headers.get("content-encoding"), answer.content) == (None, body)


async def test_a_file_that_changes_is_read_again(client: AsyncClient, tmp_path: Path) -> None:
    first = await client.get("/page/page.js")
    (tmp_path / "page.js").write_text(SCRIPT * 2)
    again = await client.get("/page/page.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.text) == (200, SCRIPT * 2)


async def test_the_compressed_form_is_one_of_gzip(client: AsyncClient) -> None:
    async with client.stream("GET", "/page/page.js", headers={"accept-encoding": "gzip"}) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert gzip.decompress(raw).decode() == SCRIPT


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True), ("GZIP;q=0.5, br", True), ("*", True), ("x-gzip", True), ("br;q=1, gzip ; q=0.001", True),
        ("", False), ("br", False), ("gzip;q=0", False), ("gzip; q=0.000", False), ("*;q=0", False),
        ("*, gzip;q=0", False), ("gzip;q=x", False), ("gzipped", False), ("identity", False),
    ],
)  # fmt: skip
def test_a_client_says_what_it_takes(header: str, taken: bool) -> None:
    assert takes_gzip(header) is taken
