/** The search field. It searches a moment after the last key. The key `/` focuses it from anywhere. */

import { SHORTEST } from "./contacts.js";
import { countries, likelyCountry } from "./countries.js";
import { debounced, element, offer, write } from "./elements.js";

const PAUSE = 200;

/** `onSearch({term, place, country})` is called for each new search. A term that is too short shows the list. */
export function follow(onSearch) {
  const field = element("term");
  offer(element("search-country"), countries());
  element("search-country").value = likelyCountry();
  const ask = () => onSearch(asked());
  const soon = debounced(PAUSE, ask);
  field.addEventListener("input", () => {
    hint();
    soon();
  });
  element("search").addEventListener("change", ({ target }) => {
    element("search").dataset.place = asked().place;
    hint();
    if (target !== field && field.value) soon();
  });
  element("search").addEventListener("submit", (event) => {
    event.preventDefault();
    soon.cancel();
    ask();
  });
  addEventListener("keydown", (event) => leadHere(event, field));
}

export function reset() {
  element("search").reset();
  element("search").dataset.place = "name";
  element("search-country").value = likelyCountry();
  hint();
}

/** Shows the server's error about a search. */
export const complain = (text) => write(element("search-hint"), text);

function asked() {
  const place = new FormData(element("search")).get("place");
  return { term: element("term").value.trim(), place, country: element("search-country").value };
}

function hint() {
  const { length } = asked().term;
  complain(length && length < SHORTEST ? `Type at least ${SHORTEST} characters` : "");
}

function leadHere(event, field) {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey || !field.checkVisibility()) return;
  event.preventDefault();
  field.focus();
  field.select();
}
