// An error for readers: where, what was received, what was expected, and the remedy.
import { LabError } from "./api.js";
import { make } from "./dom.js";

/** The element for an error, with `more` beneath its first line; anything but a LabError is a fault of
 * ours, and goes to the console too. */
export function problem(error, ...more) {
  if (!(error instanceof LabError)) {
    console.error(error);
    return make("div", { class: "card problem", role: "alert" }, make("p", { class: "error" }, String(error)));
  }
  const { where, got, expected, remedy } = error.record;
  const lines = { got, expected, remedy };
  return make("div", { class: "card problem", role: "alert" },
    make("strong", { class: "error" }, where),
    ...more,
    make("dl", {}, Object.entries(lines).map(([name, text]) => [make("dt", {}, name), make("dd", {}, text)])));
}
