// Live pages of a list of users and queries. Each new page is a line of output. The line "cut" breaks all connections.
import { createInterface } from 'node:readline'
import { feathers } from '@feathersjs/feathers'
import socketio from '@feathersjs/socketio-client'
import { io } from 'socket.io-client'
import { watch } from 'apex-live'

const sockets = JSON.parse(process.env.WATCHES).map(([user, path, query, services], index) => {
  const socket = io(process.env.URL, { query: { user }, forceNew: true, reconnectionDelay: 10, reconnectionDelayMax: 50 })
  const app = feathers().configure(socketio(socket))
  const print = (page) => console.log(JSON.stringify([index, page]))
  const options = { query, services: services.map((other) => app.service(other)), onChange: print }
  watch(app.service(path), { ...options, onError: (error) => print({ error: error.message }) })
  return socket
})

// An engine that is closed while it opens is only given up after 20 seconds.
const cut = () => sockets.filter((socket) => socket.connected).forEach((socket) => socket.io.engine.close())

createInterface(process.stdin).on('line', cut)
