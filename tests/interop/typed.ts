// The CRM by its declarations: what users write compiles, and what comes back is what it is said to be.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import authentication, { MemoryStorage } from '@feathersjs/authentication-client'
import { feathers, type Paginated, type TransportConnection } from '@feathersjs/feathers'
import rest from '@feathersjs/rest-client'
import socketio from '@feathersjs/socketio-client'
import { io } from 'socket.io-client'
import type { Contact, ContactCreate, ContactPage, ContactQuery, ServiceTypes } from './services.js'

const url = process.env.URL ?? ''
const socket = io(url)
after(() => socket.close())

const client = async (connection: TransportConnection<ServiceTypes>) => {
  const app = feathers<ServiceTypes>()
  app.configure(connection)
  app.configure(authentication({ storage: new MemoryStorage() }))
  app.use('contacts', connection.service('contacts'), { methods: ['find', 'get', 'create', 'patch', 'remove', 'search'] })
  await app.authenticate({ strategy: 'local', email: 'admin@example.com', password: 'apex-demo' })
  return app
}

const transports: [string, TransportConnection<ServiceTypes>][] = [
  ['fetch', rest<ServiceTypes>(url).fetch(fetch)],
  ['sockets', socketio<ServiceTypes>(socket)]
]

const emails = (page: Paginated<Contact>): (string | null)[] => page.data.map((contact) => contact.email)

for (const [name, connection] of transports) {
  test(`a typed day's work over ${name}`, { timeout: 20_000 }, async () => {
    const app = await client(connection)
    const contacts = app.service('contacts')
    const query: ContactQuery = { organization_id: 456, $sort: { id: 1 } }

    const page: ContactPage = await contacts.find({ query })
    assert.equal(emails(page).length, page.total)
    const { owner, company, ...stored }: Contact = page.data[0]
    assert.deepEqual([owner, company], [undefined, undefined])
    assert.equal(Object.values<unknown>(stored).includes(undefined), false)
    assert.equal(Object.keys(stored).length, 19)

    const { position }: ContactPage = await contacts.find({ query: { ...query, $position: true } })
    assert.equal(typeof position, 'string')
    const events = await app.service('events').find({ query: { organization_id: 456, $after: position ?? '', $limit: 1 } })
    assert.deepEqual(events.data.map((event) => event.organization_id), [])

    const joined = await contacts.find({
      query: { ...query, fastJoinForContactList: true, $select: ['first_name', 'company_id'] }
    })
    const names: [string, string | undefined][] = joined.data.map((one) => [one.first_name, one.company?.name])
    assert.deepEqual(names[0], ['John', 'Example Corp'])

    const asked = await contacts.find({
      query: {
        organization_id: 456,
        email: { $ne: null },
        id: { $in: [123, 124], $gt: 100 },
        deleted_at: null,
        'custom_fields_by_name.Industry': { $in: ['Farming', null] },
        $or: [{ first_name: 'John' }, { $and: [{ last_name: null }, { created_at: { $lt: '2020-01-01' } }] }]
      }
    })
    assert.equal(asked.total, 0)

    const walk = await contacts.find({ query: { ...query, $after: '', $limit: 1 } })
    const next: string | null | undefined = walk.next
    assert.equal(typeof next, 'string')
    assert.equal(walk.total, undefined)

    const data: ContactCreate = { organization_id: 456, first_name: 'Jane', last_name: 'Müller', email: null }
    const { id } = await contacts.create(data, { query: { $select: ['email'] } })
    const heard: Promise<string> = new Promise((resolve) => contacts.once('patched', (one) => resolve(one.first_name)))
    const patched: Contact = await contacts.patch(id, { first_name: 'Janet' })
    if (name === 'sockets') assert.equal(await heard, patched.first_name)
    const many: Contact[] = await contacts.patch(null, { email: 'jane@example.com' }, { query: { organization_id: 456, id: { $in: [id] } } })
    assert.equal(many.length, 1)
    const found = await contacts.search({ searchTerm: 'muller', searchIn: 'name', organization_id: 456 })
    assert.deepEqual(found.data.map((contact) => contact.first_name), ['Janet'])
    await contacts.remove(id)

    const users = await app.service('organizations/456/users').find({ query: { role: 'admin' } })
    const routed = await app.service('organizations/:organization_id/users').find({ route: { organization_id: '456' } })
    assert.ok(users.data.every((user) => user.role === 'admin') && routed.total >= users.total)
    const { user, accessToken } = await app.service('authentication').create({
      strategy: 'local', email: 'admin@example.com', password: 'apex-demo'
    })
    assert.deepEqual([user?.id, typeof accessToken], [789, 'string'])
  })
}
