/** The page: joins all parts. */

import { sentence } from "./client.js";
import { Contacts, SIZE, nameOf } from "./contacts.js";
import * as editor from "./editor.js";
import { element, part, write } from "./elements.js";
import * as login from "./login.js";
import * as organizations from "./organizations.js";
import * as removal from "./removal.js";
import * as search from "./search.js";
import * as session from "./session.js";
import * as status from "./status.js";
import * as table from "./table.js";

const DONE = { created: "was added", patched: "was changed", updated: "was changed", removed: "was deleted" };

const contacts = new Contacts(draw, happened);

async function enter(user) {
  const from = document.body.dataset.view;
  document.body.dataset.view = "console";
  if (from === "login") element("heading").focus();
  write(element("user"), user.email);
  try {
    const organization = await organizations.load();
    await (organization === contacts.organization && organization ? contacts.load() : open(organization));
  } catch (error) {
    contacts.fail(error);
  }
}

function leave(message) {
  for (const dialog of [editor, removal]) dialog.close();
  contacts.close();
  status.announce("");
  document.body.dataset.view = "login";
  document.title = "Log in · Contacts";
  login.show(message);
}

function open(organization) {
  const name = organizations.chosenName();
  document.title = name ? `Contacts · ${name}` : "Contacts";
  search.reset();
  return organization ? contacts.open(organization) : contacts.nowhere();
}

function happened(event, contact) {
  if (event !== "removed") table.highlight(contact.id);
  editor.told(event, contact);
  status.announce(`${nameOf(contact)} ${DONE[event]}`);
}

function draw() {
  const { state, error, records, searching } = contacts;
  const trouble = error?.errors?.searchTerm;
  if (trouble || searching) search.complain(trouble ?? "");
  table.show(records);
  element("list").dataset.state = state === "ready" && !records.length ? (searching ? "nothing" : "empty") : state;
  element("table").ariaBusy = String(state === "busy" || state === "loading");
  write(element("missing"), searching ? `Nobody matches “${contacts.asked.term}”` : "");
  write(element("failure"), error && !trouble ? sentence(error) : "");
  element("failed").hidden = !error || Boolean(trouble);
  drawPager();
}

function drawPager() {
  const { page, pages, total, records, found } = contacts;
  const first = page * SIZE;
  write(element("count"), records.length ? `${total.toLocaleString("en")}${found ? " found" : ""}` : "");
  write(element("range"), pages > 1 ? `${first + 1}–${first + records.length} of ${total.toLocaleString("en")}` : "");
  element("previous").ariaDisabled = String(page === 0);
  element("next").ariaDisabled = String(page + 1 >= pages);
}

async function turn(button, step) {
  if (button.ariaDisabled === "true") return;
  await contacts.turn(contacts.page + step);
  element("top").scrollIntoView();
}

const find = (id) => contacts.records.find((contact) => contact.id === id);
const create = () => contacts.organization && editor.open(null, contacts.organization);

table.follow(
  (id) => editor.open(find(id), contacts.organization),
  (id) => removal.open(find(id)),
);
search.follow((asked) => contacts.organization && contacts.search(asked));
editor.follow(
  (contact, data) => contacts.save(contact, data),
  (event, contact) => contacts.apply(event, contact),
);
removal.follow(
  (contact) => contacts.remove(contact),
  (contact) => contacts.apply("removed", contact),
);
organizations.follow(() => open(organizations.chosen()));
login.follow();
status.follow();

element("create").addEventListener("click", create);
part(element("list"), "create").addEventListener("click", create);
element("retry").addEventListener("click", () => contacts.organization ? contacts.load() : location.reload());
element("log-out").addEventListener("click", session.logOut);
element("previous").addEventListener("click", ({ currentTarget }) => turn(currentTarget, -1));
element("next").addEventListener("click", ({ currentTarget }) => turn(currentTarget, 1));
for (const dialog of document.querySelectorAll("dialog"))
  dialog.addEventListener("close", () => {
    const lost = document.activeElement === document.body || dialog.contains(document.activeElement);
    if (lost) table.refocus();
  });

document.body.dataset.view = "starting";
session.follow(enter, leave);
