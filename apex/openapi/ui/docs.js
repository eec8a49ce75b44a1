// The page of an app's OpenAPI document. Whoever logs in makes the calls of "Try it out" with that token.
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

const ui = SwaggerUIBundle({
  url: '../openapi.json',
  dom_id: '#document',
  deepLinking: true,
  docExpansion: 'none',
  filter: true,
  plugins: [samples, formats],
  validatorUrl: null
})

const form = document.getElementById('login')
const told = form.querySelector('output')

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
    ui.preauthorizeApiKey('jwt', answer.accessToken)
    form.reset()
  }
  told.textContent = response.ok ? `Logged in as ${email}` : answer.message
})
