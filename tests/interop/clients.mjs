// Clients of the server, as an app in JavaScript makes them, and what the checks share.
import assert from 'node:assert/strict'
import { after } from 'node:test'
import authenticationClient, { MemoryStorage } from '@feathersjs/authentication-client'
import { FeathersError } from '@feathersjs/errors'
import { feathers } from '@feathersjs/feathers'
import restClient from '@feathersjs/rest-client'
import socketioClient from '@feathersjs/socketio-client'
import axios from 'axios'
import { io } from 'socket.io-client'

export const SERVER = process.env.URL
export const LOGIN = { strategy: 'local', email: 'a@b.c', password: 'p' }
export const ADMIN = { strategy: 'local', email: 'admin@example.com', password: 'apex-demo' }
const METHODS = ['find', 'get', 'create', 'update', 'patch', 'remove']

export const LIMITS = { timeout: 20_000 }
const SECONDS = 10
const CUSTOM = {
  contacts: ['search'],
  echo: ['whoami'],
  messages: ['shout', 'hidden'],
  nomulti: ['shout'],
  rooms: ['join', 'type', 'reveal']
}

const withMethods = (app, connection) => {
  for (const [path, custom] of Object.entries(CUSTOM)) {
    app.use(path, connection.service(path), { methods: [...METHODS, ...custom] })
  }
  return app.configure(authenticationClient({ storage: new MemoryStorage() }))
}

export const overRest = (transport) => {
  const connection = restClient(SERVER)[transport](transport === 'fetch' ? fetch : axios)
  return withMethods(feathers().configure(connection), connection)
}

const open = new Set()
after(() => open.forEach((socket) => socket.close()))

export const connect = (options) => {
  const socket = io(SERVER, { forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 100, ...options })
  open.add(socket)
  return socket
}

export const overSocket = (options) => {
  const socket = connect(options)
  const connection = socketioClient(socket)
  return withMethods(feathers().configure(connection), connection)
}

// What comes with the next event; fails when it does not come.
export const next = (emitter, event) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no '${event}' came`)), SECONDS * 1000)
    emitter.once(event, (value) => {
      clearTimeout(timer)
      resolve(value)
    })
  })

// The call fails with an error of a class, rebuilt from what the server has sent.
export const rejects = async (call, type, properties) => {
  const error = await call.then(() => assert.fail('the call was answered'), (error) => error)
  assert.ok(error instanceof type, `${error.name} ${error.message} is no ${type.name}`)
  assert.ok(error instanceof FeathersError)
  for (const [name, value] of Object.entries(properties)) assert.deepEqual(error[name], value, name)
}

// What comes of the login that a client makes by itself once it has lost its connection: a result, or an error.
export const loggedInAgain = ({ authentication }) =>
  new Promise((resolve) => {
    const again = authentication.reAuthenticate.bind(authentication)
    authentication.reAuthenticate = (...force) => {
      const result = again(...force).catch((error) => error)
      resolve(result)
      return result
    }
  })
