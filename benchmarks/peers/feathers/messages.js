// The same service as benchmarks/messages.py, on Feathers.
import { feathers } from '@feathersjs/feathers'
import { bodyParser, errorHandler, koa, rest } from '@feathersjs/koa'
import { memory } from '@feathersjs/memory'
import socketio from '@feathersjs/socketio'

const app = koa(feathers())
app.use(errorHandler())
app.use(bodyParser())
app.configure(rest())
app.configure(socketio())
app.use('messages', memory())
app.on('connection', connection => app.channel('everyone').join(connection))
app.publish(() => app.channel('everyone'))

const server = await app.listen(0, '127.0.0.1')
server.on('listening', () => console.log(`Serving at http://127.0.0.1:${server.address().port}`))
