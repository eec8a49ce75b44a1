// The official clients of Feathers as followers of the oracle. They take commands and give answers as lines of JSON.
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import authenticationClient, { MemoryStorage } from '@feathersjs/authentication-client'
import { feathers } from '@feathersjs/feathers'
import socketioClient from '@feathersjs/socketio-client'
import { io } from 'socket.io-client'

const RETRY = 100
const PATIENCE = 5000
const EVENTS = ['created', 'updated', 'patched', 'removed']
const apps = new Map()
const tell = (message) => process.stdout.write(`${JSON.stringify(message)}\n`)

const open = async ({ name, url, login, services }) => {
  const socket = io(url, {
    forceNew: true, transports: ['websocket'], reconnectionDelay: 50, reconnectionDelayMax: 200, timeout: 5000
  })
  const app = feathers().configure(socketioClient(socket))
  app.configure(authenticationClient({ storage: new MemoryStorage() }))
  apps.set(name, app)
  for (const service of services) {
    for (const event of EVENTS) {
      app.service(service).on(event, (record, offset) => tell({ name, service, event, record, offset }))
    }
  }
  await app.authenticate(login)
  let isComplete = true // False if a connection was not recovered, also if it ended before its login.
  socket.on('disconnect', () => tell({ name, disconnected: true }))
  socket.on('connect', async () => {
    const { id } = socket
    isComplete &&= Boolean(socket.recovered)
    // The client logs in again by itself, once for each connection. It does not try again if the server is in trouble.
    let login = app.get('authentication')
    while (socket.id === id) {
      try {
        await login
        if (socket.id !== id) return
        tell({ name, connected: true, recovered: isComplete })
        isComplete = true
        return
      } catch (error) {
        tell({ name, failed: String(error) })
        await setTimeout(RETRY)
        if (socket.id === id) login = app.reAuthenticate(true)
      }
    }
  })
}

const late = async () => {
  await setTimeout(PATIENCE, undefined, { ref: false })
  throw new Error('No answer')
}

const commands = {
  open,
  // A call whose connection breaks never ends. With `ackTimeout` it would, but then a login that breaks is given up.
  find: ({ name, service, query }) => Promise.race([apps.get(name).service(service).find({ query }), late()]),
  close: async ({ name }) => {
    apps.get(name).io.close()
    apps.delete(name)
  }
}

for await (const line of createInterface(process.stdin)) {
  const { call, number, ...args } = JSON.parse(line)
  commands[call](args).then(
    (value) => tell({ number, value: value ?? null }),
    (error) => tell({ number, error: { ...(error.toJSON?.() ?? {}), message: error.message } })
  )
}
process.exit()
