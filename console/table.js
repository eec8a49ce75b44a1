/** The table of contacts. A change is written into the existing row, so that its focus and its place stay. */

import { companyName } from "./companies.js";
import { SIZE, nameOf } from "./contacts.js";
import { copyOf, element, part, write } from "./elements.js";

const TONES = 6;
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
let opener = null;

/** `onEdit` and `onRemove` are called with the id of a row's contact. */
export function follow(onEdit, onRemove) {
  const body = element("rows");
  body.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    opener = target.closest("tr");
    const id = Number(opener.dataset.id);
    (button.dataset.part === "remove" ? onRemove : onEdit)(id);
  });
  body.addEventListener("animationend", ({ target }) => target.classList.remove("fresh"));
  element("waiting").append(...Array.from({ length: SIZE }, () => copyOf("waiting-row")));
}

export function show(contacts) {
  const body = element("rows");
  const rows = new Map([...body.children].map((row) => [Number(row.dataset.id), row]));
  const ids = new Set(contacts.map(({ id }) => id));
  for (const [id, row] of rows) if (!ids.has(id)) take(row);
  contacts.forEach((contact, index) => {
    const row = fill(rows.get(contact.id) ?? copyOf("row"), contact);
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
  });
}

/** Highlights the row of a contact, if there is one. */
export function highlight(id) {
  const row = element("rows").querySelector(`[data-id="${Number(id)}"]`);
  row?.classList.remove("fresh");
  requestAnimationFrame(() => row?.classList.add("fresh"));
}

function fill(row, contact) {
  const name = nameOf(contact);
  row.dataset.id = contact.id;
  part(row, "initials").dataset.tone = contact.id % TONES;
  write(part(row, "initials"), initials(name));
  write(part(row, "name"), name);
  write(part(row, "email"), contact.email ?? "");
  write(part(row, "phone"), phone(contact));
  write(part(row, "company"), companyName(contact.company_id));
  write(part(row, "added"), day.format(new Date(contact.created_at)));
  part(row, "remove").setAttribute("aria-label", `Delete ${name}`);
  return row;
}

/** Moves the focus to the row that was used last, to its neighbour if the row is gone, or to the heading. */
export function refocus() {
  (opener ? part(opener, "name") : element("heading")).focus();
}

function take(row) {
  const focused = row.contains(document.activeElement);
  if (focused || row === opener) opener = row.nextElementSibling ?? row.previousElementSibling;
  row.remove();
  if (focused) refocus();
}

const phone = ({ phone, phone_country_code: code }) => [phone && code, phone].filter(Boolean).join(" ");

function initials(name) {
  const words = name.trim().split(/\s+/);
  const picked = words.length > 1 ? [words[0], words.at(-1)] : words;
  return picked.map((word) => [...word][0]?.toUpperCase() ?? "").join("");
}
