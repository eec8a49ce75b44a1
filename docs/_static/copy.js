// A button on each code block that copies its text.
document.addEventListener('DOMContentLoaded', () => {
  for (const block of document.querySelectorAll('div.highlight')) {
    const button = document.createElement('button')
    button.className = 'copy'
    button.type = 'button'
    button.textContent = 'Copy'
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(block.querySelector('pre').textContent)
      button.textContent = 'Copied'
      setTimeout(() => { button.textContent = 'Copy' }, 1500)
    })
    block.prepend(button)
  }
})
