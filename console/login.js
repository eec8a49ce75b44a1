/** The login. */

import { element, part, write } from "./elements.js";
import { clear, complain, submit } from "./form.js";
import { logIn } from "./session.js";

const WRONG = "Email or password is wrong.";

export function follow() {
  const form = element("login");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(form, () => send(form));
  });
}

export function show(message) {
  const form = element("login");
  clear(form);
  write(part(form, "notice"), message);
  form.elements.email.focus();
}

async function send(form) {
  const { email, password } = form.elements;
  write(part(form, "notice"), "");
  clear(form);
  try {
    await logIn(email.value, password.value);
    form.reset();
  } catch (error) {
    complain(form, error.code === 401 ? Object.assign(error, { message: WRONG }) : error);
    password.select();
  }
}
