// Labels: samples whose label is doubtful or whose prediction is unsure, one after another; one key decides.
import { among, followAddress, remember } from "./address.js";
import { apiAddress, request } from "./api.js";
import { choice, labeled, make, number, percent } from "./dom.js";
import { onKeys } from "./keys.js";
import { problem } from "./problem.js";

const WHICH = [{ value: "doubtful", text: "doubtful labels, the most doubtful first" }, { value: "unsure", text: "predictions, the least certain first" }];
const HINT = "Enter: the label is right. Space: skip. Backspace: undo. Delete: leave the sample out. +: another class.";

export const ADDRESS = ["part", "which"];

export async function page(root) {
  let about = await request("labels/about");
  let queue = { samples: [], total: 0 };
  let place = 0;
  let asking = 0;
  const history = []; // places; with `stored`, what the table had to be told
  const controls = make("div", { class: "row fields" });
  const status = make("p", { role: "status", class: "faint" });
  const stage = make("div", { class: "stage card", tabindex: "0", role: "group", "aria-label": "Sample", "aria-describedby": "labels-hint" });
  const classes = make("div", { class: "row", role: "group", "aria-label": "Classes" });
  const actions = make("div", { class: "row", role: "group", "aria-label": "Actions" });
  const other = make("input", { id: "labels-other", required: true, list: "labels-known", autocomplete: "off", maxlength: "200" });
  const known = make("datalist", { id: "labels-known" });
  const form = make("form", { class: "row", onsubmit: (event) => { event.preventDefault(); if (other.value.trim()) decide(other.value.trim()); } },
    make("label", { for: "labels-other" }, "Another class, also a new one"), other, known, make("button", { type: "submit" }, "Give it"));
  const table = make("section", { class: "card", "aria-label": "Corrections" });
  root.append(controls, status, make("div", { class: "label-columns" }, stage, make("div", {}, classes, actions, form,
    make("p", { class: "faint", id: "labels-hint" }, HINT))), table);

  function read() {
    const parts = about.parts.map((one) => one.name);
    const part = among("part", parts, parts[0]);
    const which = among("which", WHICH.map((one) => one.value), "doubtful");
    return { part, which: part === "unlabeled" ? "unsure" : which };
  }

  /** The samples to decide; `after`: those that come after this one. */
  async function load(after = null) {
    const mine = (asking += 1);
    const { part, which } = read();
    drawControls(part, which);
    status.textContent = "Predictions are computed…";
    stage.classList.add("busy");
    try {
      const found = await request("labels/queue", { part, which, after });
      if (mine !== asking) return;
      queue = found;
      place = 0;
      history.length = 0;
      drawSample();
      say("");
    } catch (error) {
      if (mine !== asking) return;
      queue = { samples: [], total: 0 };
      stage.replaceChildren(problem(error));
      status.textContent = "";
    }
    stage.classList.remove("busy");
  }

  function say(done) {
    const left = queue.total - place;
    const what = read().which === "doubtful" ? "doubtful labels" : "uncertain predictions";
    const sure = read().which === "doubtful" && queue.of ? ` among ${number(queue.of)}, ${number(queue.likely)} of them likely wrong` : "";
    status.textContent = `${done}${number(left)} ${what} left${sure}.`;
  }

  function drawControls(part, which) {
    const parts = choice(about.parts.map((one) => ({ value: one.name, text: one.n === null ? "the unlabeled folder" : `${one.name} (${number(one.n)})` })), part, (value) => go({ part: value }));
    parts.id = "labels-part";
    const fields = [labeled("Samples", parts)];
    if (part !== "unlabeled") {
      const select = choice(WHICH, which, (value) => go({ which: value }));
      select.id = "labels-which";
      fields.push(labeled("Which", select));
    }
    controls.replaceChildren(...fields);
  }

  function go(values) {
    const focused = document.activeElement?.id;
    remember(values, { step: true });
    load().then(() => document.getElementById(focused)?.focus());
  }

  function drawTable() {
    classes.replaceChildren(...about.classes.map((one) => make("button", {
      type: "button", onclick: () => decide(one.name), "aria-keyshortcuts": one.key || null, class: queue.samples[place]?.label === one.name ? "own" : null,
    }, one.key ? [make("kbd", {}, one.key), " "] : null, one.name)));
    actions.replaceChildren(
      make("button", { type: "button", onclick: keep }, make("kbd", {}, "Enter"), " ", "right"),
      make("button", { type: "button", onclick: skip }, make("kbd", {}, "Space"), " ", "skip"),
      make("button", { type: "button", onclick: undo, disabled: !history.length }, make("kbd", {}, "Backspace"), " ", "undo"),
      make("button", { type: "button", onclick: () => decide("") }, make("kbd", {}, "Delete"), " ", "leave out"));
    known.replaceChildren(...about.classes.map((one) => make("option", { value: one.name })));
    const any = about.corrected + about.kept + about.left;
    table.replaceChildren(
      make("p", {}, any ? `${number(about.corrected)} corrected or new, ${number(about.kept)} confirmed, ${number(about.left)} left out, in ` : "Nothing is corrected yet; what you decide is written at once to ", make("code", {}, about.file), ". The data stay as they are."),
      ...(about.untrained.length ? [make("p", { class: "warning", id: "labels-untrained" }, `No sample of train has the class ${about.untrained.join(", ")}: a class without training samples cannot be learned. Assign it to samples of train too; then the command that continues the training appears here.`)] : []),
      ...(about.command ? [make("p", { class: "faint" }, "To continue the training with these labels:"),
        make("pre", { tabindex: "0", "aria-label": "Command" }, make("code", { id: "labels-command" }, about.command))] : []));
  }

  function drawSample() {
    const sample = queue.samples[place];
    drawTable();
    if (!sample) {
      const more = queue.total > queue.samples.length;
      stage.replaceChildren(make("p", {}, queue.samples.length ? "You have seen all of these." : queue.of ? "Nothing of this kind is left." : ""),
        queue.samples.length ? make("button", { type: "button", onclick: () => load(more ? queue.samples.at(-1).sample : null) }, more ? "The next ones" : "From the beginning") : "");
      return;
    }
    const source = sample.image ? apiAddress("images/picture", { name: sample.image, side: 512 }) : apiAddress("labels/picture", { sample: sample.sample });
    stage.replaceChildren(
      make("img", { src: source, alt: "", class: "pixels labeled-picture", onload: (event) => event.target.classList.toggle("pixels", event.target.naturalWidth < 200) }),
      make("div", {},
        make("p", { class: "own-label" }, make("span", { class: "faint" }, "label "), make("strong", {}, sample.label ?? "none")),
        make("ol", { class: "answers" }, sample.top.map(([name, share]) => make("li", {}, make("span", {}, name), make("span", {}, percent(share))))),
        make("p", { class: sample.likely ? "warning" : "" }, sample.why),
        make("p", { class: "faint" }, sample.path)));
    const next = queue.samples[place + 1];
    if (next?.image) new Image().src = apiAddress("images/picture", { name: next.image, side: 512 });
  }

  /** Go on to the next sample, saying what was done. */
  function step(done, stored) {
    history.push({ place, stored });
    place += 1;
    drawSample();
    say(done);
    stage.focus({ preventScroll: true });
  }

  let waiting = false; // one decision at a time, in the order of the keys
  async function ask(path, body) {
    if (waiting) return null;
    waiting = true;
    try {
      about = { ...about, ...(await request(path, {}, { method: "POST", body })) };
      return about;
    } catch (error) {
      table.replaceChildren(problem(error));
      return null;
    } finally {
      waiting = false;
    }
  }

  async function decide(label) {
    const sample = queue.samples[place];
    if (!sample) return;
    const answer = await ask("labels/correct", { part: sample.part, sample: sample.sample, label });
    if (!answer) return;
    other.value = "";
    if (answer.already !== null) {
      const said = answer.already === "" ? "left out" : answer.already;
      step(`${sample.path} was decided elsewhere meanwhile: ${said}. It stays so. `, false);
      return;
    }
    step(label === "" ? `${sample.path} is left out. ` : label === sample.label ? `${label} is confirmed. ` : `${sample.path}: ${label}. `, true);
  }

  function keep() {
    const sample = queue.samples[place];
    if (sample) decide(sample.label ?? sample.top[0][0]);
  }

  function skip() {
    if (queue.samples[place] && !waiting) step("Skipped. ", false);
  }

  async function undo() {
    const last = history.at(-1);
    if (!last || (last.stored && !(await ask("labels/undo", { path: queue.samples[last.place].path })))) return;
    history.pop();
    place = last.place;
    drawSample();
    say("Taken back. ");
    stage.focus({ preventScroll: true });
  }

  // Of the whole page: a click elsewhere does not end them.
  onKeys(document.body, { Enter: keep, " ": skip, Backspace: undo, Delete: () => decide(""), "+": () => other.focus() });
  document.body.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.key.length !== 1 || event.target.closest("input, textarea, select")) return;
    const exact = about.classes.find((one) => one.key === event.key) ?? about.classes.find((one) => one.key === event.key.toLowerCase());
    if (!exact) return;
    event.preventDefault();
    decide(exact.name);
  });
  other.addEventListener("keydown", (event) => { if (event.key === "Escape") stage.focus(); });
  followAddress(() => load());
  drawTable();
  await load();
  stage.focus({ preventScroll: true });
}
