// What a page shows stands in its address, as names and texts behind the question mark: a link to a state.

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
