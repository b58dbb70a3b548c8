// Requests of a page to the server: `await request("build/network", { model, input })`.

/** A request that could not be carried out; `record` says where, what came, what was expected, and the remedy. */
export class LabError extends Error {
  constructor(record) {
    super(`${record.where}: ${record.got}`);
    this.record = record;
  }
}

const KEY = "striate-key";

/** Keep the key of a session, which the first page got; only pages of this port find it again. */
export function signIn(key) {
  if (key) localStorage.setItem(KEY, key);
}

/** End the session of this browser: its other pages are refused too. */
export async function signOut() {
  await fetch("/sign-out", { method: "POST" });
  localStorage.removeItem(KEY);
  location.assign("/");
}

/** The address of an endpoint, for `<img src>` and the like; with the key. */
export function apiAddress(path, values = {}) {
  const given = Object.entries({ ...values, key: localStorage.getItem(KEY) })
    .filter(([, value]) => value !== null && value !== undefined);
  const text = new URLSearchParams(given).toString();
  return `/api/${path}${text ? `?${text}` : ""}`;
}

const LARGEST_UPLOAD = 16 << 20; // as security.py has it

/** The response as an object. Throws LabError. `body`: what is sent, a Blob or an object that becomes JSON. */
export async function request(path, values = {}, { body, method = body ? "POST" : "GET", signal } = {}) {
  if (body instanceof Blob && body.size > LARGEST_UPLOAD) {
    throw new LabError({
      where: body.name ?? "the picture", got: `a file of ${(body.size / (1 << 20)).toFixed(1)} MiB`,
      expected: `at most ${LARGEST_UPLOAD >> 20} MiB`, remedy: "choose a smaller file, or save it smaller",
    });
  }
  // Errors come with status 200: of any other one browsers write a line on their console.
  const options = { method, signal, headers: { "striate-refusals": "answers" } };
  if (body instanceof Blob) options.body = await contentOf(body);
  else if (body) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(apiAddress(path, values), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new LabError({
      where: "the lab", got: "no response", expected: "the program `striate lab` running",
      remedy: "start it again, and open the address that it prints",
    });
  }
  const text = await response.text();
  let content;
  try {
    content = JSON.parse(text);
  } catch {
    content = { error: { where: "the lab", got: text.slice(0, 200), expected: "a response", remedy: "load the page again" } };
  }
  if (!response.ok || content?.error?.remedy) {
    throw new LabError(content.error ?? {
      where: "the lab", got: `status ${response.status}`, expected: "a response", remedy: "load the page again",
    });
  }
  return content;
}

/** The bytes of a file. Throws LabError. */
async function contentOf(file) {
  try {
    return await file.arrayBuffer();
  } catch {
    throw new LabError({
      where: file.name ?? "the picture", got: "a folder, or a file that the browser cannot read",
      expected: "a file", remedy: "choose the file itself, or again if it has changed",
    });
  }
}

/** A function like `request` that aborts the earlier call when it is called again; an aborted call returns undefined. */
export function latest() {
  let controller = null;
  return async (path, values, options = {}) => {
    controller?.abort();
    const mine = (controller = new AbortController());
    try {
      const response = await request(path, values, { ...options, signal: mine.signal });
      return mine === controller ? response : undefined;
    } catch (error) {
      if (error.name === "AbortError" || mine !== controller) return undefined;
      throw error;
    }
  };
}

/** The function, called once when nothing has called it for `milliseconds`. */
export function quietly(work, milliseconds = 120) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), milliseconds);
  };
}
