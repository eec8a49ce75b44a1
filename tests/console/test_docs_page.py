"""The page of the OpenAPI document, in a browser without the internet."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import apex.openapi
from services.shared.examples import DEMO_PASSWORD
from tests.console.visitor import Visitor

UI = Path(apex.openapi.__file__).parent / "ui"


@pytest.fixture(scope="module")
def loaded(browser: Browser, shared_url: str) -> Iterator[Page]:
    """Load the page, which takes seconds, with an operation open, and log in."""
    visitor = Visitor(browser, shared_url)
    visitor.page.goto(f"{shared_url}/docs/#/contacts/contactsSearch")
    visitor.page.get_by_placeholder("E-mail").fill("admin@example.com")
    visitor.page.get_by_placeholder("Password").fill(DEMO_PASSWORD)
    visitor.page.get_by_role("button", name="Log in").click()
    expect(visitor.page.get_by_role("status")).to_have_text("Logged in as admin@example.com")
    yield visitor.page
    visitor.context.close()
    assert visitor.complaints == []


@pytest.fixture
def page(loaded: Page) -> Iterator[Page]:
    """Return the page, and take back what a test has tried."""
    yield loaded
    for button in loaded.get_by_role("button", name="Cancel").all():
        button.click()


def test_a_call_can_be_tried_after_a_login(page: Page) -> None:
    operation = page.locator(".opblock-get", has_text="/contacts/{id}").first
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_placeholder("id", exact=True).fill("123")
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")
    expect(operation.locator(".live-responses-table").first).to_contain_text("john.doe@example.com")


def test_a_list_can_be_tried_as_it_is_and_with_operators(page: Page) -> None:
    operation = page.locator("#operations-contacts-contactsFind")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table").first).to_contain_text('"total": 2')
    for asked in ("124", '{"$gt": 123}'):
        operation.get_by_placeholder("id", exact=True).fill(asked)
        operation.get_by_role("button", name="Execute").click()
        expect(operation.locator(".live-responses-table").first).to_contain_text('"total": 1')


def test_a_custom_method_can_be_tried_as_it_is_filled_in(page: Page) -> None:
    operation = page.locator("#operations-contacts-contactsSearch")
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table").first).to_contain_text("john.doe@example.com")
    operation.locator("textarea").fill('{"organization_id": 456, "searchTerm": "nobody", "searchIn": "email"}')
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table").first).to_contain_text('"total": 0')


def test_an_operation_shows_how_it_is_called(page: Page) -> None:
    operation = page.locator("#operations-contacts-contactsSearch")
    operation.get_by_text("search: JavaScript").click()
    expect(operation.locator(".samples details[open] pre")).to_contain_text("app.service('contacts').search({")


def test_the_vendored_files_have_the_listed_hashes() -> None:
    vendor = UI / "vendor"
    told = dict(
        reversed(line.split()) for line in re.findall("^[0-9a-f]{64} .*", (vendor / "README.md").read_text(), re.M)
    )
    assert told == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in vendor.glob("swagger-ui*")}
    used = set(re.findall(r'(?:src|href)="vendor/(\S+)"', (UI / "index.html").read_text()))
    assert used == {file.name for file in (*vendor.glob("*.js"), *vendor.glob("*.css"))}
