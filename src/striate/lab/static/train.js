// Train: start a training, watch it, pause it.
import { followAddress, pageAddress, remember, state } from "./address.js";
import { request } from "./api.js";
import { choice, labeled, make } from "./dom.js";
import { layerString } from "./layer_string_problem.js";
import { problem } from "./problem.js";
import { runView } from "./train_run.js";

const FIELDS = ["data", "model", "epochs", "minutes", "recipe", "lr"];

export const ADDRESS = [...FIELDS, "run", "look"];

export async function page(root) {
  const choices = await request("train/choices");
  const place = make("div", {});
  const run = runView((name) => refresh(name));
  const form = trainingForm(choices, async (training) => {
    place.replaceChildren();
    try {
      const { run: name } = await request("train/start", {}, { body: training });
      remember({ run: name, look: null }, { step: true });
      watch(name);
      run.element.querySelector("h2").focus();
    } catch (error) {
      place.replaceChildren(error.record?.text === undefined ? problem(error) : layerString(error, (fixed) => form.set({ ...training, ...fixed })));
    }
  });
  const runs = make("div", {});
  root.append(make("div", { class: "columns" },
    make("div", {}, make("section", { class: "card", "aria-label": "A new training" }, make("h2", {}, "A new training"), form.element, place),
      make("section", { class: "card", "aria-label": "Runs" }, runs)),
    run.element));

  function listRuns(known, shown) {
    const names = known.map((one) => ({ value: one.name, text: `${one.name}${one.finished ? "" : " (unfinished)"}` }));
    const missing = shown && !known.some((one) => one.name === shown) ? [{ value: shown, text: shown }] : [];
    const select = choice([{ value: "", text: names.length ? "choose…" : "none yet" }, ...missing, ...names], shown ?? "", (name) => {
      remember({ run: name || null, look: null }, { step: true });
      watch(name);
    });
    select.className = "wide";
    runs.replaceChildren(make("h2", {}, "Watch a run"), labeled("Runs in the folder runs, the newest first", select),
      make("p", { class: "faint" }, "Trainings that were started elsewhere can be watched too, from the same folder. When the lab ends, its own training is saved and ends; it can go on later."));
  }
  function watch(name) {
    listRuns(choices.runs, name);
    run.show(name);
  }
  async function refresh(name) {
    choices.runs = (await request("train/choices")).runs;
    listRuns(choices.runs, name);
  }
  followAddress((values) => { form.set(values); watch(values.run ?? choices.current); });
  const query = state();
  form.set(query);
  watch(query.run ?? choices.current);
}

/** The fields; `onstart(values)` when it is sent. What is typed stands in the address. */
function trainingForm(choices, onstart) {
  const changed = () => remember(values());
  const data = choice(choices.data.map((one) => ({ value: one.key, text: one.title })), choices.data[0]?.key, changed);
  data.className = "wide";
  const model = make("textarea", { class: "wide mono", rows: 3, maxlength: 20000, spellcheck: "false", autocapitalize: "off", placeholder: "chosen by the data", oninput: changed });
  const zoo = choice([{ value: "", text: "choose…" }, ...Object.entries(choices.models).flatMap(([group, names]) => names.map((name) => ({ value: name, text: name, group })))], "", (name) => {
    model.value = name;
    changed();
  });
  zoo.className = "wide";
  const figure = (name, hint) => make("input", { class: "wide", name, inputmode: "decimal", autocomplete: "off", placeholder: hint, oninput: changed });
  const epochs = figure("epochs", "decided");
  const minutes = figure("minutes", "–");
  const lr = figure("lr", "decided");
  const recipe = choice([{ value: "", text: "decided" }, ...choices.recipes], "", changed);
  recipe.className = "wide";
  const fields = { data, model, epochs, minutes, recipe, lr };
  const values = () => Object.fromEntries(FIELDS.map((name) => [name, fields[name].value]));
  function set(wanted) {
    for (const name of FIELDS) {
      if (wanted[name] !== undefined) fields[name].value = wanted[name];
    }
    zoo.value = [...zoo.options].some((one) => one.value === model.value) ? model.value : "";
  }
  const inBuild = () => {
    const { input, outputs } = choices.data.find((one) => one.key === data.value) ?? {};
    return pageAddress("build", model.value.trim() ? { model: model.value, input, outputs } : {});
  };
  const start = make("button", { class: "main" }, "Start");
  const element = make("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      start.disabled = true;
      await onstart(values());
      start.disabled = false;
    },
  },
  labeled("Data", data), labeled("Network: a layer string or a name", model), labeled("Networks with a name", zoo),
  make("div", { class: "pair" }, labeled("Epochs", epochs), labeled("or minutes", minutes)),
  make("div", { class: "pair" }, labeled("Recipe", recipe), labeled("Learning rate", lr)),
  make("p", { class: "row" }, start, make("a", { href: pageAddress("build"), onclick: (event) => { event.currentTarget.href = inBuild(); } }, "See the network in Build")));
  return { element, set };
}
