// A day's work with the contacts of the CRM, by openapi-fetch with the types of openapi-typescript.
import assert from 'node:assert/strict'
import createClient from 'openapi-fetch'
import type { paths } from './schema'

const api = createClient<paths>({ baseUrl: process.env.URL })

async function main() {
  const headers = { Authorization: `Bearer ${process.env.TOKEN}` }

  const created = await api.POST('/contacts', {
    headers, params: { header: { 'Idempotency-Key': 'fetch-1' } }, body: { organization_id: 456, first_name: 'Fay' }
  })
  assert.equal(created.response.status, 201)
  const id = created.data!.id

  const list = await api.GET('/contacts', {
    headers,
    params: { query: { organization_id: 456, id: { $gt: 100, $in: JSON.stringify([123, id]) }, $sort: '-id', $select: ['first_name'] } }
  })
  assert.deepEqual(list.data?.data.map(one => one.first_name), ['Fay', 'John'])
  const either = await api.GET('/contacts', {
    headers, params: { query: { organization_id: 456, $or: JSON.stringify([{ first_name: 'Fay' }, { id: { $lt: 124 } }]), $sort: 'id' } }
  })
  assert.deepEqual(either.data?.data.map(one => one.id), [123, id])
  const alone = await api.GET('/contacts', { headers, params: { query: { organization_id: 456, company_id: 'null' } } })
  assert.ok(alone.data?.data.some(one => one.id === id) && alone.data.data.every(one => one.company_id === null))
  // @ts-expect-error: null is left out of a query string, so that all records would come
  void (() => api.GET('/contacts', { headers, params: { query: { organization_id: 456, company_id: null } } }))

  const patched = await api.PATCH('/contacts/{id}', { headers, params: { path: { id } }, body: { first_name: 'Fayx' } })
  assert.equal(patched.data?.first_name, 'Fayx')
  const found = await api.POST('/contacts/search', { headers, body: { organization_id: 456, searchTerm: 'fayx', searchIn: 'name' } })
  assert.deepEqual(found.data?.data.map(one => one.id), [id])

  const removed = await api.DELETE('/contacts/{id}', { headers, params: { path: { id } } })
  assert.equal(typeof removed.data?.deleted_at, 'string')
  const { error } = await api.GET('/contacts/{id}', { headers, params: { path: { id } } })
  assert.deepEqual([error?.code, error?.name], [404, 'NotFound'])
}

main()
