/** The state of the connection, and a line with the latest event. */

import { socket } from "./client.js";
import { debounced, element, write } from "./elements.js";

const SHOWN = 6_000;
const PATIENCE = 1_000;
const WORDS = { live: "Live", waiting: "Connecting…", offline: "Offline" };

const clear = debounced(SHOWN, () => write(element("news"), ""));

/** Shows a longer interruption until it is over. A short one is not shown. */
const tellLost = debounced(PATIENCE, () => {
  if (socket.connected || document.body.dataset.view !== "console") return;
  announce("The connection is lost. Waiting for it to return…");
  clear.cancel();
  lost = true;
});

let lost = false;

export function follow() {
  for (const event of ["connect", "disconnect", "connect_error"]) socket.on(event, show);
  for (const event of ["online", "offline"]) addEventListener(event, show);
  socket.on("disconnect", tellLost);
  socket.on("connect", tellBack);
  show();
}

/** Shows a sentence for a while. Screen readers read it. */
export function announce(text) {
  write(element("news"), text);
  clear();
}

function show() {
  const state = socket.connected ? "live" : navigator.onLine ? "waiting" : "offline";
  element("connection").dataset.state = state;
  write(element("connection-text"), WORDS[state]);
}

function tellBack() {
  tellLost.cancel();
  if (lost) announce("Connected again.");
  lost = false;
}
