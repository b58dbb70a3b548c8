// The state of a page in its address, as names and texts after the question mark, so that a link restores it.
import { make } from "./dom.js";

/** All names and texts of the address. */
export function state() {
  return Object.fromEntries(new URLSearchParams(location.search));
}

/** Write values into the address; null or "" takes a name out. `step`: the browser's Back button comes back to before. */
export function remember(values, { step = false } = {}) {
  const parameters = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === "") parameters.delete(name);
    else parameters.set(name, String(value));
  }
  const text = parameters.toString();
  const address = location.pathname + (text ? `?${text}` : "") + location.hash;
  if (address === location.pathname + location.search + location.hash) return;
  if (step) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

/** The text that the address has for `name`, where that is one of `offered`; else `otherwise`, and the page says so. */
export function among(name, offered, otherwise) {
  const wanted = state()[name];
  const known = wanted === undefined || offered.includes(wanted);
  say(name, known ? null : `The address asks for the ${name} ${wanted.slice(0, 40)}, which is none of: ${offered.join(", ")}. This is ${otherwise}.`);
  return known ? wanted ?? otherwise : otherwise;
}

/** The whole number that a text of the address writes; else `otherwise`. */
export function whole(text, otherwise) {
  return /^\d{1,8}$/.test(text ?? "") ? Number(text) : otherwise;
}

/** Say which names of the address the page does not know, if any. */
export function tellUnknown(names) {
  const unknown = Object.keys(state()).filter((name) => !names.includes(name));
  say("", unknown.length ? `The address has ${unknown.join(", ").slice(0, 80)}, which this page does not know. It knows: ${names.join(", ")}.` : null);
}

/** A line above the page about `name` of the address; null takes it away. */
function say(name, text) {
  document.getElementById(`address-${name}`)?.remove();
  if (text) document.getElementById("page").before(make("p", { id: `address-${name}`, class: "warning", role: "status" }, text));
}

/** Call `listener(state())` when Back or Forward leads to another state of this page. */
export function followAddress(listener) {
  window.addEventListener("popstate", () => listener(state()));
}

/** The address of a page with values, for links from one page to another. */
export function pageAddress(name, values = {}) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(given).toString();
  return `/${name}${text ? `?${text}` : ""}`;
}
