// A day's work with the messages of a new project, by openapi-fetch with the types of openapi-typescript.
import assert from 'node:assert/strict'
import createClient from 'openapi-fetch'
import type { paths } from './schema'

const api = createClient<paths>({ baseUrl: process.env.URL, headers: { Authorization: `Bearer ${process.env.TOKEN}` } })

async function main() {
  const { data } = await api.POST('/messages', { body: { text: 'Fetch' } })
  const id = data!.id
  const list = await api.GET('/messages', {
    params: { query: { id: { $gte: id }, $or: JSON.stringify([{ text: 'Fetch' }]), $sort: '-created_at,id', $select: ['text'] } }
  })
  assert.deepEqual(list.data?.data, [{ id, text: 'Fetch' }])
  const patched = await api.PATCH('/messages/{id}', { params: { path: { id } }, body: { text: 'Fetched' } })
  assert.equal(patched.data?.text, 'Fetched')
  const removed = await api.DELETE('/messages/{id}', { params: { path: { id } } })
  assert.equal(removed.data?.id, id)
  const { error } = await api.GET('/messages/{id}', { params: { path: { id } } })
  assert.deepEqual([error?.code, error?.name], [404, 'NotFound'])
}

main()
