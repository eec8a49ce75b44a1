/** A form. It shows the server's error of each field next to the field. */

import { sentence } from "./client.js";
import { part, write } from "./elements.js";

/** Shows an error: the texts of fields next to them, all others above the buttons. The first wrong field gets the focus. */
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

/** Runs one submission at a time. Meanwhile the button says so. */
export async function submit(form, work) {
  if (form.ariaBusy === "true") return;
  form.ariaBusy = "true";
  try {
    await work();
  } finally {
    form.ariaBusy = null;
  }
}

/** Replaces the names of fields in the API by their labels on the page. */
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
