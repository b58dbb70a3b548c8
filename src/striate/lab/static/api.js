// What a page asks the server: `await ask("build/network", { model, input })`.

/** A request that could not be carried out; `record` says where, what came, what was expected, and the remedy. */
export class LabError extends Error {
  constructor(record) {
    super(`${record.where}: ${record.got}`);
    this.record = record;
  }
}

/** The address of an answer, for `<img src>` and the like. */
export function answerAddress(path, values = {}) {
  const kept = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  const text = new URLSearchParams(kept).toString();
  return `/api/${path}${text ? `?${text}` : ""}`;
}

/** The answer as an object. Throws LabError. `body`: what is sent, a Blob or an object that becomes JSON. */
export async function ask(path, values = {}, { body, method = body ? "POST" : "GET", signal } = {}) {
  // A refusal comes as an answer: of any other status browsers write a line on their console.
  const options = { method, signal, headers: { "striate-refusals": "answers" } };
  if (body instanceof Blob) options.body = body;
  else if (body) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(answerAddress(path, values), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new LabError({
      where: "the lab", got: "no answer", expected: "the program `striate lab` running",
      remedy: "start it again, and open the address that it prints",
    });
  }
  const text = await response.text();
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = { error: { where: "the lab", got: text.slice(0, 200), expected: "an answer", remedy: "load the page again" } };
  }
  if (!response.ok || answer?.error?.remedy) {
    throw new LabError(answer.error ?? {
      where: "the lab", got: `status ${response.status}`, expected: "an answer", remedy: "load the page again",
    });
  }
  return answer;
}

/** A function like `ask` whose earlier question is dropped when a new one is asked; a dropped one answers undefined. */
export function latest() {
  let controller = null;
  return async (path, values, options = {}) => {
    controller?.abort();
    const mine = (controller = new AbortController());
    try {
      const answer = await ask(path, values, { ...options, signal: mine.signal });
      return mine === controller ? answer : undefined;
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
