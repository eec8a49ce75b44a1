// The page of an app's OpenAPI document. After a login, "Try it out" makes its calls with that token.
'use strict'

// Shows the samples of an operation, `x-codeSamples`, above its responses.
const samples = () => ({
  wrapComponents: {
    responses: (Original, { React, specSelectors }) => props => {
      const samples = specSelectors.specJson().getIn(['paths', props.path, props.method, 'x-codeSamples'])
      const shown = samples?.toJS().map(({ label, source }) =>
        React.createElement('details', { key: label },
          React.createElement('summary', null, label),
          React.createElement('pre', null, source)))
      return React.createElement(React.Fragment, null,
        shown && React.createElement('section', { className: 'samples' }, shown),
        React.createElement(Original, props))
    }
  }
})

// Fields of these formats are texts like others.
const formats = ({ React }) => {
  const text = props => React.createElement(props.getComponent('JsonSchema_string'), props)
  const names = ['date', 'date-time', 'decimal', 'email', 'password', 'uuid']
  return { components: Object.fromEntries(names.map(name => [`JsonSchema_string_${name}`, text])) }
}

// The page calls its own server, by the name that the browser knows. Its forms begin with what is required.
const adapted = document => {
  const url = new URL('..', location.href).pathname.replace(/(?!^)\/$/, '')
  for (const path of Object.values(document.paths)) {
    for (const operation of Object.values(path)) {
      operation.parameters?.forEach(one => { if (!one.required) delete one.example })
    }
  }
  return { ...document, servers: [{ url }] }
}
const ownForms = () => ({
  statePlugins: {
    spec: { wrapActions: { updateJsonSpec: original => document => original(adapted(document)) } }
  }
})

// Swagger UI forgets a token that it gets before it has loaded the document.
let complete
const loaded = new Promise(resolve => { complete = resolve })

const ui = SwaggerUIBundle({
  url: '../openapi.json',
  dom_id: '#document',
  deepLinking: true,
  docExpansion: 'none',
  filter: true,
  onComplete: complete,
  plugins: [samples, formats, ownForms],
  validatorUrl: null
})

const form = document.getElementById('login')
const message = form.querySelector('output')

form.addEventListener('submit', async event => {
  event.preventDefault()
  const { email, password } = Object.fromEntries(new FormData(form))
  const response = await fetch('../authentication', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ strategy: 'local', email, password })
  })
  const answer = await response.json()
  if (response.ok) {
    await loaded
    ui.preauthorizeApiKey('jwt', answer.accessToken)
    form.reset()
  }
  message.textContent = response.ok ? `Logged in as ${email}` : answer.message
})
