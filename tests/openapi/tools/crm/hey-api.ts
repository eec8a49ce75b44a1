// A day's work with the contacts of the CRM, by a client of @hey-api/openapi-ts.
import assert from 'node:assert/strict'
import { client } from './hey/client.gen'
import { contactsCreate, contactsFind, contactsGet, contactsPatch, contactsRemove, contactsSearch } from './hey'

async function main() {
  client.setConfig({ baseUrl: process.env.URL })
  client.setConfig({ auth: process.env.TOKEN })

  const created = await contactsCreate({ headers: { 'Idempotency-Key': 'hey-1' }, body: { organization_id: 456, first_name: 'Hal' } })
  const id = created.data!.id

  const list = await contactsFind({
    query: { organization_id: 456, id: { $gt: 100, $in: JSON.stringify([123, id]) }, $sort: '-id', $select: ['first_name'] }
  })
  assert.deepEqual(list.data?.data.map(one => one.first_name), ['Hal', 'John'])
  const either = await contactsFind({
    query: { organization_id: 456, $or: JSON.stringify([{ first_name: 'Hal' }, { id: { $lt: 124 } }]), $sort: 'id' }
  })
  assert.deepEqual(either.data?.data.map(one => one.id), [123, id])
  const alone = await contactsFind({ query: { organization_id: 456, company_id: 'null' } })
  assert.ok(alone.data?.data.some(one => one.id === id) && alone.data.data.every(one => one.company_id === null))
  // @ts-expect-error: null is left out of a query string, so that all records would come
  void (() => contactsFind({ query: { organization_id: 456, company_id: null } }))

  const patched = await contactsPatch({ path: { id }, body: { first_name: 'Halx' } })
  assert.equal(patched.data?.first_name, 'Halx')
  const found = await contactsSearch({ body: { organization_id: 456, searchTerm: 'halx', searchIn: 'name' } })
  assert.deepEqual(found.data?.data.map(one => one.id), [id])

  const removed = await contactsRemove({ path: { id } })
  assert.equal(typeof removed.data?.deleted_at, 'string')
  const { error } = await contactsGet({ path: { id } })
  assert.deepEqual([error?.code, error?.name], [404, 'NotFound'])
}

main()
