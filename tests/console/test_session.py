"""Login and logout in the console, and interruptions of a session."""

from __future__ import annotations

import signal

import httpx2
import pytest
from playwright.sync_api import expect

from tests.console.conftest import Visit
from tests.console.visitor import LIVE, Visitor
from tests.process.commands import server
from tests.support.waiting import SECONDS


def test_a_login_shows_the_list_newest_first(reader: Visitor) -> None:
    reader.open().log_in()
    reader.sees("Johnny Smith", "John Doe")
    expect(reader.row("John Doe")).to_contain_text("john.doe@example.com +1 1234567890 Example Corp")
    expect(reader.page).to_have_title("Contacts · Example Organization")
    expect(reader.page.get_by_text("Live", exact=True)).to_be_visible()


def test_a_wrong_password_is_said(reader: Visitor) -> None:
    reader.open().log_in(password="wrong")
    expect(reader.page.get_by_role("alert")).to_have_text("Email or password is wrong.")
    expect(reader.page.locator("#password")).to_be_focused()
    reader.log_in()
    reader.sees("Johnny Smith", "John Doe")


def test_one_organization_is_named(reader: Visitor) -> None:
    reader.enter()
    expect(reader.page.locator("header strong")).to_have_text("Example Organization")
    expect(reader.page.locator("header select")).to_be_hidden()


def test_of_several_organizations_one_is_chosen(visit: Visit, migrated_sqlite_url: str) -> None:
    with server("demo", "--rows", "30", "--serve", DATABASE_URL=migrated_sqlite_url) as (_, url):
        visitor = visit(url).enter()
        visitor.sees("Johnny Smith", "John Doe")
        chooser = visitor.page.get_by_role("combobox", name="Organization")
        chooser.select_option("Large Corp")
        expect(visitor.page.locator("#count")).to_have_text("30")
        visitor.page.reload()
        expect(visitor.page.locator("#count")).to_have_text("30")
        expect(visitor.page).to_have_title("Contacts · Large Corp")
        chooser.select_option("Example Organization")
        visitor.sees("Johnny Smith", "John Doe")


def test_a_session_survives_a_reload(reader: Visitor) -> None:
    reader.enter()
    reader.page.reload()
    reader.sees("Johnny Smith", "John Doe")
    expect(reader.page.locator("#login")).to_be_hidden()


def test_a_logout_ends_the_session(reader: Visitor) -> None:
    token = reader.enter().token()
    reader.button("Log out").click()
    expect(reader.page.locator("#email")).to_be_focused()
    reader.page.reload()
    expect(reader.page.locator("#email")).to_be_focused()
    answer = httpx2.get(f"{reader.url}/organizations", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


def test_a_session_ended_elsewhere_leads_to_the_login(reader: Visitor) -> None:
    reader.enter()
    reader.button("New contact").click()
    httpx2.delete(f"{reader.url}/authentication", headers={"Authorization": f"Bearer {reader.token()}"})
    expect(reader.page.get_by_text("Your session has ended. Log in again.")).to_be_visible(timeout=LIVE)
    reader.log_in()
    reader.sees("Johnny Smith", "John Doe")
    expect(reader.editor).to_be_hidden()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_page_comes_back_after_a_restart(visit: Visit, demo_sqlite_url: str, number: signal.Signals) -> None:
    with server("serve", DATABASE_URL=demo_sqlite_url) as (process, url):
        visitor = visit(url).enter()
        process.send_signal(number)
        process.wait(SECONDS)
    expect(visitor.page.get_by_text("Connecting…")).to_be_visible()
    visitor.add(first_name="Early")
    expect(visitor.editor.get_by_role("alert")).to_contain_text("The server did not answer")
    with server("serve", DATABASE_URL=demo_sqlite_url, PORT=url.rpartition(":")[2]):
        expect(visitor.page.get_by_text("Live", exact=True)).to_be_visible(timeout=LIVE)
        visitor.button("Save").click()
        visitor.sees("Early", "Johnny Smith", "John Doe")


def test_being_offline_is_said(visit: Visit, shared_url: str) -> None:
    # By its number: a page from localhost does not mind being offline.
    visitor = visit(shared_url.replace("localhost", "127.0.0.1")).enter()
    visitor.context.set_offline(True)
    expect(visitor.page.get_by_text("Offline", exact=True)).to_be_visible()
    expect(visitor.page.get_by_text("The connection is lost")).to_be_visible()
    visitor.context.set_offline(False)
    expect(visitor.page.get_by_text("Connected again.")).to_be_visible(timeout=LIVE)
