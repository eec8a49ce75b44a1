"""Accessibility of the console: keyboard, small screens, light and dark colours."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.console.conftest import Visit
from tests.console.visitor import Visitor, element

LONG = "Wolfeschlegelsteinhausenbergerdorff"
FOCUS_IS_VISIBLE = "getComputedStyle(document.activeElement).outlineStyle !== 'none'"

CONTRAST = """(node) => {
  const seen = (color) => color.match(/[\\d.]+/g).map(Number);
  let behind = node;
  while ((seen(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) behind = behind.parentElement;
  const light = (color) => seen(color).slice(0, 3)
    .map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const [low, high] = [light(getComputedStyle(node).color), light(getComputedStyle(behind).backgroundColor)].sort();
  return (Math.max(low, high) + 0.05) / (Math.min(low, high) + 0.05);
}"""


def test_the_keyboard_is_enough(visitor: Visitor) -> None:
    keyboard, page = visitor.open().page.keyboard, visitor.page
    expect(page.locator("#email")).to_be_focused()
    keyboard.type("admin@example.com")
    keyboard.press("Tab")
    keyboard.type("apex-demo")
    keyboard.press("Enter")
    visitor.sees("Johnny Smith", "John Doe")
    expect(page.locator("#heading")).to_be_focused()
    keyboard.press("Tab")
    assert (element(page), page.evaluate(FOCUS_IS_VISIBLE)) == ("create", True)
    keyboard.press("Enter")
    expect(visitor.editor.locator("[name=first_name]")).to_be_focused()
    keyboard.type("Ada")
    keyboard.press("Enter")
    visitor.sees("Ada", "Johnny Smith", "John Doe")
    expect(visitor.button("New contact")).to_be_focused()
    keyboard.press("Enter")
    keyboard.press("Escape")
    expect(visitor.editor).to_be_hidden()
    expect(visitor.button("New contact")).to_be_focused()
    keyboard.press("/")
    expect(page.locator("#term")).to_be_focused()
    keyboard.type("/")
    expect(page.locator("#term")).to_have_value("/")


@pytest.mark.parametrize("width", [320, 390, 700])
def test_a_narrow_window_does_not_scroll_sideways(visit: Visit, url: str, width: int) -> None:
    visitor = visit(url, viewport={"width": width, "height": 844}).open()
    fits = f"document.documentElement.scrollWidth <= {width}"
    assert visitor.page.evaluate(fits)
    visitor.enter()
    visitor.add(first_name=LONG, last_name=LONG, email=f"{LONG}@example.com")
    visitor.sees(f"{LONG} {LONG}", "Johnny Smith", "John Doe")
    assert visitor.page.evaluate(fits)
    visitor.names.first.click()
    expect(visitor.editor).to_be_visible()
    assert visitor.page.evaluate(fits)
    assert visitor.page.evaluate("editor.scrollWidth <= editor.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(visit: Visit, shared_url: str, scheme: str) -> None:
    visitor = visit(shared_url, color_scheme=scheme).open()
    assert_readable(visitor, "#login h1", "#login label", "#login button")
    visitor.enter()
    visitor.button("New contact").click()
    visitor.button("Save").click()
    expect(visitor.error("first_name")).to_have_text("Is required")
    assert_readable(visitor, "#editor-title", "#editor label", "#first_name-error", "#editor .primary")
    visitor.page.keyboard.press("Escape")
    visitor.button("Delete John Doe").click()
    assert_readable(visitor, "#removal-text", "#removal .danger")
    visitor.page.keyboard.press("Escape")
    assert_readable(visitor, "body", "#heading", "#count", "#create", "th", "td.email", "#rows .link", ".initials")
    assert_readable(visitor, "#user", "#connection", "#range", "fieldset span", "fieldset input:checked + span")


def assert_readable(visitor: Visitor, *selectors: str) -> None:
    """Assert the contrast that WCAG requires on level AA."""
    for selector in selectors:
        contrast = visitor.page.locator(selector).first.evaluate(CONTRAST)
        assert contrast >= 4.5, (selector, contrast)


def test_changes_are_announced_to_screen_readers(visitor: Visitor) -> None:
    visitor.enter()
    news = visitor.page.locator("#news")
    expect(news).to_have_attribute("aria-live", "polite")
    visitor.add(first_name="Ada")
    expect(news).to_have_text("Ada was added")
    assert news.evaluate("(node) => getComputedStyle(node).display") != "none"
