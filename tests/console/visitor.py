"""A visitor of the console, with a browser window."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ADMIN, MEMBER, OTHER = "admin@example.com", "member@example.com", "other@example.com"
PASSWORD = "apex-demo"
LIVE = 120_000
"""Milliseconds in which a connection must be back."""

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

expect.set_options(timeout=60_000)


@contextmanager
def chromium() -> Iterator[Browser | None]:
    """Return a browser without a window, or None if Chromium is not installed."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """A browser window. ``complaints`` collects the errors of the page and its requests to other servers."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "locale": "en-US"} | options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("request", lambda request: self._asked(request.url))

    def open(self) -> Visitor:
        self.page.goto(f"{self.url}/console")
        return self

    def log_in(self, email: str = ADMIN, password: str = PASSWORD) -> Visitor:
        self.page.locator("#email").fill(email)
        self.page.locator("#password").fill(password)
        self.button("Log in").click()
        return self

    def enter(self, email: str = ADMIN) -> Visitor:
        """Open the page, log in and wait for the list."""
        self.open().log_in(email)
        expect(self.page.locator("#list")).to_have_attribute("data-state", re.compile("ready|empty"))
        return self

    @property
    def names(self) -> Locator:
        """Return the names in the list, from top to bottom."""
        return self.page.locator("#rows [data-part=name]")

    @property
    def editor(self) -> Locator:
        return self.page.get_by_role("dialog")

    def row(self, name: str) -> Locator:
        return self.page.locator("#rows tr").filter(has=self.page.get_by_role("button", name=name, exact=True))

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def sees(self, *names: str) -> None:
        expect(self.names).to_have_text(list(names))

    def fill(self, **fields: str) -> None:
        """Fill fields of the open dialog, by their names in the API."""
        for name, value in fields.items():
            self.editor.locator(f"[name={name}]").fill(value)

    def add(self, **fields: str) -> None:
        self.button("New contact").click()
        self.fill(**fields)
        self.button("Save").click()

    def remove(self, name: str) -> None:
        self.button(f"Delete {name}").click()
        self.button("Delete").click()

    def error(self, field: str) -> Locator:
        """Return the error of a field in the open dialog."""
        return self.editor.locator(".field").filter(has=self.page.locator(f"[name={field}]")).locator(".error")

    def token(self) -> str:
        return str(self.page.evaluate("sessionStorage.getItem('feathers-jwt')"))

    def catch_up(self) -> None:
        """Wait until the page has processed everything that the server has sent."""
        self.page.evaluate("import('./client.js').then(({ client }) => client.service('organizations').find())")

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and "WebSocket" not in text and "Failed to load resource" not in text:
            self.complaints.append(text)

    def _asked(self, url: str) -> None:
        if not url.startswith((self.url, "data:")):
            self.complaints.append(f"asked for {url}")


def element(page: Page) -> str:
    """Return the id of the element with the focus."""
    return str(page.evaluate("document.activeElement.id"))
