"""Tests of the TypeScript declarations of an app, compiled and run with code for Feathers' client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table

from apex import Apex, MemoryService, Params, SQLService, load_config
from apex.openapi.declarations import declarations
from apex.query.coercion import boolean
from apex.relations import belongs_to
from services.app import CONFIG, create_app
from services.commands.demo_data import load_demo
from tests.interop.node import FOLDER, compile_programs, needs_node, passes
from tests.support.serving import serving

pytestmark = needs_node


async def test_the_crm_is_used_with_types(migrated_sqlite_url: str, tmp_path: Path) -> None:
    app = create_app(load_config(CONFIG, {"APEX_ENV": "test", "DATABASE_URL": migrated_sqlite_url}))
    programs = {name: (FOLDER / f"{name}.ts").read_text(encoding="utf-8") for name in ("typed", "mistyped")}
    assert compile_programs(tmp_path, services=declarations(app), **programs) == ""
    async with serving(app) as client:
        await load_demo(app)
        await passes(str(tmp_path / "typed.js"), URL=str(client.base_url).rstrip("/"))


LOOSE = """
import { feathers } from '@feathersjs/feathers'
import type { Page, ServiceTypes } from './services.js'

const app = feathers<ServiceTypes>()

export const use = async () => {
  const things = app.service('things')
  const [thing] = await things.find({ query: { color: 'red', $select: ['size'], loud: true } })
  thing.anything.at.all
  const [{ color }] = await things.create([{ color: 'red' }, {}])
  await things.patch(null, { color }, { query: { size: { $gt: 1 } } })
  const answer = await app.service('any words').ask({ what: 1 })
  // @ts-expect-error nobody has said what it is
  answer.length

  const [page]: Page[] = await app.service('a/pages').find({ query: { title: { $like: 'A%' } } })
  // @ts-expect-error an operator of other services
  app.service('a/pages').find({ query: { title: { $ilike: 'A%' } } })
  // @ts-expect-error without pages there are no totals
  app.service('a/pages').find({ query: { $total: false } })
  const title: string = page.title
  const patched: Page = await app.service('a/pages').update(1, { title })
  const removed: Page[] = await app.service('a/pages').remove(null)
  await app.service(':place/pages').find({ route: { place: 'b' } })
  const [child] = await app.service('a/pages').find({
    query: { 'parent.title': { $like: 'A%' }, $populate: ['parent', 'parent.parent'], $sort: { 'parent.title': -1 } }
  })
  const above: string | undefined = child.parent?.title
  // @ts-expect-error a relation that the service does not have
  app.service('a/pages').get(1, { query: { $populate: 'child' } })
  // @ts-expect-error it would be the service of all places, and that of one
  app.service('b/pages')
  return [patched, removed, above]
}
"""

pages = Table(
    "pages",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("title", String, nullable=False),
    Column("parent_id", Integer),
)


class Pages(SQLService):
    """What is read. /* And what ends a comment: */"""

    table, noun, operators, relations = pages, "page", ("$like",), {"parent": belongs_to("a/pages")}


class Things(MemoryService):
    filters = {"loud": boolean}


class Oracle:
    methods = ("ask",)

    async def ask(self, data: Any, params: Params) -> Any:
        return data


def test_services_without_schemas_and_with_odd_paths_compile(tmp_path: Path) -> None:
    app = Apex()
    app.use("things", Things(multi=True))
    app.use("any words", Oracle())
    app.use("a/pages", Pages(multi=["remove"]))
    app.use(":place/pages", Pages())
    assert compile_programs(tmp_path, services=declarations(app), loose=LOOSE) == ""
