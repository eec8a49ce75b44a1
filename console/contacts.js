/** The contacts on the page: one page of a list or a search, which events keep up to date. */

import { client } from "./client.js";
import { callingCode } from "./countries.js";
import { loadNames } from "./companies.js";
import { debounced } from "./elements.js";

export const SIZE = 25;
export const SHORTEST = 2;
const SETTLE = 300;

const service = client.service("contacts");

export const nameOf = (contact) => [contact.first_name, contact.last_name].filter(Boolean).join(" ");

export class Contacts {
  organization = null;
  page = 0;
  asked = { term: "", place: "name", country: "US" };
  records = [];
  total = 0;
  found = false;
  state = "loading";
  error = null;
  #turn = 0;
  #soon = debounced(SETTLE, () => this.load());

  /** `found` is true if the contacts are the result of a search. `changed()` is called after each change, `happened(event, contact)` for each event. */
  constructor(changed, happened) {
    Object.assign(this, { changed, happened });
    for (const event of ["created", "patched", "updated", "removed"])
      service.on(event, (contact) => this.apply(event, contact));
  }

  get searching() {
    return this.asked.term.length >= SHORTEST;
  }

  get pages() {
    return Math.max(1, Math.ceil(this.total / SIZE));
  }

  open(organization) {
    Object.assign(this, { organization, page: 0, records: [], total: 0, state: "loading", error: null });
    return this.load();
  }

  search(asked) {
    Object.assign(this, { asked, page: 0 });
    return this.load();
  }

  turn(page) {
    this.page = Math.min(Math.max(page, 0), this.pages - 1);
    return this.load();
  }

  close() {
    Object.assign(this, { organization: null, records: [], total: 0 });
    this.#turn += 1;
    this.#soon.cancel();
  }

  /** Shows that there is no organization. */
  nowhere() {
    this.close();
    this.#become("nowhere");
  }

  fail(error) {
    this.#become("failed", error);
  }

  /** Reads from the server. An answer is dropped if a later question was sent meanwhile. */
  async load() {
    const turn = ++this.#turn;
    this.#soon.cancel();
    this.#become(this.records.length ? "busy" : "loading");
    try {
      const page = await this.#ask();
      await loadNames(page.data);
      if (turn === this.#turn) this.#show(page);
    } catch (error) {
      if (turn === this.#turn) this.#become("failed", error);
    }
  }

  /** Applies a change of a contact once, whether it was made here or elsewhere. */
  async apply(event, contact) {
    if (contact.organization_id !== this.organization) return;
    if (this.state !== "ready") this.#soon(); // The answer on its way may be older than this event.
    if (event === "removed") return this.#removed(contact);
    await loadNames([contact]).catch(() => {});
    if (event === "created") this.#created(contact);
    else this.#patched(contact);
  }

  save(contact, data) {
    return contact ? service.patch(contact.id, data) : service.create({ ...data, organization_id: this.organization });
  }

  remove(contact) {
    return service.remove(contact.id);
  }

  #ask() {
    const page = { $limit: SIZE, $skip: this.page * SIZE };
    const organization_id = this.organization;
    if (!this.searching) return service.find({ query: { organization_id, ...page, $sort: { created_at: -1 } } });
    const { term, place, country } = this.asked;
    const phone = { phone_country_iso: country, phone_country_code: callingCode(country) };
    return service.search({
      organization_id, searchTerm: term, searchIn: place, ...page, ...(place === "phone" ? phone : {}),
    });
  }

  #show({ data, total }) {
    Object.assign(this, { records: data, total, found: this.searching });
    if (!data.length && this.page) return this.turn(this.page - 1);
    return this.#become("ready");
  }

  #become(state, error = null) {
    Object.assign(this, { state, error });
    this.changed();
  }

  #created(contact) {
    if (this.records.some(({ id }) => id === contact.id)) return;
    if (this.page === 0 && !this.searching && this.state === "ready") {
      this.records = [contact, ...this.records].slice(0, SIZE);
      this.total += 1;
      this.changed();
    } else this.#soon();
    this.happened("created", contact);
  }

  #patched(contact) {
    const index = this.records.findIndex(({ id }) => id === contact.id);
    if (index >= 0 && this.records[index].updated_at >= contact.updated_at) return;
    if (index >= 0) {
      this.records = this.records.with(index, contact);
      this.changed();
    } else if (this.searching) this.#soon();
    this.happened("patched", contact);
  }

  #removed(contact) {
    const left = this.records.filter(({ id }) => id !== contact.id);
    const known = left.length < this.records.length;
    if (known) {
      this.records = left;
      this.total -= 1;
      this.changed();
    }
    if (!known || this.total > left.length) this.#soon();
    this.happened("removed", contact);
  }
}
