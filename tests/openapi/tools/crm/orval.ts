// A day's work with the contacts of the CRM, by a client of orval.
import assert from 'node:assert/strict'
import axios from 'axios'
import { contactsCreate, contactsFind, contactsGet, contactsPatch, contactsRemove, contactsSearch, type Error } from './orval/client'

async function main() {
  axios.defaults.baseURL = process.env.URL
  axios.defaults.headers.common.Authorization = `Bearer ${process.env.TOKEN}`

  const { data: { id } } = await contactsCreate({ organization_id: 456, first_name: 'Oda' }, undefined, { headers: { 'Idempotency-Key': 'orval-1' } })

  const list = await contactsFind({
    organization_id: 456, id: { $gt: 100, $in: JSON.stringify([123, id]) }, $sort: '-id', $select: ['first_name']
  })
  assert.deepEqual(list.data.data.map(one => one.first_name), ['Oda', 'John'])
  const either = await contactsFind({
    organization_id: 456, $or: JSON.stringify([{ first_name: 'Oda' }, { id: { $lt: 124 } }]), $sort: 'id'
  })
  assert.deepEqual(either.data.data.map(one => one.id), [123, id])
  const alone = await contactsFind({ organization_id: 456, company_id: 'null' })
  assert.ok(alone.data.data.some(one => one.id === id) && alone.data.data.every(one => one.company_id === null))
  // @ts-expect-error: null is left out of a query string, so that all records would come
  void (() => contactsFind({ organization_id: 456, company_id: null }))

  const patched = await contactsPatch(id, { first_name: 'Odax' })
  assert.equal(patched.data.first_name, 'Odax')
  const found = await contactsSearch({ organization_id: 456, searchTerm: 'odax', searchIn: 'name' })
  assert.deepEqual(found.data.data.map(one => one.id), [id])

  const removed = await contactsRemove(id)
  assert.equal(typeof removed.data.deleted_at, 'string')
  const failed = await contactsGet(id).catch(error => error)
  assert.ok(axios.isAxiosError<Error>(failed))
  assert.deepEqual([failed.response?.data.code, failed.response?.data.name], [404, 'NotFound'])
}

main()
