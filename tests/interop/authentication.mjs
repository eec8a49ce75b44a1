// The authentication client over REST and over sockets.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { NotAuthenticated } from '@feathersjs/errors'
import { LIMITS, LOGIN, connect, next, overRest, overSocket, rejects } from './clients.mjs'

const TRANSPORTS = { fetch: () => overRest('fetch'), axios: () => overRest('axios'), sockets: () => overSocket() }
const USER = { email: 'a@b.c', id: 0 }

const tokenOf = async () => (await overRest('fetch').authenticate(LOGIN)).accessToken
const bearing = (token) => ({ extraHeaders: { Authorization: `Bearer ${token}` } })
const whoami = (app) => app.service('echo').whoami({})

for (const [transport, client] of Object.entries(TRANSPORTS)) {
  describe(`over ${transport}`, LIMITS, () => {
    test('log in, be known, log out', async () => {
      const app = client()
      const loggedIn = next(app, 'login')
      const { accessToken, user, authentication } = await app.authenticate(LOGIN)
      assert.deepEqual([user, authentication.strategy, authentication.payload.sub], [USER, 'local', '0'])
      assert.equal((await loggedIn).accessToken, accessToken)
      assert.equal(await app.authentication.getAccessToken(), accessToken)
      assert.deepEqual((await app.service('users').find()).data, [USER])
      const again = await app.reAuthenticate(true)
      assert.deepEqual([again.accessToken, again.user], [accessToken, USER])

      const loggedOut = next(app, 'logout')
      assert.equal((await app.logout()).accessToken, accessToken)
      await loggedOut
      assert.equal(await app.authentication.getAccessToken(), null)
      await rejects(app.service('users').find(), NotAuthenticated, { message: 'Not authenticated', code: 401 })
      await rejects(app.authenticate({ strategy: 'jwt', accessToken }), NotAuthenticated, {})
    })

    test('who is not let in', async () => {
      const app = client()
      const refused = (data, message) => rejects(app.authenticate(data), NotAuthenticated, { message })
      await refused({ ...LOGIN, password: 'wrong' }, 'Invalid login')
      await refused({ ...LOGIN, email: 'x@b.c' }, 'Invalid login')
      await refused({ strategy: 'foo' }, 'Invalid authentication information (strategy not allowed in authStrategies)')
      await rejects(app.authenticate({ strategy: 'jwt', accessToken: 'x.y.z' }), NotAuthenticated, {
        message: 'invalid token', data: { name: 'JsonWebTokenError' }
      })
      assert.equal(await app.authentication.getAccessToken(), null)
      await rejects(app.service('users').find(), NotAuthenticated, { message: 'Not authenticated' })
    })
  })
}

test('a socket that has logged in is known to every service, a call over REST is not', LIMITS, async () => {
  const [socket, rest] = [overSocket(), overRest('fetch')]
  assert.deepEqual(await whoami(socket), { user: null, known: false })
  await socket.authenticate(LOGIN)
  assert.deepEqual(await whoami(socket), { user: USER, known: false })
  await rest.authenticate(LOGIN)
  assert.deepEqual(await whoami(rest), { user: null, known: null })
})

test('a token in the handshake is a login before the connection is told of', LIMITS, async () => {
  const token = await tokenOf()
  for (const transports of [['polling', 'websocket'], ['websocket'], ['polling']]) {
    const app = overSocket({ ...bearing(token), transports })
    assert.deepEqual(await whoami(app), { user: USER, known: true })
    assert.deepEqual((await app.service('users').find()).data, [USER])
  }
})

test('a wrong token in the handshake is no connection', LIMITS, async () => {
  for (const transports of [['polling', 'websocket'], ['websocket']]) {
    const error = await next(connect({ ...bearing('abc'), transports }), 'connect_error')
    assert.deepEqual([error.message, error.data], ['jwt malformed', { name: 'JsonWebTokenError' }])
  }
})

test('a logout ends every other socket of the token', LIMITS, async () => {
  const token = await tokenOf()
  const [one, other] = [overSocket(bearing(token)), overSocket(bearing(token))]
  assert.deepEqual([(await whoami(one)).user, (await whoami(other)).user], [USER, USER])
  const ended = next(other.io, 'disconnect')
  await one.service('authentication').remove(null)
  assert.equal(await ended, 'io server disconnect')
  assert.deepEqual(await whoami(one), { user: null, known: true })
})
