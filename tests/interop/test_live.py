"""Tests of the package apex-live with the clients of Feathers: in Node, with types, and as npm packs it."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path

from sqlalchemy import MetaData

from apex import Apex, MemoryService, database, load_config, rest, sockets
from apex.log import log, log_table
from apex.openapi.declarations import declarations
from services.app import CONFIG, create_app
from tests.interop.golden import USER, golden, golden_app
from tests.interop.node import compile_programs, needs_node, passes
from tests.process.commands import ROOT
from tests.support.serving import calling, serving

pytestmark = needs_node

PACKAGE = ROOT / "apex" / "live"

TYPED = """
import { feathers } from '@feathersjs/feathers'
import { watch, type Live } from 'apex-live'
import type { ContactPage, ServiceTypes } from './services.js'

const app = feathers<ServiceTypes>()
const [contacts, companies] = [app.service('contacts'), app.service('companies')]

export const live: Live<ContactPage> = watch(contacts, {
  query: { organization_id: 456, $populate: 'company' },
  services: [companies],
  onChange: ({ total, data }) => console.log(total.toFixed(), data[0].first_name?.length),
  onError: ({ code, message }) => console.error(code, message)
})
// @ts-expect-error a page may be missing
live.page.total
// @ts-expect-error nothing would be done with a page
watch(contacts, {})
// @ts-expect-error a contact has no such field
watch(contacts, { onChange: ({ data }) => data[0].frist_name })
// @ts-expect-error there is no such option
watch(contacts, { onChange: () => {}, service: [companies] })
live.stop()

interface Note { text: string }
declare const notes: { find(params?: { query: object }): Promise<Note[]> }
export const { page }: Live<Note[]> = watch(notes, { onChange: ([{ text }]) => console.log(text.length) })
interface Props { query?: object; failed?: (error: Error) => void }
export const open = ({ query, failed }: Props) =>
  watch(notes, { query, route: undefined, services: undefined, onChange: () => {}, onError: failed })
export const untyped = watch(feathers().service('notes'), { onChange: (page) => console.log(page.anything) })
"""


async def test_pages_stay_up_to_date() -> None:
    async with golden() as url:
        await passes("live.mjs", URL=url)


def test_pages_have_the_types_of_their_service(migrated_sqlite_url: str, tmp_path: Path) -> None:
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": migrated_sqlite_url}))
    assert compile_programs(tmp_path, services=declarations(app), typed=TYPED) == ""


def test_npm_packs_what_users_need_with_the_version_of_the_project() -> None:
    command = ["npm", "pack", "--dry-run", "--json"]
    (packed,) = json.loads(subprocess.run(command, cwd=PACKAGE, check=True, capture_output=True).stdout)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    files = {file["path"] for file in packed["files"]}
    assert files == {"LICENSE", "README.md", "index.d.ts", "index.js", "package.json"}
    assert packed["version"] == project["version"]
    assert "dependencies" not in json.loads((PACKAGE / "package.json").read_text(encoding="utf-8"))


async def test_a_page_without_a_bundler_loads_it_from_the_server() -> None:
    async with calling(Apex().configure(rest).configure(sockets).use("notes", MemoryService())) as http:
        script = await http.get("/socket.io/apex-live.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.content == (PACKAGE / "index.js").read_bytes()


async def test_a_recovered_connection_goes_on(tmp_path: Path) -> None:
    entries = MetaData()
    app = golden_app().configure(database(f"sqlite:///{tmp_path / 'test.db'}")).configure(log(log_table(entries)))
    async with serving(app) as client:
        await app.get("database").create_all(entries)
        await app.service("users").create(USER)
        await passes("live_log.mjs", URL=str(client.base_url).rstrip("/"))
