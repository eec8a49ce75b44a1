// The CRM with two users of one organization and one of another.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BadRequest, Forbidden, NotAuthenticated } from '@feathersjs/errors'
import { ADMIN, LIMITS, next, overRest, overSocket, rejects } from './clients.mjs'

const query = { organization_id: 456 }
const JANE = { organization_id: 456, first_name: 'Jane' }

const entered = async (app, email = ADMIN.email) => {
  await app.authenticate({ ...ADMIN, email })
  return app.service('contacts')
}

for (const [transport, client] of [['sockets', overSocket], ['fetch', () => overRest('fetch')]]) {
  test(`a day's work over ${transport}`, LIMITS, async () => {
    const contacts = await entered(client())
    const page = await contacts.find({ query: { ...query, $sort: { id: 1 }, $limit: 1, $select: ['first_name'] } })
    assert.deepEqual(page.data, [{ first_name: 'John', id: 123 }])
    const walk = { ...query, $sort: { first_name: -1 }, $limit: 1 }
    const first = await contacts.find({ query: { ...walk, $after: '', $total: true } })
    assert.deepEqual([first.total, first.data[0].first_name, first.previous], [2, 'Johnny', null])
    const last = await contacts.find({ query: { ...walk, $after: first.next } })
    assert.deepEqual([last.total, last.data[0].first_name, last.next], [undefined, 'John', null])
    const { id } = await contacts.create({ ...JANE, last_name: 'Müller', email: 'jane@example.com' })
    assert.equal((await contacts.patch(id, { last_name: 'Möller' })).last_name, 'Möller')
    const found = await contacts.search({ searchTerm: 'moller', searchIn: 'name', ...query })
    assert.deepEqual(found.data.map((contact) => contact.id), [id])
    await contacts.remove(id)
    await rejects(contacts.create({ ...JANE, email: 'nowhere', frist_name: 'x' }), BadRequest, {
      message: 'Invalid contact data',
      errors: { email: 'Invalid email format', frist_name: "Unknown field. Did you mean 'first_name'?" }
    })
    await rejects(contacts.find(), BadRequest, {})
  })
}

test('who has not logged in', LIMITS, async () => {
  const app = overSocket()
  await rejects(app.service('contacts').find({ query }), NotAuthenticated, { message: 'Not authenticated' })
  await rejects(app.authenticate({ ...ADMIN, password: 'wrong' }), NotAuthenticated, { message: 'Invalid login' })
})

test("an organization's members hear of each other's changes, and others of nothing", LIMITS, async () => {
  const [mine, other, rest] = [overSocket(), overSocket(), overRest('fetch')]
  const [watching, foreign, writing] = await Promise.all([
    entered(mine), entered(other, 'other@example.com'), entered(rest, 'member@example.com')
  ])
  const heard = []
  for (const event of ['created', 'patched', 'removed']) {
    foreign.on(event, (contact) => heard.push([event, contact.organization_id]))
  }
  const [created, patched, removed] = ['created', 'patched', 'removed'].map((event) => next(watching, event))
  const made = await writing.create(JANE)
  await writing.patch(made.id, { last_name: 'Doe' })
  await writing.remove(made.id)
  assert.deepEqual([await created, (await patched).last_name, (await removed).id], [made, 'Doe', made.id])

  // What the other organization hears last is its own: nothing can come after that.
  await foreign.create({ organization_id: 457, first_name: 'Olga' })
  assert.deepEqual(heard, [['created', 457]])
  await rejects(foreign.get(123), Forbidden, {})
  await rejects(foreign.create(JANE), Forbidden, {})
})
