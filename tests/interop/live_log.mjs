// Pages that stay up to date over a server with a log: a connection that is recovered goes on without a read.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { watch } from 'apex-live'
import { LIMITS, LOGIN, loggedInAgain, next, overRest, overSocket } from './clients.mjs'

const rest = overRest('fetch').service('messages')

// A logged in client that watches the messages, with its pages, errors and the number of its reads.
const watching = async () => {
  const app = overSocket()
  await app.authenticate(LOGIN)
  await rest.remove(null)
  const record = await rest.create({ text: 'a' })
  await app.service('users').find() // The events have come before this answer.
  const seen = { app, record, pages: [], errors: [], reads: 0, held: undefined }
  const messages = app.service('messages')
  messages.hooks({ before: { find: [() => { seen.reads += 1; return seen.held }] } })
  let notice = () => {}
  const keep = (list) => (value) => { list.push(value); notice() }
  seen.live = watch(messages, { onChange: keep(seen.pages), onError: keep(seen.errors) })
  seen.until = async (holds) => { while (!holds()) await new Promise((resolve) => (notice = resolve)) }
  seen.shows = (...texts) => seen.until(() => JSON.stringify(seen.live.page?.data.map(({ text }) => text)) === JSON.stringify(texts))
  await seen.shows('a')
  return seen
}

const cut = async ({ io }) => {
  const back = next(io, 'connect')
  io.io.engine.close()
  await back
}

test('a recovered connection goes on with the events that were missed', LIMITS, async () => {
  const seen = await watching()
  await cut(seen.app)
  assert.equal(seen.app.io.recovered, true)
  await seen.app.service('users').find()
  assert.equal(seen.reads, 1)
  const back = next(seen.app.io, 'connect')
  seen.app.io.io.engine.close()
  await rest.patch(seen.record.id, { text: 'b' })
  await back
  await seen.shows('b')
  assert.deepEqual([seen.app.io.recovered, seen.reads], [true, 2])
  seen.live.stop()
})

test('a read whose answer was lost is repeated on a recovered connection', LIMITS, async () => {
  const seen = await watching()
  let go
  seen.held = new Promise((resolve) => (go = resolve))
  await rest.patch(seen.record.id, { text: 'b' })
  while (seen.reads < 2) await seen.app.service('users').find()
  seen.held = undefined
  await cut(seen.app)
  go()
  await seen.shows('b')
  assert.equal(seen.app.io.recovered, true)
  seen.live.stop()
})

test('a login that fails on a recovered connection is noticed, but not by a watch that has stopped', LIMITS, async () => {
  const seen = await watching()
  let reads = 0
  const service = seen.app.service('nomulti').hooks({ before: { find: [() => { reads += 1 }] } })
  const stopped = await new Promise((resolve) => { const live = watch(service, { onChange: () => resolve(live) }) })
  const { accessToken } = await seen.app.get('authentication')
  const [ended, again, other] = [next(seen.app.io, 'disconnect'), loggedInAgain(seen.app), overRest('fetch')]
  await other.authenticate({ strategy: 'jwt', accessToken })
  await other.logout()
  await ended
  seen.app.io.once('connect', stopped.stop)
  seen.app.io.connect()
  assert.equal((await again).code, 401)
  while (seen.reads < 2) await rest.get(seen.record.id)
  assert.equal(reads, 1)
  seen.live.stop()
})
