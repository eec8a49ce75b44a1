// A day's work with the messages of a new project, by a client of @hey-api/openapi-ts.
import assert from 'node:assert/strict'
import { client } from './hey/client.gen'
import { messagesCreate, messagesFind, messagesGet, messagesPatch, messagesRemove } from './hey'

async function main() {
  client.setConfig({ baseUrl: process.env.URL, auth: process.env.TOKEN })
  const { data } = await messagesCreate({ body: { text: 'Hey' } })
  const id = data!.id
  const list = await messagesFind({
    query: { id: { $gte: id }, $or: JSON.stringify([{ text: 'Hey' }]), $sort: '-created_at,id', $select: ['text'] }
  })
  assert.deepEqual(list.data?.data, [{ id, text: 'Hey' }])
  const patched = await messagesPatch({ path: { id }, body: { text: 'Heyed' } })
  assert.equal(patched.data?.text, 'Heyed')
  const removed = await messagesRemove({ path: { id } })
  assert.equal(removed.data?.id, id)
  const { error } = await messagesGet({ path: { id } })
  assert.deepEqual([error?.code, error?.name], [404, 'NotFound'])
}

main()
