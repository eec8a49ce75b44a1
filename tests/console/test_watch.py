"""The module apex-live in a browser, from the server and without a bundler, with Feathers' own bundle."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from tests.console.conftest import Visit
from tests.console.visitor import ADMIN, LIVE, PASSWORD
from tests.process.commands import ROOT, server
from tests.support.databases import free_port

FEATHERS = ROOT / "console" / "vendor" / "feathers-5.0.50.min.js"

START = """async ([email, password]) => {
  const { watch } = await import('/socket.io/apex-live.js')
  const app = feathers()
    .configure(feathers.socketio(io()))
    .configure(feathers.authentication({ storage: sessionStorage }))
  await app.authenticate({ strategy: 'local', email, password })
  const query = { organization_id: 456, $sort: { first_name: 1 }, $limit: 2 }
  const live = watch(app.service('contacts'), { query, onChange: (page) => { window.page = page } })
  Object.assign(window, { app, live, contacts: app.service('contacts') })
}"""

SHOWS = "(names) => JSON.stringify(window.page?.data.map((contact) => contact.first_name)) === JSON.stringify(names)"


class Window:
    """A browser window with a live page of contacts."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.goto(f"{url}/healthz")
        page.add_script_tag(url="/socket.io/socket.io.js")
        page.add_script_tag(path=FEATHERS)
        page.evaluate(START, [ADMIN, PASSWORD])

    def shows(self, *names: str) -> None:
        self.page.wait_for_function(SHOWS, arg=list(names), timeout=LIVE)

    def does(self, script: str) -> Any:
        return self.page.evaluate(script)

    def add(self, name: str) -> None:
        self.does(
            f"contacts.create({{ organization_id: 456, first_name: '{name}' }}).then(({{ id }}) => {{ last = id }})"
        )


def test_a_page_follows_changes_of_others_through_cuts(visit: Visit, url: str) -> None:
    mine, other = Window(visit(url).page, url), Window(visit(url).page, url)
    mine.shows("John", "Johnny")
    other.add("Ada")
    mine.shows("Ada", "John")
    mine.does("app.io.io.engine.close()")
    other.does("contacts.patch(last, { first_name: 'Joan' })")
    mine.shows("Joan", "John")
    other.does("contacts.remove(last)")
    mine.shows("John", "Johnny")
    assert mine.does("live.page === page && live.stop() === undefined")


def test_a_page_follows_changes_after_a_restart_of_the_server(visit: Visit, demo_sqlite_url: str) -> None:
    variables = {"DATABASE_URL": demo_sqlite_url, "PORT": str(free_port())}
    with server("serve", **variables) as (_, url):
        mine = Window(visit(url).page, url)
        mine.shows("John", "Johnny")
    with server("serve", **variables):
        mine.add("Ada")
        mine.shows("Ada", "John")
