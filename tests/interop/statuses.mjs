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

const named = (method) => ({ 'X-Service-Method': method })
const unsupported = (method) => `Method \`${method}\` is not supported by this endpoint.`
const titled = (status, path, method = 'GET', headers = {}) =>
  [method, path, ...Object.values(headers), 'is', status].join(' ')

const STATUSES = [
  [200, 'echo'],
  [200, 'echo/1'],
  [201, 'echo', 'POST', { a: 1 }],
  [200, 'messages', 'HEAD'],
  [200, 'messages', 'POST', { a: 1 }, named('shout')],
  [200, 'messages', 'GET', undefined, named('shout')],
  [204, 'echo', 'POST', { nothing: true }],
  [204, 'echo/null'],
  [206, 'echo/hdr'],
  [303, 'echo/loc']
]

const NO_MANY = 'Can not patch multiple entries'
const ERRORS = [
  ['BadRequest', 400, 'bad one', 'echo/bad'],
  ['NotAuthenticated', 401, 'Not authenticated', 'users'],
  ['NotFound', 404, 'Path /nope not found', 'nope?x=1'],
  ['NotFound', 404, 'Path / not found', ''],
  ['NotFound', 404, "No record found for id '999'", 'messages/999'],
  ['MethodNotAllowed', 405, 'Method PURGE not allowed', 'messages', 'PURGE'],
  ['MethodNotAllowed', 405, NO_MANY, 'nomulti', 'PATCH', {}],
  ['MethodNotAllowed', 405, unsupported('find'), 'authentication'],
  ['MethodNotAllowed', 405, unsupported('get'), 'authentication/1'],
  ['MethodNotAllowed', 405, unsupported('hidden'), 'messages', 'POST', {}, named('hidden')],
  ['MethodNotAllowed', 405, unsupported('create'), 'messages', 'POST', {}, named('create')],
  ['MethodNotAllowed', 405, unsupported('update'), 'messages/1', 'PUT', {}, named('find')],
  ['Conflict', 409, 'several', 'echo/arr']
]

for (const [status, path, method, data, headers] of STATUSES) {
  test(titled(status, path, method, headers), async () => {
    const response = await call(path, method, data, headers)
    assert.equal(response.status, status)
    const body = await response.text()
    if (status === 204 || method === 'HEAD') assert.equal(body, '')
    if (status !== 204) assert.match(response.headers.get('content-type'), /^application\/json/)
  })
}

for (const [name, code, message, path, method, data, headers] of ERRORS) {
  test(`${titled(code, path, method, headers)}: ${message}`, async () => {
    const response = await call(path, method, data, headers)
    assert.equal(response.status, code)
    assert.match(response.headers.get('content-type'), /^application\/json/)
    const error = await response.json()
    assert.deepEqual(Object.entries(error).slice(0, 3), Object.entries({ name, message, code }))
    assert.equal(Object.keys(error)[3], 'className')
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
