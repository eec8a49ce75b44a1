// The contacts of the CRM on Feathers 5: Koa, knex, as its documentation sets them up, and tuned where that is fair:
// the secret is parsed once, no user is looked up, what is created comes back from the INSERT itself.
import { createSecretKey, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { AuthenticationService, JWTStrategy, authenticate } from '@feathersjs/authentication'
import { BadRequest, Forbidden } from '@feathersjs/errors'
import { feathers } from '@feathersjs/feathers'
import { KnexService, transaction } from '@feathersjs/knex'
import { bodyParser, errorHandler, koa, rest } from '@feathersjs/koa'
import { Ajv, addFormats, hooks as schemaHooks } from '@feathersjs/schema'
import { Type, getValidator, querySyntax } from '@feathersjs/typebox'
import knex from 'knex'
import pg from 'pg'

const { DATABASE_URL, POOL = '10' } = process.env
const settings = JSON.parse(readFileSync(process.env.SETTINGS, 'utf8'))
const onSQLite = DATABASE_URL.startsWith('sqlite:')

// Identifiers are BIGINT: numbers, as they are in JSON.
pg.types.setTypeParser(pg.types.builtins.INT8, Number)

const db = onSQLite
  ? knex({
      client: 'better-sqlite3',
      connection: { filename: DATABASE_URL.slice('sqlite:///'.length) },
      useNullAsDefault: true,
      pool: { afterCreate: (connection, done) => { connection.pragma('journal_mode = WAL'); done(null, connection) } }
    })
  : knex({ client: 'pg', connection: DATABASE_URL, pool: { min: Number(POOL), max: Number(POOL) } })

const COLUMNS = [
  'id', 'organization_id', 'first_name', 'last_name', 'email', 'phone', 'phone_country_code', 'phone_country_iso',
  'company_id', 'channel_whatsapp_wa_id', 'channel_instagram_user_id', 'system_type', 'avatar_url',
  'custom_fields_by_name', 'created_at', 'updated_at', 'deleted_at', 'created_by_user_id', 'owned_by_user_id'
]

// Validation, as the generator writes it
const optional = schema => Type.Optional(Type.Union([schema, Type.Null()]))
const nullable = schema => Type.Union([schema, Type.Null()])
const contactSchema = Type.Object({
  id: Type.Integer(),
  organization_id: Type.Integer(),
  first_name: Type.String(),
  last_name: nullable(Type.String()),
  email: nullable(Type.String()),
  phone: nullable(Type.String()),
  company_id: nullable(Type.Integer()),
  owned_by_user_id: nullable(Type.Integer()),
  created_at: Type.String({ format: 'date-time' }),
  updated_at: Type.String({ format: 'date-time' })
}, { $id: 'Contact', additionalProperties: false })
const contactDataSchema = Type.Object({
  organization_id: Type.Integer({ minimum: 1 }),
  first_name: Type.String({ minLength: 1, maxLength: 100 }),
  last_name: optional(Type.String({ maxLength: 100 })),
  email: optional(Type.String({ format: 'email', maxLength: 254 })),
  phone: optional(Type.String({ pattern: '^[0-9 .()\\[\\]-]+$', maxLength: 20 })),
  phone_country_code: optional(Type.String({ pattern: '^\\+[1-9][0-9]{0,3}$' })),
  phone_country_iso: optional(Type.String({ minLength: 2, maxLength: 2 })),
  company_id: optional(Type.Integer({ minimum: 1 })),
  owned_by_user_id: optional(Type.Integer({ minimum: 1 })),
  custom_fields_by_name: Type.Optional(Type.Record(Type.String(), Type.Any()))
}, { $id: 'ContactData', additionalProperties: false })
const dataValidator = getValidator(contactDataSchema, addFormats(new Ajv({}), ['email', 'date-time']))
const queryValidator = getValidator(
  querySyntax(contactSchema),
  addFormats(new Ajv({ coerceTypes: true }), ['email', 'date-time'])
)

// Who belongs where, as it is in the database at the start
const memberships = new Map()
for (const { user_id, organization_id } of await db('memberships').select('user_id', 'organization_id')) {
  memberships.set(user_id, [...(memberships.get(user_id) ?? []), organization_id])
}

async function tenancy(context) {
  const { params, data, method } = context
  const user = Number(params.authentication.payload.sub)
  const mine = memberships.get(user) ?? []
  params.user = { id: user }
  const named = method === 'create' ? data.organization_id : params.query.organization_id
  if (method !== 'get' && named === undefined) throw new BadRequest('organization_id is required')
  if (method !== 'get' && !mine.includes(named)) throw new Forbidden(`You are not a member of organization ${named}`)
  if (method === 'get') params.query.organization_id = { $in: mine }
}

async function softDelete(context) {
  context.params.query.deleted_at = null
  context.params.query.$select ??= COLUMNS
}

const plain = text => text == null ? null
  : text.normalize('NFKD').toLowerCase().replace(/\p{M}/gu, '').replace(/\s+/g, ' ').trim()

async function complete(context) {
  const { data, params: { user } } = context
  const now = new Date()
  context.data = {
    uuid: randomUUID(), system_type: 'contact', custom_fields_by_name: {}, total_tasks_run: 0,
    ...data,
    phone: data.phone?.replace(/[^0-9]/g, ''),
    first_name_form: plain(data.first_name), last_name_form: plain(data.last_name), email_form: plain(data.email),
    created_at: now, updated_at: now, created_by_user_id: user.id, owned_by_user_id: data.owned_by_user_id ?? user.id
  }
}

async function audit(context) {
  const { params, result, method, path } = context
  await params.transaction.trx('audit').insert({
    organization_id: result.organization_id, created_at: new Date(), user_id: params.user.id, api: 'achieveapex',
    provider: params.provider, request_id: randomUUID(), service: path, method, record_id: result.id,
    after: JSON.stringify(result)
  })
}

const nothing = async () => {}
const nothings = Array(5).fill(nothing)

class Contacts extends KnexService {
  async _create(data, params) {
    const [row] = await this.db(params).insert(data).returning(COLUMNS)
    return row
  }

  async _find(params) {
    return onSQLite ? parsed(await super._find(params)) : super._find(params)
  }

  async _get(id, params) {
    return onSQLite ? parsedRow(await super._get(id, params)) : super._get(id, params)
  }
}

// The configuration takes a string, which jsonwebtoken would parse for each token.
const key = createSecretKey(Buffer.from(settings.secret))

class Authentication extends AuthenticationService {
  verifyAccessToken(token, options) {
    return super.verifyAccessToken(token, options, key)
  }
}

// SQLite keeps JSON as text.
const parsedRow = row => ({ ...row, custom_fields_by_name: JSON.parse(row.custom_fields_by_name) })
const parsed = page => ({ ...page, data: page.data.map(parsedRow) })

const app = koa(feathers())
app.set('authentication', {
  entity: null,
  secret: settings.secret,
  authStrategies: ['jwt'],
  jwtOptions: settings.jwtOptions
})
app.use(errorHandler())
app.use(bodyParser())
app.configure(rest())

const authentication = new Authentication(app)
authentication.register('jwt', new JWTStrategy())
app.use('authentication', authentication)

app.use('contacts', new Contacts({ Model: db, name: 'contacts', paginate: { default: 25, max: 100 } }), {
  methods: ['find', 'get', 'create']
})
app.service('contacts').hooks({
  around: { all: [authenticate('jwt')] },
  before: {
    all: [schemaHooks.validateQuery(queryValidator), ...nothings],
    find: [tenancy, softDelete],
    get: [tenancy, softDelete],
    create: [
      schemaHooks.validateData(dataValidator), tenancy, complete, transaction.start()
    ]
  },
  after: { create: [audit, transaction.end()] },
  error: { create: [transaction.rollback()] }
})

const server = await app.listen(0, '127.0.0.1')
server.on('listening', () => console.log(`Serving at http://127.0.0.1:${server.address().port}`))
