// The socket client with its default transports: polling first, then a WebSocket.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BadRequest, Conflict, MethodNotAllowed, NotFound } from '@feathersjs/errors'
import { LIMITS, next, overSocket, rejects } from './clients.mjs'

const app = overSocket()
const [messages, nomulti, echo] = ['messages', 'nomulti', 'echo'].map((path) => app.service(path))
const upgraded = next(app.io.io.engine, 'upgrade')

// The acknowledgement of a frame that the client of Feathers would not send.
const acknowledged = (...frame) => new Promise((resolve) => app.io.emit(...frame, (...answer) => resolve(answer)))

test('it begins with polling and goes on with a WebSocket', LIMITS, async () => {
  const first = echo.get(1)
  await upgraded
  assert.equal(app.io.io.engine.transport.name, 'websocket')
  assert.equal((await first).id, 1)
})

test('all methods with their events', LIMITS, async () => {
  const heard = []
  for (const event of ['created', 'updated', 'patched', 'removed']) {
    nomulti.on(event, (record) => heard.push([event, record]))
  }
  const made = await nomulti.create({ text: 'a' })
  const { id } = made
  assert.deepEqual(await nomulti.get(id), made)
  assert.deepEqual(await nomulti.update(id, { text: 'b' }), { text: 'b', id })
  assert.deepEqual(await nomulti.patch(id, { seen: true }), { text: 'b', id, seen: true })
  assert.deepEqual(await nomulti.find(), [{ text: 'b', id, seen: true }])
  assert.deepEqual(await nomulti.remove(id), { text: 'b', id, seen: true })
  assert.deepEqual(heard, [
    ['created', made],
    ['updated', { text: 'b', id }],
    ['patched', { text: 'b', id, seen: true }],
    ['removed', { text: 'b', id, seen: true }]
  ])
})

test('null ids, pages and a custom method', LIMITS, async () => {
  const made = await messages.create([{ text: 'b' }, { text: 'c' }, { text: 'd' }])
  assert.deepEqual(await messages.find({ query: { $sort: { text: -1 }, $limit: 1 } }), {
    total: 3, limit: 1, skip: 0, data: [made[2]]
  })
  assert.deepEqual(await messages.patch(null, { p: 1 }, { query: { text: 'c' } }), [{ ...made[1], p: 1 }])
  assert.equal((await messages.remove(null)).length, 3)
  assert.deepEqual(await messages.shout({ v: 1 }, { query: { q: 1 } }), {
    data: { v: 1 }, provider: 'socketio', query: { q: 1 }, route: {}
  })
})

test('nested query, with its types', LIMITS, async () => {
  const query = { a: '', b: null, c: true, d: 1.5, e: [1, '2'], g: { h: { $in: ['x'] } }, $or: [{ a: { $gt: 1 } }] }
  assert.deepEqual(await echo.find({ query }), query)
  assert.deepEqual(await echo.find({ query: { at: new Date(0) } }), { at: '1970-01-01T00:00:00.000Z' })
})

test('results that are nothing or false', LIMITS, async () => {
  const results = await Promise.all(['null', 'num', 'false', 'empty'].map((id) => echo.get(id)))
  assert.deepEqual(results, [null, 0, false, ''])
})

test('a custom event', LIMITS, async () => {
  const rooms = app.service('rooms')
  await rooms.join({ rooms: ['red'] })
  const typing = next(rooms, 'typing')
  await rooms.type({ rooms: ['red'], who: 'Ann' })
  assert.deepEqual(await typing, { rooms: ['red'], who: 'Ann' })
})

test('a service with a placeholder', LIMITS, async () => {
  const members = app.service('groups/:groupId/members')
  assert.deepEqual(await members.find({ route: { groupId: 12 }, query: { x: 1 } }), {
    route: { groupId: '12' }, query: { x: 1 }
  })
})

test('errors are instances of their class, with data and errors', LIMITS, async () => {
  await rejects(echo.get('bad'), BadRequest, {
    name: 'BadRequest', message: 'bad one', code: 400, className: 'bad-request', data: { foo: 1 }, errors: { a: 'x' }
  })
  await rejects(echo.get('arr'), Conflict, { code: 409, data: [1, 2] })
  await rejects(messages.get(999), NotFound, { message: "No record found for id '999'" })
})

test('every call that cannot be made is acknowledged', LIMITS, async () => {
  await rejects(messages.hidden({}), MethodNotAllowed, { message: "Method 'hidden' not allowed on service 'messages'" })
  await rejects(nomulti.shout({}), MethodNotAllowed, { message: "Method 'shout' not allowed on service 'nomulti'" })
  await rejects(app.service('nope').find(), NotFound, { message: "Service 'nope' not found" })
  for (const name of ['hidden', 'nothing', 'connection', 'toString', '__proto__']) {
    const [error] = await acknowledged(name, 'messages', {})
    assert.equal(error.message, `Method '${name}' not allowed on service 'messages'`)
  }
})

test('calls in the wrong form are acknowledged', LIMITS, async () => {
  const messageOf = async (...frame) => (await acknowledged(...frame)).map((error) => error.message)
  assert.deepEqual(await messageOf('find', null, {}), ['Invalid service path'])
  assert.deepEqual(await messageOf('find'), ['Invalid service path'])
  assert.deepEqual(await messageOf('find', 'messages', 1, {}), ["Too many arguments for 'find' method"])
  assert.deepEqual(await acknowledged('find', 'nomulti'), [null, []])
})

test('a thousand calls at once', LIMITS, async () => {
  const results = await Promise.all(Array.from({ length: 1000 }, (_, id) => echo.get(id)))
  assert.deepEqual(results.map(({ id }) => id), Array.from({ length: 1000 }, (_, id) => id))
})
