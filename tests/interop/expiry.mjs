// A server whose tokens live for two seconds.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NotAuthenticated } from '@feathersjs/errors'
import { LIMITS, LOGIN, connect, loggedInAgain, next, overRest, overSocket, rejects } from './clients.mjs'

test('a socket ends with its token, and comes back as nobody', LIMITS, async () => {
  const app = overSocket()
  const ended = next(app.io, 'disconnect')
  const again = loggedInAgain(app)
  const { accessToken } = await app.authenticate(LOGIN)
  assert.equal(await ended, 'io server disconnect')

  app.io.connect()
  assert.equal((await again).message, 'jwt expired')
  assert.equal(await app.authentication.getAccessToken(), null)
  assert.deepEqual(await app.service('echo').whoami({}), { user: null, known: false })
  await rejects(app.service('users').find(), NotAuthenticated, { message: 'Not authenticated' })

  const extraHeaders = { Authorization: `Bearer ${accessToken}` }
  const error = await next(connect({ extraHeaders }), 'connect_error')
  assert.deepEqual([error.message, error.data.name], ['jwt expired', 'TokenExpiredError'])
  const rest = overRest('fetch')
  await rejects(rest.authenticate({ strategy: 'jwt', accessToken }), NotAuthenticated, { message: 'jwt expired' })

  await app.authenticate(LOGIN)
  assert.equal((await app.service('users').find()).total, 1)
})
