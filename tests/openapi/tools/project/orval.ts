// A day's work with the messages of a new project, by a client of orval.
import assert from 'node:assert/strict'
import axios from 'axios'
import { messagesCreate, messagesFind, messagesGet, messagesPatch, messagesRemove, type Error } from './orval/client'

async function main() {
  axios.defaults.baseURL = process.env.URL
  axios.defaults.headers.common.Authorization = `Bearer ${process.env.TOKEN}`
  const { data: { id } } = await messagesCreate({ text: 'Orval' })
  const list = await messagesFind({
    id: { $gte: id }, $or: JSON.stringify([{ text: 'Orval' }]), $sort: '-created_at,id', $select: ['text']
  })
  assert.deepEqual(list.data.data, [{ id, text: 'Orval' }])
  const patched = await messagesPatch(id, { text: 'Orvaled' })
  assert.equal(patched.data.text, 'Orvaled')
  const removed = await messagesRemove(id)
  assert.equal(removed.data.id, id)
  const failed = await messagesGet(id).catch(error => error)
  assert.ok(axios.isAxiosError<Error>(failed))
  assert.deepEqual([failed.response?.data.code, failed.response?.data.name], [404, 'NotFound'])
}

main()
