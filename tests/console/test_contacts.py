"""Contacts in the console: search, create, edit and delete."""

from __future__ import annotations

import re

import httpx2
from playwright.sync_api import WebSocketRoute, expect

from tests.console.visitor import Visitor

MARKUP = "<img src=x onerror=\"document.title='hacked'\">"


def add_many(visitor: Visitor, count: int) -> None:
    """Add contacts without the page."""
    headers = {"Authorization": f"Bearer {visitor.token()}"}
    with httpx2.Client(base_url=visitor.url, headers=headers) as client:
        for number in range(count):
            data = {"organization_id": 456, "first_name": f"Number {number + 1}"}
            client.post("/contacts", json=data).raise_for_status()


def test_a_search_answers_as_one_types(reader: Visitor) -> None:
    reader.enter()
    reader.page.keyboard.press("/")
    reader.page.keyboard.type("d")
    expect(reader.page.get_by_text("Type at least 2 characters")).to_be_visible()
    reader.page.keyboard.type("oe")
    reader.sees("John Doe")
    reader.page.get_by_role("radio", name="Email").check()
    reader.page.locator("#term").fill("smith@")
    reader.sees("Johnny Smith")
    reader.page.get_by_role("radio", name="Phone").check()
    reader.page.locator("#term").fill("123 456")
    reader.sees("John Doe")
    reader.page.locator("#term").fill("##")
    expect(reader.page.get_by_text("Must have at least 2 digits")).to_be_visible()
    reader.page.get_by_label("Country of the number").select_option("DE")
    reader.page.locator("#term").fill("123456")
    expect(reader.page.get_by_role("heading", name="Nobody matches “123456”")).to_be_visible()
    reader.page.locator("#term").fill("")
    reader.sees("Johnny Smith", "John Doe")


def test_a_late_answer_is_dropped(reader: Visitor) -> None:
    held: list[tuple[WebSocketRoute, str | bytes]] = []
    holding = False

    def between(browser: WebSocketRoute) -> None:
        server = browser.connect_to_server()

        def answered(message: str | bytes) -> None:
            if holding and "Smith" in str(message):
                held.append((browser, message))
            else:
                browser.send(message)

        server.on_message(answered)

    reader.page.route_web_socket("**/socket.io/**", between)
    reader.enter()
    holding = True
    reader.page.locator("#term").fill("smith")
    expect(reader.page.locator("#list")).to_have_attribute("data-state", "busy")
    reader.page.locator("#term").fill("doe")
    reader.sees("John Doe")
    [(browser, late)] = held
    browser.send(late)
    reader.catch_up()
    reader.sees("John Doe")


def test_a_contact_is_created_once_its_mistakes_are_mended(visitor: Visitor) -> None:
    visitor.enter()
    visitor.add(email="nowhere", phone="12345")
    expect(visitor.error("first_name")).to_have_text("Is required")
    expect(visitor.error("email")).to_have_text("Invalid email format")
    expect(visitor.error("phone")).to_have_text("Must have the length of a phone number of US")
    expect(visitor.editor.locator("[name=first_name]")).to_be_focused()
    visitor.fill(first_name="Zoë", last_name="Müller", email="zoe@example.com", phone="(202) 555-0143")
    visitor.editor.locator("[name=company_id]").select_option("Sample Inc")
    visitor.button("Save").click()
    visitor.sees("Zoë Müller", "Johnny Smith", "John Doe")
    expect(visitor.editor).to_be_hidden()
    expect(visitor.row("Zoë Müller")).to_contain_text("zoe@example.com +1 2025550143 Sample Inc")
    expect(visitor.page.locator("#count")).to_have_text("3")


def test_a_contact_is_edited_in_its_place(visitor: Visitor) -> None:
    visitor.enter()
    visitor.button("John Doe").click()
    expect(visitor.editor.locator("[name=company_id]")).to_have_value("101")
    visitor.fill(last_name="", phone="")
    visitor.button("Save").click()
    visitor.sees("Johnny Smith", "John")
    expect(visitor.button("John")).to_be_focused()
    headers = {"Authorization": f"Bearer {visitor.token()}"}
    stored = httpx2.get(f"{visitor.url}/contacts/123", headers=headers).json()
    assert stored["company_id"] == 101
    assert not any(stored[name] for name in ("last_name", "phone", "phone_country_iso", "phone_country_code"))


def test_a_contact_is_deleted_after_a_question(visitor: Visitor) -> None:
    visitor.enter()
    visitor.button("Delete John Doe").click()
    question = visitor.page.get_by_role("alertdialog", name="Delete John Doe?")
    question.get_by_role("button", name="Cancel").click()
    expect(visitor.button("Delete John Doe")).to_be_focused()
    visitor.remove("John Doe")
    visitor.sees("Johnny Smith")
    expect(visitor.button("Johnny Smith")).to_be_focused()
    visitor.remove("Johnny Smith")
    expect(visitor.page.get_by_role("heading", name="No contacts yet")).to_be_visible()
    expect(visitor.page.locator("#heading")).to_be_focused()


def test_a_long_list_has_pages(visitor: Visitor) -> None:
    add_many(visitor.enter(), 30)
    expect(visitor.names).to_have_count(25)
    expect(visitor.page.locator("#range")).to_have_text(re.compile("^1.25 of 32$"))
    visitor.button("Next").click()
    visitor.sees(*(f"Number {number}" for number in range(5, 0, -1)), "Johnny Smith", "John Doe")
    expect(visitor.button("Next")).to_have_attribute("aria-disabled", "true")
    visitor.button("Previous").click()
    expect(visitor.names.first).to_have_text("Number 30")
    visitor.remove("Number 30")
    expect(visitor.names).to_have_count(25)
    expect(visitor.names.last).to_have_text("Number 5")


def test_markup_in_a_name_is_text(visitor: Visitor) -> None:
    visitor.enter()
    visitor.add(first_name=MARKUP)
    visitor.sees(MARKUP, "Johnny Smith", "John Doe")
    visitor.remove(MARKUP)
    visitor.sees("Johnny Smith", "John Doe")
    assert visitor.page.locator("main img").count() == 0
    assert "hacked" not in visitor.page.title()
