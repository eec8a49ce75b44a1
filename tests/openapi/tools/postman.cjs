// Imports a document into Postman, and sends requests of the collection in turn: `node postman.cjs DOCUMENT NAME=STATUS...`
// NAME is the name of a request, `GET` for all of that verb, or `Create` for all requests that create a record.
'use strict'
const { readFileSync } = require('node:fs')
const newman = require('newman')
const { convertV2 } = require('openapi-to-postmanv2')

const [document, ...steps] = process.argv.slice(2)
const { URL: baseUrl, TOKEN: bearerToken, KEY: apiKey } = process.env
const options = { folderStrategy: 'Tags', requestParametersResolution: 'Example', parametersResolution: 'Example' }
const variables = Object.entries({ baseUrl, bearerToken, apiKey }).map(([key, value]) => ({ key, value }))

const convert = () => new Promise((resolve, reject) => {
  convertV2({ type: 'string', data: readFileSync(document, 'utf8') }, options, (error, made) => {
    if (error || !made.result) reject(error ?? new Error(made.reason))
    else resolve(made.output[0].data)
  })
})

const send = (collection, names) => new Promise((resolve, reject) => {
  newman.run({ collection, folder: names, envVar: variables }, (error, summary) => {
    if (error) reject(error)
    else resolve(summary.run.executions)
  })
})

const requestsOf = item => item.item ? item.item.flatMap(requestsOf) : [item]

const main = async () => {
  const collection = await convert()
  const requests = requestsOf(collection)
  const named = {
    GET: requests.filter(one => one.request.method === 'GET').map(one => one.name),
    Create: requests.map(one => one.name).filter(name => /^(Create|Add) a/.test(name))
  }
  const keys = new Set()
  for (const step of steps) {
    const [name, status] = step.split('=')
    for (const { item, request, response } of await send(collection, named[name] ?? [name])) {
      const key = request.headers.get('Idempotency-Key')
      if (keys.has(key)) throw new Error(`${item.name} sends the key of another request`)
      if (key) keys.add(key)
      if (response?.code === Number(status)) continue
      console.log(`${item.name}: ${request.method} ${request.url} is ${response?.code}: ${response?.text()}`)
      process.exitCode = 1
    }
  }
}

main()
