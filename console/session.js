/** The session of the user. Its token lasts as long as the tab. */

import { client, socket } from "./client.js";

const KEY = "feathers-jwt";
const EXPIRED = "Your session has ended. Log in again.";
const RETRY = 2_000;

let entered, left;

/** `onEnter(user)` is called after a login and after each reconnection, `onLeave(message)` when there is no session. */
export function follow(onEnter, onLeave) {
  [entered, left] = [onEnter, onLeave];
  socket.on("connect", resume);
  // Feathers logs in again by itself after an interruption. `resume` sees the result.
  socket.on("disconnect", () => Promise.resolve(client.get("authentication")).catch(() => {}));
  client.hooks({ error: { all: [noticeEnd] } });
  if (!stored()) left("");
}

export async function logIn(email, password) {
  const { user } = await client.authenticate({ strategy: "local", email, password });
  entered(user);
}

export async function logOut() {
  await client.logout().catch(() => {});
  await end("");
}

const stored = () => sessionStorage.getItem(KEY);

async function resume() {
  if (!stored()) return;
  try {
    const { user } = await client.reAuthenticate();
    entered(user);
  } catch (error) {
    await (stored() ? retry() : end(EXPIRED));
  }
}

function retry() {
  setTimeout(() => socket.connected && resume(), RETRY);
}

async function noticeEnd({ error, path }) {
  if (error.code === 401 && path !== "authentication" && stored()) await end(EXPIRED);
}

/** Ends the session and opens a new connection, which gets no more events of the old one. */
async function end(message) {
  await client.authentication.removeAccessToken();
  await client.authentication.reset();
  socket.disconnect().connect();
  left(message);
}
