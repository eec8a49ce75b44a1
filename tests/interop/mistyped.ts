// What must not compile: a line that does is an error of its own. Nothing of this is ever run.
import { feathers } from '@feathersjs/feathers'
import type { ServiceTypes } from './services.js'

const app = feathers<ServiceTypes>()
const contacts = app.service('contacts')
const query = { organization_id: 456 }

// @ts-expect-error no such service
app.service('contract')
// @ts-expect-error a method that is not exposed
contacts.update(1, { first_name: 'Jane' })
// @ts-expect-error a method that is not exposed
app.service('audit').create({})
// @ts-expect-error a custom method of others
app.service('products').search({})

// @ts-expect-error a misspelt field
contacts.create({ organization_id: 456, first_name: 'Jane', lastname: 'Doe' })
// @ts-expect-error a required field is missing
contacts.create({ organization_id: 456, last_name: 'Doe' })
// @ts-expect-error null where there must be a value
contacts.create({ organization_id: 456, first_name: null })
// @ts-expect-error a field that the server sets
contacts.create({ organization_id: 456, first_name: 'Jane', created_at: '2024-01-01T00:00:00.000Z' })
// @ts-expect-error many at once
contacts.create([{ organization_id: 456, first_name: 'Jane' }])
// @ts-expect-error a field that stays as it was created
contacts.patch(1, { organization_id: 457 })
// @ts-expect-error many at once
app.service('pipelines').patch(null, { name: 'Sales' })
// @ts-expect-error a choice that there is not
app.service('custom-fields').create({ organization_id: 456, entity: 'deals', name: 'Size', type: 'number' })

// @ts-expect-error a list needs its organization
contacts.find()
// @ts-expect-error a list needs its organization
contacts.find({ query: { first_name: 'Jane' } })
// @ts-expect-error a misspelt field
contacts.find({ query: { ...query, firstname: 'Jane' } })
// @ts-expect-error an operator that does not exist
contacts.find({ query: { organization_id: 456, first_name: { $regex: 'J' } } })
// @ts-expect-error an operand of another type
contacts.find({ query: { organization_id: 456, id: { $in: ['a'] } } })
// @ts-expect-error null is neither more nor less
contacts.find({ query: { organization_id: 456, company_id: { $gt: null } } })
// @ts-expect-error a misspelt field in a group
contacts.find({ query: { organization_id: 456, $or: [{ firstname: 'Jane' }] } })
// @ts-expect-error an order by no field
contacts.find({ query: { organization_id: 456, $sort: { firstname: 1 } } })
// @ts-expect-error a field that cannot be selected
contacts.find({ query: { organization_id: 456, $select: ['owner'] } })
// @ts-expect-error a filter of another service
contacts.find({ query: { organization_id: 456, fastJoinForCompanyList: true } })
// @ts-expect-error for lists alone
contacts.get(1, { query: { $limit: 1 } })
// @ts-expect-error a choice that there is not
contacts.search({ searchTerm: 'x', searchIn: 'names', organization_id: 456 })

export const read = async () => {
  const page = await contacts.find({ query: { organization_id: 456, $select: ['first_name'] } })
  // @ts-expect-error a field that was not selected
  page.data[0].last_name
  const walk = await contacts.find({ query: { organization_id: 456, $after: '' } })
  // @ts-expect-error a walk need not have a total
  walk.total.toFixed()
  const contact = await contacts.get(1)
  // @ts-expect-error it may be null
  contact.email.length
  // @ts-expect-error it may be absent
  contact.owner.first_name
  contacts.on('patched', (changed) => {
    // @ts-expect-error a misspelt field
    changed.firstname
  })
}
