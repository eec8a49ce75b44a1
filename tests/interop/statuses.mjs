// The status of each kind of answer, and what the client makes of it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SERVER } from './clients.mjs'

const call = (path, method = 'GET', data, headers) =>
  fetch(`${SERVER}/${path}`, {
    method,
    redirect: 'manual',
    body: data && JSON.stringify(data),
    headers: { 'Content-Type': 'application/json', ...headers }
  })

const FIRST_OF_ERRORS = ['name', 'message', 'code', 'className']

const STATUSES = [
  [200, 'echo'],
  [200, 'echo/1'],
  [201, 'echo', 'POST', { a: 1 }],
  [200, 'messages', 'POST', { a: 1 }, { 'X-Service-Method': 'shout' }],
  [204, 'echo', 'POST', { nothing: true }],
  [204, 'echo/null'],
  [206, 'echo/hdr'],
  [303, 'echo/loc'],
  [400, 'echo/bad'],
  [409, 'echo/arr'],
  [404, 'nope'],
  [405, 'nomulti', 'PATCH', {}],
  [401, 'users']
]

for (const [status, path, method, data, headers] of STATUSES) {
  const named = Object.values(headers ?? {}).join()
  test(`${method ?? 'GET'} ${path} ${named} is ${status}`, async () => {
    const response = await call(path, method, data, headers)
    assert.equal(response.status, status)
    const body = await response.text()
    if (status === 204) return assert.equal(body, '')
    assert.match(response.headers.get('content-type'), /^application\/json/)
    if (status >= 400) assert.deepEqual(Object.keys(JSON.parse(body)).slice(0, 4), FIRST_OF_ERRORS)
  })
}

test('headers that a hook has set', async () => {
  assert.equal((await call('echo/loc')).headers.get('location'), '/else%20where')
  const { headers } = await call('echo/hdr')
  assert.deepEqual([headers.get('x-a'), headers.get('x-b')], ['1', 'a, b'])
})

test('malformed JSON and a body that is too large', async () => {
  const headers = { 'Content-Type': 'application/json' }
  for (const [body, status] of [['{"a":', 400], [JSON.stringify('x'.repeat(1024 * 1024)), 413]]) {
    const response = await fetch(`${SERVER}/echo`, { method: 'POST', body, headers })
    const error = await response.json()
    assert.deepEqual([response.status, error.code, error.className], [status, status, 'bad-request'])
  }
})
