// Clients that return: to the same server, to another one, and after restarts. They have missed nothing.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, test } from 'node:test'
import authenticationClient, { MemoryStorage } from '@feathersjs/authentication-client'
import { feathers } from '@feathersjs/feathers'
import socketioClient from '@feathersjs/socketio-client'
import { io } from 'socket.io-client'
import { LOGIN, next } from './clients.mjs'

const LIMITS = { timeout: 90_000 }
const APP = ['-m', 'apex', '--app', 'served:create_app', 'serve', '--port', '0']
const FOLDER = mkdtempSync(join(tmpdir(), 'apex-returning-'))
writeFileSync(join(FOLDER, 'served.py'), 'from tests.interop.returning import create_app\n')
const running = new Set()
after(() => {
  running.forEach((one) => one.kill('SIGKILL'))
  rmSync(FOLDER, { recursive: true })
})

const start = async (...more) => {
  // Outside of the checkout, whose migrations are not those of this app.
  const server = spawn(process.env.PYTHON, [...APP, ...more], { cwd: FOLDER, stdio: ['ignore', 'pipe', 'inherit'] })
  running.add(server)
  const lines = createInterface(server.stdout)
  let line
  do [line] = await once(lines, 'line') // The start of several workers takes a while on a busy machine.
  while (!line.includes('http://'))
  return { server, url: line.match(/http:\S+/)[0], lines }
}

const stop = async ({ server }, signal = 'SIGKILL') => {
  const exit = once(server, 'exit')
  server.kill(signal)
  await exit
  running.delete(server)
}

const write = async (url, service, text, id) => {
  const [method, path] = id === undefined ? ['POST', service] : ['PATCH', `${service}/${id}`]
  const headers = { 'content-type': 'application/json' }
  const response = await fetch(`${url}/${path}`, { method, headers, body: JSON.stringify({ text }) })
  assert.ok(response.ok, await response.clone().text())
  return (await response.json()).id
}

const follower = async (url, transports, login) => {
  const socket = io(url, { transports, forceNew: true, reconnection: false })
  const app = feathers().configure(socketioClient(socket)).configure(authenticationClient({ storage: new MemoryStorage() }))
  const heard = []
  for (const service of ['news', 'notes']) {
    for (const event of ['created', 'patched']) app.service(service).on(event, ({ text }) => heard.push(text))
  }
  await next(socket, 'connect')
  if (login) await app.authenticate(LOGIN)
  return { socket, app, heard }
}

const cut = async ({ socket }) => {
  const ended = next(socket, 'disconnect')
  socket.io.engine.close()
  await ended
}

const comeBack = async ({ socket }, url) => {
  socket.io.uri = url
  const back = next(socket, 'connect')
  socket.connect()
  await back
}

const hears = async ({ heard }, text) => {
  const end = Date.now() + 20_000
  while (!heard.includes(text)) {
    assert.ok(Date.now() < end, `heard ${heard}, not ${text}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

for (const login of [false, true]) {
  const service = login ? 'notes' : 'news'

  test(`clients that were cut off get what they have missed, in order: ${login ? 'logged in' : 'anonymous'}`, LIMITS, async () => {
    let [here, there] = await Promise.all([start(), start()])
    const all = await Promise.all([['websocket'], ['polling']].map((transports) => follower(here.url, transports, login)))
    const hear = (text) => Promise.all(all.map((one) => hears(one, text)))
    const cutOff = () => Promise.all(all.map(cut))
    const recover = async ({ url }, text) => {
      await Promise.all(all.map((one) => comeBack(one, url)))
      await hear(text)
      for (const { socket } of all) assert.equal(socket.recovered, true)
    }
    const id = await write(here.url, service, 'a')
    await hear('a')

    await cutOff()
    for (const text of 'bcd') await write(there.url, service, text, id)
    await recover(here, 'd')

    await cutOff()
    for (const text of 'efg') await write(here.url, service, text, id)
    await recover(there, 'g')
    await write(here.url, service, 'h', id)
    await hear('h')

    await cutOff()
    for (const text of 'ij') await write(here.url, service, text, id)
    await Promise.all([stop(here), stop(there)])
    here = await start()
    await write(here.url, service, 'k', id)
    await recover(here, 'k')
    await write(here.url, service, 'l', id)
    await hear('l')
    for (const { socket, heard } of all) {
      assert.deepEqual(heard, [...'abcdefghijkl'])
      socket.close()
    }
    await stop(here)
  })
}

test('a restart of all workers loses nothing', LIMITS, async () => {
  const service = await start('--workers', '2')
  const followers = await Promise.all([1, 2, 3, 4].map(() => follower(service.url, ['websocket'], true)))
  for (const { socket } of followers) socket.io.reconnection(true)
  const id = await write(service.url, 'notes', '0')
  service.server.kill('SIGHUP')
  const texts = ['0']
  let line
  const replaced = (async () => {
    do [line] = await once(service.lines, 'line')
    while (!line.includes('replaced'))
  })()
  while (!line?.includes('replaced')) {
    texts.push(`${texts.length}`)
    await write(service.url, 'notes', texts.at(-1), id)
  }
  await replaced
  await Promise.all(followers.map((one) => hears(one, texts.at(-1))))
  for (const { socket, heard } of followers) {
    assert.equal(socket.recovered, true)
    const firsts = heard.filter((text, index) => heard.indexOf(text) === index)
    assert.deepEqual(firsts, texts)
    socket.close()
  }
  await stop(service, 'SIGTERM')
})

test('a client from the future, from nowhere and with nonsense is told to read again', LIMITS, async () => {
  const here = await start()
  for (const offset of [undefined, 'nonsense', 'zz.1.1;5', '0.zzzzzz.1;;a', 'x'.repeat(900_000), ';;', 5, null]) {
    const socket = io(here.url, { transports: ['websocket'], forceNew: true })
    socket._pid = 'mine'
    socket._lastOffset = offset
    await next(socket, 'connect')
    assert.equal(socket.recovered, false)
    assert.notEqual(socket._pid, 'mine')
    socket.close()
  }
  await stop(here)
})
