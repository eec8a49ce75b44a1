// A server that dies, or is stopped, and is started again on its port: what its clients notice.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { ADMIN, LIMITS, loggedInAgain, next, overSocket } from './clients.mjs'

let server

const start = async () => {
  server = spawn(process.env.PYTHON, ['-m', 'apex', 'serve'], { stdio: ['ignore', 'pipe', 'inherit'] })
  await next(createInterface(server.stdout), 'line')
}

const stop = async (signal) => {
  const exit = once(server, 'exit')
  server.kill(signal)
  await exit
}

before(start)
after(() => server.kill('SIGKILL'))

for (const signal of ['SIGKILL', 'SIGTERM']) {
  test(`after ${signal} a client is back by itself, and logged in`, LIMITS, async () => {
    const app = overSocket()
    const contacts = app.service('contacts')
    await next(app.io.io.engine, 'upgrade')
    const { accessToken } = await app.authenticate(ADMIN)
    assert.equal((await contacts.get(123)).first_name, 'John')

    const [ended, again] = [next(app.io, 'disconnect'), loggedInAgain(app)]
    await stop(signal)
    assert.match(await ended, /^transport /)
    const meanwhile = [contacts.get(123), contacts.find({ query: { organization_id: 456 } }), contacts.get(999999)]
    await start()
    const [one, page, missing] = await Promise.allSettled(meanwhile)
    assert.equal((await again).accessToken, accessToken)
    assert.equal(one.value.first_name, 'John')
    assert.ok(page.value.total >= 2)
    assert.equal(missing.reason.code, 404)

    const created = next(contacts, 'created')
    const made = await contacts.create({ organization_id: 456, first_name: 'Jane' })
    assert.equal((await created).id, made.id)
    app.io.close()
  })
}

test('a call that is under way when the server dies fails, where it has a time', LIMITS, async () => {
  const app = overSocket()
  await next(app.io.io.engine, 'upgrade')
  await app.authenticate(ADMIN)
  const again = loggedInAgain(app)
  server.kill('SIGSTOP')
  app.io.timeout(LIMITS.timeout)
  const call = assert.rejects(app.service('contacts').get(123), { message: 'socket has been disconnected' })
  await stop('SIGKILL')
  await call
  await start()
  assert.equal((await again).user.email, ADMIN.email)
  assert.equal((await app.service('contacts').get(123)).first_name, 'John')
})
