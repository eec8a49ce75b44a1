"""The client of Socket.IO, which pages without a bundler load from the server as feathers-chat does."""

from __future__ import annotations

from tests.console.conftest import Visit
from tests.console.visitor import ADMIN, PASSWORD

CALLS = """async ([email, password]) => {
  const socket = io({ query: { room: 'a' } })
  const heard = new Promise(heard => socket.once('companies created', company => heard(company.name)))
  const call = (...event) => new Promise((done, fail) =>
    socket.emit(...event, (error, result) => error ? fail(new Error(error.message)) : done(result)))
  await call('create', 'authentication', { strategy: 'local', email, password })
  await call('create', 'companies', { name: 'From a page', organization_id: 456 })
  return await heard
}"""


def test_a_page_loads_it_and_hears_events(visit: Visit, url: str) -> None:
    page = visit(url).page
    page.goto(f"{url}/healthz")
    page.add_script_tag(url="/socket.io/socket.io.js")
    assert page.evaluate(CALLS, [ADMIN, PASSWORD]) == "From a page"
