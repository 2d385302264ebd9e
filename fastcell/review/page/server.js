// Requests to the server, and what went wrong with one.

import { say } from "./elements.js";

export const FORGOTTEN = "view-forgotten"; // event: the server has started again, or has forgotten the view

export function post(path, values, signal = undefined) {
  const headers = { "content-type": "application/json" };
  return fetch(path, { method: "POST", headers, body: JSON.stringify(values), signal });
}

export async function ask(name, values = {}, signal = undefined) {
  const answer = await post(`/api/${name}`, values, signal);
  if (answer.status === 410) {
    document.dispatchEvent(new Event(FORGOTTEN));
    throw new DOMException("the view is loaded again", "AbortError");
  }
  if (answer.status === 401) throw new Error("This address has ended. Open the one that the command printed.");
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error || `The server answers ${answer.status}.`);
  return found;
}

export function fail(error) {
  if (error.name === "AbortError") return;
  say(error instanceof TypeError ? "The server does not answer. Marks that were not confirmed are not stored." : error.message);
}
