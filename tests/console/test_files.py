"""The files of the console: their headers, and the hashes of vendored files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import phonenumbers
import pytest
from httpx2 import Client

from services.app import CONSOLE

VENDOR = CONSOLE / "vendor"


@pytest.fixture
def client(shared_url: str) -> Iterator[Client]:
    with Client(base_url=shared_url) as client:
        yield client


def test_the_page_may_connect_only_to_its_server(client: Client) -> None:
    page = client.get("/console/")
    policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers.get_list("x-content-type-options") == ["nosniff"]
    assert page.headers["referrer-policy"] == "no-referrer"


def test_files_are_asked_for_again_and_versions_are_kept(client: Client) -> None:
    for name in ("", "page.js", "style.css"):
        first = client.get(f"/console/{name}")
        again = client.get(f"/console/{name}", headers={"If-None-Match": first.headers["etag"]})
        assert (first.headers["cache-control"], again.status_code) == ("no-cache", 304)
    [vendored, *_] = VENDOR.glob("*.min.js")
    kept = client.get(f"/console/vendor/{vendored.name}")
    assert "immutable" in kept.headers["cache-control"]


def test_the_way_to_the_page(client: Client) -> None:
    answer = client.get("/console")
    assert (answer.status_code, answer.headers["location"]) == (307, "/console/")
    for path in ("/console/nope", "/console/../pyproject.toml", "/console/%2e%2e/pyproject.toml"):
        assert (client.get(path)).status_code == 404


def test_the_vendored_files_have_the_listed_hashes() -> None:
    text = (VENDOR / "README.md").read_text()
    named = {name: hash for hash, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", text, re.MULTILINE)}
    there = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in VENDOR.iterdir()}
    assert named == {name: hash for name, hash in there.items() if name != "README.md"}
    used = set(re.findall(r'src="vendor/(\S+)"', (CONSOLE / "index.html").read_text()))
    assert used == {name for name in there if name.endswith(".js")}


def test_the_countries_are_those_of_the_server() -> None:
    [table] = re.findall(r"TABLE = `([^`]+)`", (CONSOLE / "countries.js").read_text())
    codes = {entry[:2]: int(entry[2:]) for entry in table.split()}
    assert codes == {
        country: phonenumbers.country_code_for_region(country) for country in phonenumbers.SUPPORTED_REGIONS
    }


def test_data_never_becomes_markup() -> None:
    for file in CONSOLE.glob("*.js"):
        found = re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", file.read_text())
        assert found == [], file.name
    for file in CONSOLE.glob("*.html"):
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script>|https?://", file.read_text()), file.name
