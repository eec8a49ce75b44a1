"""Changes by other users, which appear in the console without a reload."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.console.conftest import Visit
from tests.console.visitor import ADMIN, MEMBER, OTHER


def test_a_change_appears_only_in_its_organization(visit: Visit, url: str) -> None:
    admin, member, other = (visit(url).enter(email) for email in (ADMIN, MEMBER, OTHER))
    admin.add(first_name="Ada", last_name="Lovelace")
    member.sees("Ada Lovelace", "Johnny Smith", "John Doe")
    expect(member.page.locator("#news")).to_have_text("Ada Lovelace was added")

    admin.button("John Doe").click()
    admin.fill(last_name="Roe")
    admin.button("Save").click()
    member.sees("Ada Lovelace", "Johnny Smith", "John Roe")
    expect(member.row("John Roe")).to_have_class(re.compile("fresh"))

    admin.remove("Johnny Smith")
    member.sees("Ada Lovelace", "John Roe")
    expect(member.page.locator("#news")).to_have_text("Johnny Smith was deleted")
    expect(member.page.locator("#count")).to_have_text("2")

    other.catch_up()
    other.sees("Otto Other", "Olga Other")
    expect(other.page.locator("#news")).to_have_text("")


def test_a_search_follows_events(visit: Visit, url: str) -> None:
    admin, member = visit(url).enter(ADMIN), visit(url).enter(MEMBER)
    member.page.locator("#term").fill("love")
    expect(member.page.get_by_role("heading", name="Nobody matches “love”")).to_be_visible()
    admin.add(first_name="Ada", last_name="Lovelace")
    member.sees("Ada Lovelace")


def test_a_change_of_the_open_contact_is_announced(visit: Visit, url: str) -> None:
    admin, member = visit(url).enter(ADMIN), visit(url).enter(MEMBER)
    member.button("John Doe").click()
    admin.remove("John Doe")
    expect(member.editor.get_by_text("John Doe was just deleted by someone.")).to_be_visible()
    member.fill(last_name="Roe")
    member.button("Save").click()
    expect(member.editor.get_by_role("alert")).to_contain_text("123")
    member.page.keyboard.press("Escape")
    expect(member.editor).to_be_hidden()
    member.sees("Johnny Smith")


def test_rows_keep_the_focus_when_others_come(visit: Visit, url: str) -> None:
    admin, member = visit(url).enter(ADMIN), visit(url).enter(MEMBER)
    member.button("John Doe").focus()
    admin.add(first_name="Ada")
    member.sees("Ada", "Johnny Smith", "John Doe")
    expect(member.button("John Doe")).to_be_focused()
