// Who hears what: clients that follow rooms, each a channel. What callers must not see is in no frame.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LIMITS, next, overRest, overSocket } from './clients.mjs'

const follower = async (...names) => {
  const rooms = overSocket().service('rooms')
  const heard = []
  for (const event of ['created', 'updated', 'patched', 'removed', 'typing']) {
    rooms.on(event, (note) => heard.push([event, note]))
  }
  await rooms.join({ rooms: names })
  return { rooms, heard, ends: () => next(rooms, 'typing') }
}

// An event for all, after which no earlier one can come.
const finish = async (...followers) => {
  const ended = Promise.all(followers.map((one) => one.ends()))
  await followers[0].rooms.type({ rooms: ['red', 'blue'] })
  await ended
  followers.forEach(({ heard }) => assert.deepEqual(heard.pop(), ['typing', { rooms: ['red', 'blue'] }]))
}

const note = (text, ...rooms) => ({ text, rooms, secret: `about ${text}` })
const seen = ({ id, text, rooms }) => ({ text, rooms, id })

test('a client hears of the channels that it is in, and no others', LIMITS, async () => {
  const [red, blue] = await Promise.all([follower('red'), follower('blue')])
  const made = await red.rooms.create(note('a', 'red'))
  await blue.rooms.create(note('b', 'blue'))
  await overRest('fetch').service('rooms').patch(made.id, { text: 'c' })
  await blue.rooms.update(made.id, note('d', 'red'))
  await blue.rooms.remove(made.id)
  await finish(red, blue)
  const id = made.id
  assert.deepEqual(red.heard, [
    ['created', { text: 'a', rooms: ['red'], id }],
    ['patched', { text: 'c', rooms: ['red'], id }],
    ['updated', { text: 'd', rooms: ['red'], id }],
    ['removed', { text: 'd', rooms: ['red'], id }]
  ])
  assert.deepEqual(blue.heard.map(([event, { text }]) => [event, text]), [['created', 'b']])
})

test('who is in two channels of an event hears it once', LIMITS, async () => {
  const [both, blue] = await Promise.all([follower('red', 'blue'), follower('blue')])
  await blue.rooms.create(note('a', 'red', 'blue'))
  await finish(both, blue)
  for (const { heard } of [both, blue]) assert.deepEqual(heard.map(([event]) => event), ['created'])
})

test('a list is one event for each item, in its order, before the answer', LIMITS, async () => {
  const [red, blue] = await Promise.all([follower('red'), follower('blue')])
  const notes = ['a', 'b', 'c', 'd'].map((text, index) => note(text, index % 2 ? 'blue' : 'red'))
  const made = await red.rooms.create(notes)
  assert.deepEqual(made, notes.map((one, index) => seen({ ...one, id: made[index].id })))
  assert.deepEqual(red.heard, [['created', made[0]], ['created', made[2]]])
  await finish(red, blue)
  assert.deepEqual(blue.heard, [['created', made[1]], ['created', made[3]]])
})

test('a caller outside sees a part, in answers and in events; one inside sees all', LIMITS, async () => {
  const red = await follower('red')
  const made = await red.rooms.create(note('a', 'red'))
  assert.deepEqual(made, { text: 'a', rooms: ['red'], id: made.id })
  assert.deepEqual(red.heard, [['created', made]])
  for (const rooms of [red.rooms, overRest('fetch').service('rooms'), overRest('axios').service('rooms')]) {
    assert.deepEqual(await rooms.get(made.id), made)
    assert.deepEqual(await rooms.find({ query: { id: made.id } }), [made])
    assert.equal((await rooms.reveal({ id: made.id })).secret, 'about a')
  }
})
