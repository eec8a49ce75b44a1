/** The dialog that asks before a contact is deleted. */

import { sentence } from "./client.js";
import { nameOf } from "./contacts.js";
import { element, part, write } from "./elements.js";
import { submit } from "./form.js";

const form = element("removal-form");
const dialog = element("removal");
let contact = null;

/** `remove(contact)` deletes a contact, and `removed(contact)` is called afterwards. */
export function follow(remove, removed) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(form, () => send(remove, removed));
  });
  part(form, "cancel").addEventListener("click", () => dialog.close());
}

export function open(given) {
  contact = given;
  write(element("removal-title"), `Delete ${nameOf(contact)}?`);
  write(part(form, "problem"), "");
  dialog.showModal();
}

export const close = () => dialog.close();

async function send(remove, removed) {
  try {
    await remove(contact);
    dialog.close();
    removed(contact);
  } catch (error) {
    write(part(form, "problem"), sentence(error));
  }
}
