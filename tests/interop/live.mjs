// Pages that stay up to date, over the official client.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { watch } from 'apex-live'
import { LIMITS, LOGIN, next, overRest, overSocket } from './clients.mjs'

const query = { $sort: { text: 1 }, $limit: 2 }

// A watch that collects its pages and errors, and waits for them.
const watching = (service, options = {}) => {
  const seen = { pages: [], errors: [] }
  let notice = () => {}
  const keep = (list) => (value) => {
    list.push(value)
    notice()
  }
  const live = watch(service, { query, onChange: keep(seen.pages), onError: keep(seen.errors), ...options })
  const until = async (holds) => {
    while (!holds(seen)) await new Promise((resolve) => (notice = resolve))
  }
  const shows = (...texts) => until(({ pages }) => same(textsOf(pages.at(-1)), texts))
  return { ...seen, live, shows, until }
}

const textsOf = (page) => (page?.data ?? page)?.map(({ text }) => text)
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other)

// A socket whose messages have these texts, with the number of its reads.
const messagesOf = async (...texts) => {
  const app = overSocket()
  const messages = app.service('messages')
  await messages.remove(null)
  const records = await messages.create(texts.map((text) => ({ text })))
  const reads = { count: 0 }
  messages.hooks({ before: { find: [() => { reads.count += 1 }] } })
  return { app, messages, records, reads }
}

const cut = (app) => app.io.io.engine.close()

test('a page follows what enters, moves and leaves', LIMITS, async () => {
  const { messages, records: [c, b] } = await messagesOf('c', 'b', 'd')
  const { live, shows } = watching(messages)
  await shows('b', 'c')
  const { id } = await messages.create({ text: 'a' })
  await shows('a', 'b')
  await overRest('fetch').service('messages').patch(id, { text: 'e' })
  await shows('b', 'c')
  await messages.remove(b.id)
  await shows('c', 'd')
  await messages.update(c.id, { text: 'f' })
  await shows('d', 'e')
  assert.deepEqual(live.page, await messages.find({ query }))
  live.stop()
})

test('what is equal keeps its reference, and is not given twice', LIMITS, async () => {
  const { messages, records: [a], reads } = await messagesOf('a', 'b')
  const { live, pages, shows } = watching(messages)
  await shows('a', 'b')
  await messages.patch(a.id, { text: 'a' })
  while (reads.count < 2) await messages.get(a.id)
  await messages.patch(a.id, { text: 'c' })
  await shows('b', 'c')
  assert.equal(pages.length, 2)
  assert.equal(pages[1].data[0], pages[0].data[1])
  assert.equal(live.page, pages[1])
  live.stop()
})

test('a burst of events costs few reads', LIMITS, async () => {
  const { messages, reads } = await messagesOf('a')
  const { live, shows } = watching(messages, { query: { $sort: { text: -1 }, $limit: 1 } })
  await shows('a')
  await messages.create(Array.from({ length: 1000 }, (_, number) => ({ text: `t${number}` })))
  await shows('t999')
  assert.ok(reads.count <= 5, `${reads.count} reads`)
  live.stop()
})

test('events of other services are followed if they are named', LIMITS, async () => {
  const { app, messages, reads } = await messagesOf('a')
  const { live, shows } = watching(messages, { services: [app.service('nomulti')] })
  await shows('a')
  await app.service('nomulti').create({ text: 'x' })
  while (reads.count < 2) await messages.get(0).catch(() => {})
  live.stop()
})

test('a page survives cuts, also in the middle of a read', LIMITS, async () => {
  const { app, messages, records: [a], reads } = await messagesOf('a', 'b')
  const { live, shows } = watching(messages)
  await shows('a', 'b')
  for (const text of ['a1', 'a2', 'a3']) {
    cut(app)
    await overRest('fetch').service('messages').patch(a.id, { text })
    await shows(text, 'b')
  }
  const before = reads.count
  messages.hooks({ before: { find: [() => { if (reads.count === before + 1) cut(app) }] } })
  await overRest('fetch').service('messages').patch(a.id, { text: 'a4' })
  await shows('a4', 'b')
  assert.ok(reads.count > before + 1)
  live.stop()
})

