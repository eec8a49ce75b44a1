"""The components of the documentation with React in a browser."""

from __future__ import annotations

import subprocess
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from tests.console.conftest import Visit
from tests.console.visitor import LIVE
from tests.docs.blocks import blocks_of
from tests.docs.languages import FILE
from tests.interop.node import FOLDER, NODE, needs_node
from tests.process.commands import ROOT, server_in

pytestmark = needs_node

MODULES = FOLDER / "node_modules"
SCRIPTS = (
    ROOT / "console" / "vendor" / "feathers-5.0.50.min.js",
    MODULES / "react" / "umd" / "react.production.min.js",
    MODULES / "react-dom" / "umd" / "react-dom.production.min.js",
)

PAGE = """<!doctype html><title>Messages</title><link rel="icon" href="data:,"><div id="root"></div>
<script type="importmap">{"imports": {
  "apex-live": "/socket.io/apex-live.js",
  "react": "data:text/javascript,export const { useEffect, useState } = window.React"
}}</script>"""

SHOW = """async () => {
  const { Messages } = await import('/made/Messages.js')
  const app = feathers().configure(feathers.socketio(io()))
  const root = ReactDOM.createRoot(document.querySelector('#root'))
  root.render(React.createElement(React.StrictMode, {}, React.createElement(Messages, { app })))
  Object.assign(window, { app, root, messages: app.service('messages') })
}"""


def documented(folder: Path) -> None:
    """Write the files of the page about live queries, and compile its components."""
    found = (FILE.match(block.text) for block in blocks_of(ROOT / "docs" / "live.md"))
    (folder / "public").mkdir()
    for match in filter(None, found):
        (folder / match[1]).write_text(match.string[match.end() :], encoding="utf-8")
    assert NODE is not None
    options = ["--allowJs", "--jsx", "react", "--target", "es2022", "--module", "esnext", "--outDir", "made"]
    compiler = [NODE, str(MODULES / "typescript" / "bin" / "tsc"), *options, "--moduleResolution", "bundler"]
    subprocess.run([*compiler, "useLive.js", "Messages.jsx"], cwd=folder, check=True)


def opened(page: Page, url: str, folder: Path) -> None:
    """Open a page with React that shows the messages."""

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(f"{url}/made/")
        route.fulfill(path=folder / "made" / name, content_type="text/javascript")

    page.route(f"{url}/made/*", answer)
    page.route(f"{url}/page", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
    page.goto(f"{url}/page")
    page.add_script_tag(url="/socket.io/socket.io.js")
    for script in SCRIPTS:
        page.add_script_tag(path=script)
    page.evaluate(SHOW)


def test_a_component_shows_what_the_server_has(visit: Visit, tmp_path: Path) -> None:
    documented(tmp_path)
    variables = {"APEX_APP": "chat:app", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with server_in(tmp_path, "serve", "--port", "0", **variables) as (_, url):
        page = visit(url).page
        opened(page, url, tmp_path)
        page.evaluate("messages.create({ text: 'pears' })")
        page.evaluate("messages.create({ text: 'apples' })")
        items = page.locator("li")
        expect(items).to_have_text(["apples", "pears"])
        page.evaluate("first = document.querySelector('li')")
        page.evaluate("app.io.io.engine.close()")
        page.evaluate("messages.patch(1, { text: 'quinces' })")
        expect(items).to_have_text(["apples", "quinces"], timeout=LIVE)
        assert page.evaluate("first === document.querySelector('li')")
        page.evaluate("root.unmount()")
        assert page.evaluate("app.io.listeners('messages created').length") == 0
