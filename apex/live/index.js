/** Pages of Feathers services that stay up to date, over the official client of Socket.IO. */

const EVENTS = ['created', 'updated', 'patched', 'removed']

/** Milliseconds between the starts of two reads, so that a burst of events costs few of them. */
const PAUSE = 100

/** The longest pause in milliseconds before a read that has failed is repeated. */
const LONGEST_PAUSE = 3200

/** The codes of errors after which the same read may succeed. An error without an answer has no code. */
const PASSING = [undefined, 408, 429, 503]

/**
 * Keeps the page of a query as `find` returns it:
 *
 *     const live = watch(app.service('messages'), { query: { $limit: 10 }, onChange: (page) => show(page) })
 *     live.stop()
 *
 * Calls `onChange(page)` with the first page and with each one that differs from the last. Calls `onError(error)` when
 * the page cannot be read, and reads it again after the next event, connection or login. `services` are others whose
 * events may change the page. Throws a TypeError if the service is not one of @feathersjs/socketio-client.
 */
export function watch(service, { query, route, services = [], onChange, onError = console.error }) {
  const socket = service.connection
  if (typeof socket?.on !== 'function') throw new TypeError('watch needs a service of @feathersjs/socketio-client')
  if (typeof onChange !== 'function') throw new TypeError('watch needs a function onChange')
  const { app } = service.find.createContext()
  const authentication = () => Promise.resolve(app.get('authentication'))

  let page // As read last, also while an error is shown.
  let isShown = false
  let isStale = true
  let reading // Identifies the read whose answer is awaited.
  let timer // Runs between two reads.
  let pause = PAUSE
  let token // That of the login with which the page is read.

  async function read() {
    timer = undefined
    if (!isStale || !socket.connected) return
    isStale = false
    const own = (reading = {})
    const answer = await find().then((found) => ({ found }), (error) => ({ error }))
    if (own !== reading) return
    reading = undefined
    const isPassing = answer.error !== undefined && PASSING.includes(answer.error.code)
    isStale ||= isPassing
    pause = isPassing ? Math.min(2 * pause, LONGEST_PAUSE) : PAUSE
    timer = setTimeout(read, pause * (0.5 + Math.random() / 2))
    show(answer)
  }

  async function find() {
    token = (await authentication().catch(() => undefined))?.accessToken
    return service.find({ query, route })
  }

  function show({ found, error }) {
    if (error) {
      isShown = false
      return onError(error)
    }
    const last = page
    page = share(last, found)
    if (isShown && page === last) return
    isShown = true
    onChange(page)
  }

  const mark = () => {
    isStale = true
    if (!reading && timer === undefined) read()
  }
  const onConnect = () => {
    clearTimeout(timer)
    timer = undefined
    // The server sends the events that a recovered connection has missed, once the client has logged in again.
    if (isStale || !socket.recovered) mark()
    else authentication().catch(mark)
  }
  const onDisconnect = () => {
    // The answer to a read will not come.
    isStale ||= reading !== undefined
    reading = undefined
  }
  const onLogin = ({ accessToken }) => {
    // A login with the same token follows each reconnection.
    if (accessToken !== token) mark()
  }
  const listeners = [
    [socket, 'connect', onConnect], [socket, 'disconnect', onDisconnect], [app, 'login', onLogin], [app, 'logout', mark],
    ...[service, ...services].flatMap((followed) => EVENTS.map((event) => [followed, event, mark]))
  ]
  for (const [emitter, event, listener] of listeners) emitter.on(event, listener)
  read()

  return {
    get page() {
      return isShown ? page : undefined
    },
    stop() {
      for (const [emitter, event, listener] of listeners) emitter.off(event, listener)
      clearTimeout(timer)
      reading = {} // A read that nobody makes: no answer is shown, and no other read begins.
    }
  }
}

/** Returns a fresh page with the equal records of the last one, or the last page if it is equal as a whole. */
function share(last, fresh) {
  if (JSON.stringify(last) === JSON.stringify(fresh)) return last
  const [old, records] = [recordsOf(last), recordsOf(fresh)]
  if (!Array.isArray(old) || !Array.isArray(records)) return fresh
  const known = new Map(old.map((record) => [JSON.stringify(record), record]))
  const shared = records.map((record) => known.get(JSON.stringify(record)) ?? record)
  return Array.isArray(fresh) ? shared : { ...fresh, data: shared }
}

const recordsOf = (page) => (Array.isArray(page) ? page : page?.data)
