/** The organizations of the user, and the one on the page. The choice lasts as long as the tab. */

import { client } from "./client.js";
import { element, offer, write } from "./elements.js";

const KEY = "organization";
const MOST = 100;

/** `onChoose()` is called when the user chooses another organization. */
export function follow(onChoose) {
  element("organization").addEventListener("change", ({ target }) => {
    sessionStorage.setItem(KEY, target.value);
    onChoose();
  });
}

/** Loads the organizations and returns the id of the chosen one, or null. Several are offered as a choice. */
export async function load() {
  const { data } = await client.service("organizations").find({ query: { $limit: MOST, $sort: { name: 1 } } });
  const select = element("organization");
  const wanted = sessionStorage.getItem(KEY);
  offer(select, data.map(({ id, name }) => [id, name]));
  select.value = data.some(({ id }) => String(id) === wanted) ? wanted : String(data[0]?.id ?? "");
  element("chooser").hidden = data.length < 2;
  element("only").hidden = data.length !== 1;
  write(element("only"), chosenName());
  return chosen();
}

export const chosen = () => Number(element("organization").value) || null;

export const chosenName = () => element("organization").selectedOptions[0]?.textContent ?? "";
