// The error of a typed network: its position in the text, and the fix as a button.
import { LabError } from "./api.js";
import { make } from "./dom.js";
import { problem } from "./problem.js";

/** The error for reading; `write({ model, input })` is called with the fix. */
export function layerString(error, write) {
  if (!(error instanceof LabError)) return problem(error);
  const { text, position, write: written, fitting, instead } = error.record;
  const parts = [];
  if (position !== undefined) {
    const end = text[position] === undefined ? " " : text[position];
    parts.push(make("p", { class: "place" }, text.slice(Math.max(0, position - 200), position), make("mark", {}, end), text.slice(position + 1, position + 200)));
  }
  if (written) parts.push(make("button", { type: "button", class: "main", onclick: () => write({ model: written }) }, "Write that"));
  if (fitting) parts.push(make("button", { type: "button", class: "main", onclick: () => write({ input: fitting.join("x") }) }, `Take the input ${fitting.join("×")}`));
  if (instead) parts.push(make("button", { type: "button", onclick: () => write({ model: instead }) }, `Take ${instead}`));
  const element = problem(error, make("div", { class: "row" }, parts));
  element.removeAttribute("role"); // an unfinished word is no alarm; the caller announces it quietly
  return element;
}
