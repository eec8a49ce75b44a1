/** The dialog that creates and changes a contact. It sends only the fields that were changed. */

import { choices, companyName } from "./companies.js";
import { nameOf } from "./contacts.js";
import { callingCode, countries, likelyCountry } from "./countries.js";
import { element, offer, part, write } from "./elements.js";
import { clear, complain, submit } from "./form.js";

const TEXTS = ["first_name", "last_name", "email", "phone"];
const PHONE = ["phone", "phone_country_iso", "phone_country_code"];

const form = element("editor-form");
const dialog = element("editor");
let contact = null;

/** `save(contact, data)` stores a contact, and `saved(event, contact)` is called afterwards. */
export function follow(save, saved) {
  offer(form.elements.phone_country_iso, countries());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(form, () => send(save, saved));
  });
  part(form, "cancel").addEventListener("click", () => dialog.close());
}

/** Opens the dialog for a contact, or for a new one. */
export async function open(given, organization) {
  contact = given;
  fill();
  dialog.showModal();
  const companies = await choices(organization).catch(() => []);
  if (contact === given) offerCompanies(companies, form.elements.company_id.value);
}

/** Tells the user that somebody else has changed the open contact. */
export function told(event, other) {
  if (!dialog.open || form.ariaBusy === "true" || other.id !== contact?.id) return;
  const removed = event === "removed";
  write(part(form, "notice"), `${nameOf(other)} was just ${removed ? "deleted" : "changed"} by someone.`);
}

export const close = () => dialog.close();

function fill() {
  const { elements } = form;
  clear(form);
  write(element("editor-title"), contact ? "Edit contact" : "New contact");
  write(part(form, "notice"), "");
  for (const name of TEXTS) elements[name].value = contact?.[name] ?? "";
  elements.phone_country_iso.value = contact?.phone ? (contact.phone_country_iso ?? "") : likelyCountry();
  offerCompanies([], String(contact?.company_id ?? ""));
}

/** Fills the select with companies. The contact's own company is always among them. */
function offerCompanies(pairs, chosen) {
  const { company_id: own } = contact ?? {};
  const among = own && !pairs.some(([id]) => id === own) ? [[own, companyName(own)], ...pairs] : pairs;
  offer(form.elements.company_id, among);
  form.elements.company_id.value = chosen;
}

async function send(save, saved) {
  const data = changes();
  clear(form);
  try {
    if (!contact || Object.keys(data).length) saved(contact ? "patched" : "created", await save(contact, data));
    dialog.close();
  } catch (error) {
    complain(form, error, { phone_country_code: "phone_country_iso" });
  }
}

/** Returns the fields whose values differ from those of the contact. For a new contact, returns the filled fields. */
function changes() {
  const before = contact ?? {};
  const now = values();
  const differs = (name) => name in now && now[name] !== (before[name] ?? null);
  const phone = PHONE.some(differs) ? PHONE : [];
  return Object.fromEntries(Object.entries(now).filter(([name]) => differs(name) || phone.includes(name)));
}

function values() {
  const read = (name) => form.elements[name].value.trim() || null;
  const texts = Object.fromEntries(TEXTS.map((name) => [name, read(name)]));
  return { ...texts, company_id: Number(read("company_id")) || null, ...country(texts.phone, read("phone_country_iso")) };
}

/** Removes the country if there is no number. A code that was stored without a country stays. */
function country(phone, iso) {
  if (!phone && !contact?.phone) return {};
  const kept = iso === (contact?.phone_country_iso ?? null) ? (contact?.phone_country_code ?? null) : null;
  return { phone_country_iso: phone && iso, phone_country_code: phone && (callingCode(iso) ?? kept) };
}
