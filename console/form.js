/** A form: its values go in and out, and what the server says of a field stands beside it. */

import { sentence } from "./client.js";
import { part, write } from "./elements.js";

/** Shows an error: sentences of fields beside them, the rest above the buttons. The first wrong field gets the focus. */
export function complain(form, error, aliases = {}) {
  clear(form);
  const left = [];
  for (const [name, text] of Object.entries(error.errors ?? {})) {
    const field = form.elements[aliases[name] ?? name];
    if (field) mark(field, worded(form, text, aliases));
    else left.push(`${name}: ${text}`);
  }
  const wrong = form.querySelector("[aria-invalid]");
  if (!wrong || left.length) write(part(form, "problem"), left.join(". ") || sentence(error));
  wrong?.focus();
}

export function clear(form) {
  write(part(form, "problem"), "");
  for (const field of form.elements) if (field.name) mark(field, "");
}

/** Runs one submission at a time; the button says what is going on. */
export async function submit(form, work) {
  if (form.ariaBusy === "true") return;
  form.ariaBusy = "true";
  try {
    await work();
  } finally {
    form.ariaBusy = null;
  }
}

/** The server names fields as its API does; people know them by their labels. */
function worded(form, text, aliases) {
  return text.replace(/\b[a-z]+(_[a-z]+)+\b/g, (name) => {
    const field = form.elements[aliases[name] ?? name];
    return field ? `“${field.labels[0].textContent}”` : name;
  });
}

function mark(field, text) {
  write(part(field.closest(".field"), "error"), text);
  if (text) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
}
