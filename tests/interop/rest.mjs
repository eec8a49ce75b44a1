// The REST client over fetch and over axios.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { BadRequest, Conflict, MethodNotAllowed, NotFound } from '@feathersjs/errors'
import { LIMITS, overRest, rejects } from './clients.mjs'

for (const transport of ['fetch', 'axios']) {
  describe(`over ${transport}`, LIMITS, () => {
    const app = overRest(transport)
    const [messages, nomulti, echo] = ['messages', 'nomulti', 'echo'].map((path) => app.service(path))

    test('all methods', async () => {
      const made = await nomulti.create({ text: 'a' })
      assert.deepEqual(made, { text: 'a', id: made.id })
      assert.deepEqual(await nomulti.get(made.id), made)
      assert.deepEqual(await nomulti.update(made.id, { text: 'b' }), { text: 'b', id: made.id })
      assert.deepEqual(await nomulti.patch(made.id, { seen: true }), { text: 'b', id: made.id, seen: true })
      assert.deepEqual(await nomulti.find(), [{ text: 'b', id: made.id, seen: true }])
      assert.deepEqual(await nomulti.remove(made.id), { text: 'b', id: made.id, seen: true })
      assert.deepEqual(await nomulti.find(), [])
    })

    test('null ids, pages and a custom method', async () => {
      const made = await messages.create([{ text: 'b' }, { text: 'c' }, { text: 'd' }])
      const page = await messages.find({ query: { $sort: { id: -1 }, $select: ['text'], $skip: 1 } })
      assert.deepEqual(page, {
        total: 3, limit: 2, skip: 1, data: [{ text: 'c', id: made[1].id }, { text: 'b', id: made[0].id }]
      })
      assert.deepEqual(await messages.patch(null, { p: 1 }, { query: { text: 'c' } }), [{ ...made[1], p: 1 }])
      assert.equal((await messages.remove(null)).length, 3)
      assert.deepEqual(await messages.shout({ v: 1 }, { query: { q: '1' } }), {
        data: { v: 1 }, provider: 'rest', query: { q: '1' }, route: {}
      })
    })

    test('$in with 50 values', async () => {
      const made = await Promise.all(Array.from({ length: 50 }, (_, n) => nomulti.create({ n: `${n}` })))
      const query = { n: { $in: made.map((record) => record.n) } }
      assert.equal((await nomulti.find({ query })).length, 50)
      assert.equal((await nomulti.find({ query: { $or: [query, { n: 'none' }] } })).length, 50)
      await Promise.all(made.map(({ id }) => nomulti.remove(id)))
    })

    test('ids with spaces, slashes and more', async () => {
      for (const id of ['a b/c', '50%', 'é', '?#&']) {
        assert.equal((await echo.get(id)).id, id)
        assert.equal((await echo.patch(id, {})).id, id)
      }
    })

    test('nested query', async () => {
      const query = {
        a: '', c: true, d: new Date(0), e: [1, 2], g: { h: { $in: ['x'] } }, i: 'a b&c', k: 'é',
        $sort: { x: -1 }, $or: [{ a: 1 }]
      }
      assert.deepEqual(await echo.find({ query }), {
        a: '', c: 'true', d: '1970-01-01T00:00:00.000Z', e: ['1', '2'], g: { h: { $in: ['x'] } }, i: 'a b&c', k: 'é',
        $sort: { x: '-1' }, $or: [{ a: '1' }]
      })
      assert.deepEqual(await echo.patch(null, { a: 1 }, { query: { q: 1 } }), {
        id: null, data: { a: 1 }, query: { q: '1' }
      })
      assert.deepEqual(await echo.remove(null), { id: null, query: {} })
    })

    test('no content', async () => {
      assert.equal(await echo.get('null'), transport === 'fetch' ? null : '')
    })

    test('errors are instances of their class, with data and errors', async () => {
      await rejects(echo.get('bad'), BadRequest, {
        name: 'BadRequest', message: 'bad one', code: 400, className: 'bad-request',
        data: { foo: 1 }, errors: { a: 'x' }
      })
      await rejects(echo.get('arr'), Conflict, { code: 409, data: [1, 2] })
      await rejects(messages.get(999), NotFound, { message: "No record found for id '999'" })
      await rejects(messages.update(null, { text: 'x' }), BadRequest, {
        message: "You can not replace multiple instances. Did you mean 'patch'?"
      })
      await rejects(nomulti.remove(null), MethodNotAllowed, { message: 'Can not remove multiple entries' })
      await rejects(messages.hidden({}), MethodNotAllowed, {
        message: 'Method `hidden` is not supported by this endpoint.'
      })
      await rejects(app.service('nope').find(), NotFound, { message: 'Path /nope not found' })
      await rejects(messages.find({ query: { text: { $regex: '1' } } }), BadRequest, {
        message: 'Invalid query parameter $regex', data: { $regex: '1' }
      })
    })

    test('a body that is too large, and one that is no JSON', async () => {
      const large = echo.create({ text: 'x'.repeat(1024 * 1024) })
      await rejects(large, BadRequest, { code: 413 })
      const malformed = { body: '{"text":', data: '{"text":', transformRequest: [(data) => data] }
      await rejects(echo.create(undefined, { connection: malformed }), BadRequest, { code: 400 })
    })
  })
}
