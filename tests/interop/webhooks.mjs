// The library of Standard Webhooks verifies a message of apex.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Webhook } from 'standardwebhooks'

const body = Buffer.from(process.env.BODY, 'base64').toString()
const headers = JSON.parse(process.env.HEADERS)

test('a signed message is verified', () => {
  assert.equal(new Webhook(process.env.SECRET).verify(body, headers).data.text, 'Hellö')
})

test('a changed message is refused', () => {
  assert.throws(() => new Webhook(process.env.SECRET).verify(body + ' ', headers))
})
