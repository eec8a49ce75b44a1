/** The names of companies, each read once. */

import { client } from "./client.js";

const MOST = 100;

const names = new Map();

export const companyName = (id) => names.get(id) ?? "";

/** Loads the names of the companies of these contacts. */
export async function loadNames(contacts) {
  const ids = contacts.map((contact) => contact.company_id).filter((id) => id !== null && !names.has(id));
  if (ids.length) await find(contacts[0].organization_id, { id: { $in: [...new Set(ids)] } });
}

/** Returns id and name of the first hundred companies of an organization, sorted by name. */
export async function choices(organization) {
  const companies = await find(organization, { $sort: { name: 1 } });
  return companies.map(({ id, name }) => [id, name]);
}

async function find(organization, query) {
  const select = { $limit: MOST, $select: ["id", "name"] };
  const { data } = await client.service("companies").find({ query: { organization_id: organization, ...select, ...query } });
  for (const { id, name } of data) names.set(id, name);
  return data;
}