test('a watch that begins without a connection waits for it', LIMITS, async () => {
  const app = overSocket({ autoConnect: false })
  const { live, until, errors } = watching(app.service('messages'))
  assert.equal(live.page, undefined)
  app.io.connect()
  await until(({ pages }) => pages.length === 1)
  assert.deepEqual(errors, [])
  live.stop()
})

test('a watch reads again after a login, a reconnection with it, and a logout', LIMITS, async () => {
  const app = overSocket()
  const users = app.service('users')
  const { live, pages, errors, until } = watching(users, { query: {} })
  await until(() => errors.length === 1)
  assert.equal(errors[0].code, 401)
  await app.authenticate(LOGIN)
  await until(() => pages.length === 1)
  assert.deepEqual(pages[0].data, [{ email: 'a@b.c', id: 0 }])
  cut(app)
  await next(app.io, 'connect')
  assert.equal((await users.find()).total, 1)
  assert.deepEqual([pages.length, errors.length], [1, 1])
  await app.logout()
  await until(() => errors.length === 2)
  assert.deepEqual([errors[1].code, live.page], [401, undefined])
  live.stop()
})

test('a wrong query is an error, and its correction is another watch', LIMITS, async () => {
  const { messages } = await messagesOf('a')
  const { live, errors, until } = watching(messages, { query: { text: { $near: 1 } } })
  await until(() => errors.length === 1)
  assert.equal(errors[0].code, 400)
  live.stop()
})

test('an answer that does not come is asked for again', LIMITS, async () => {
  const { messages } = await messagesOf('a')
  let failures = 2
  messages.hooks({ before: { find: [() => { if (failures-- > 0) throw new Error('operation has timed out') }] } })
  const { live, errors, shows } = watching(messages)
  await shows('a')
  assert.equal(errors.length, 2)
  live.stop()
})

test('reads keep their distance', LIMITS, async () => {
  const { messages, records: [a], reads } = await messagesOf('a')
  const { live, shows } = watching(messages)
  await shows('a')
  const begun = Date.now()
  for (let number = 0; number < 100; number += 1) await messages.patch(a.id, { text: `a${number}` })
  await shows('a99')
  assert.ok(reads.count <= 2 + (Date.now() - begun) / 50, `${reads.count} reads`)
  live.stop()
})

test('a watch that stops in the middle of a read, or between two, is not called again', LIMITS, async () => {
  const { messages, records: [a] } = await messagesOf('a')
  const inRead = watching(messages)
  inRead.live.stop()
  const pages = []
  const once = watch(messages, { query, onChange: (page) => pages.push(page) && once.stop() })
  const between = watching(messages)
  await between.shows('a')
  await messages.patch(a.id, { text: 'b' })
  between.live.stop()
  const { live, shows } = watching(messages)
  for (const text of ['c', 'd', 'e']) {
    await messages.patch(a.id, { text })
    await shows(text)
  }
  assert.deepEqual([inRead.pages.length, pages.length, between.pages.length], [0, 1, 1])
  live.stop()
})

test('a watch that has stopped hears nothing and leaves no listeners', LIMITS, async () => {
  const { app, messages, reads } = await messagesOf('a')
  const before = app.io.listeners('messages created').length
  const { live, pages, shows } = watching(messages)
  await shows('a')
  live.stop()
  live.stop()
  assert.equal(app.io.listeners('messages created').length, before)
  const { count } = reads
  await messages.create({ text: 'b' })
  assert.deepEqual([pages.length, reads.count], [1, count])
})

test('services without events are refused', () => {
  assert.throws(() => watch(overRest('fetch').service('messages'), { onChange() {} }), /socketio-client/)
  assert.throws(() => watch(overSocket().service('messages'), {}), /needs a function onChange/)
})
