// Build: the network is drawn while the user types.
import { followAddress, pageAddress, remember, state } from "./address.js";
import { request, latest, quietly } from "./api.js";
import { choice, labeled, make, number, shape, table } from "./dom.js";
import { layerString } from "./layer_string_problem.js";
import { networkDrawing } from "./network_drawing.js";

const PATIENCE = 500; // milliseconds of a request, after which what is shown no longer passes for its answer

export const ADDRESS = ["model", "input", "outputs", "layer"];

export async function page(root) {
  const choices = await request("build/choices");
  const first = choices.networks[0]?.name === "run" ? { title: "run", model: "run", input: "" } : choices.examples[0];
  const form = makeForm(choices, (values) => changed(values));
  const result = make("div", { "aria-live": "off" });
  const said = make("p", { class: "hidden", role: "status" });
  root.append(make("div", { class: "columns" }, make("section", { class: "card", "aria-label": "The network as text" }, form.element), make("div", {}, said, result)));
  const requestLatest = latest();
  let layer = Number(state().layer ?? -1);

  /** Whether a network is awaited: the numbers of another one are faded meanwhile. */
  function busy(waiting) {
    result.classList.toggle("stale", waiting);
    result.setAttribute("aria-busy", String(waiting));
  }

  async function show(values) {
    const timer = setTimeout(() => busy(true), PATIENCE);
    const body = { model: values.model, input: values.input, outputs: values.outputs ? Number(values.outputs) : null };
    form.problem.replaceChildren();
    try {
      const network = await requestLatest("build/network", {}, { body });
      if (network === undefined) return;
      busy(false);
      const drawn = drawNetwork(network, layer, (chosen) => {
        layer = chosen;
        remember({ layer: chosen < 0 ? null : chosen });
      });
      result.replaceChildren(drawn);
      said.textContent = `${number(network.params)} parameters, ${number(network.macs)} multiply–accumulates, ${network.remarks.length} remarks`;
    } catch (error) {
      // What was drawn last stays in sight, faded: half a word is no reason to lose the picture.
      busy(false);
      result.classList.add("stale");
      form.problem.replaceChildren(layerString(error, (fixed) => form.write(fixed)));
    } finally {
      clearTimeout(timer);
    }
  }
  const showSoon = quietly(show, 60);
  function changed(values) {
    layer = -1;
    remember({ ...values, layer: null });
    showSoon(values);
  }
  followAddress((values) => { form.set(values); show(form.values()); });
  const query = state();
  form.set(query.model === undefined ? { ...query, model: first.model, input: first.input } : query);
  await show(form.values());
}

/** The fields; `onchange(values)` after each letter. */
function makeForm(choices, onchange) {
  const changed = () => onchange(values());
  const text = make("textarea", { class: "wide build-text", spellcheck: "false", autocapitalize: "off", maxlength: 20000, oninput: changed });
  const input = make("input", { class: "wide", placeholder: "its own", oninput: changed, spellcheck: "false" });
  const outputs = make("input", { class: "wide", type: "number", min: 1, max: 1000000, placeholder: "its own", oninput: changed });
  const place = make("div", { "aria-live": "polite" });
  const zoo = choice([{ value: "", text: "choose…" }, ...choices.networks.map((one) => ({ value: one.name, text: one.text, group: one.group }))], "", (name) => {
    if (name) write({ model: name, input: "", outputs: "" });
  });
  zoo.className = "wide";
  const values = () => ({ model: text.value, input: input.value, outputs: outputs.value });
  function set(wanted) {
    text.value = wanted.model ?? "";
    input.value = wanted.input ?? "";
    outputs.value = wanted.outputs ?? "";
  }
  function write(wanted) {
    set({ ...values(), ...wanted });
    zoo.value = choices.networks.some((one) => one.name === text.value) ? text.value : "";
    changed();
  }
  const element = make("div", {},
    labeled("Layer string, or the name of a network", text), place,
    labeled("Input: channels × height × width", input), labeled("Outputs", outputs), labeled("Networks with a name", zoo),
    make("p", { class: "label" }, "Examples"),
    make("div", { class: "row" }, choices.examples.map((one) => make("button", { type: "button", onclick: () => write({ model: one.model, input: one.input, outputs: "" }) }, one.title))),
    make("details", {}, make("summary", {}, "The words of layer strings"),
      make("pre", {}, [...choices.words, "res[ … ]  adds the input of the bracket to its output", "3*[ … ]  three times"].join("\n"))));
  return { element, problem: place, values, set, write };
}

function drawNetwork(network, selected, onselect) {
  const details = make("div", { class: "details" });
  const select = (index) => {
    const box = network.boxes[index];
    details.replaceChildren(...(box ? [boxTable(box, network)] : []));
    onselect(box ? index : -1);
  };
  const drawing = networkDrawing(network, selected, select);
  if (network.boxes[selected]) select(selected);
  const lines = network.remarks.map((remark) => make("div", { class: `remark is-${remark.severity}` },
    make("strong", { class: remark.severity === "warning" ? "warning" : "" }, `${remark.severity}: ${remark.where}: ${remark.measured}.`),
    ` ${remark.why} ${remark.remedy}`));
  return make("div", {},
    make("dl", { class: "figures" }, [
      ["parameters", number(network.params)], ["multiply–accumulates", number(network.macs)],
      ["input", shape(network.input)], ["output", shape(network.output)],
    ].map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    make("section", { class: "card drawing", "aria-label": "Drawing" }, drawing,
      make("p", { class: "faint" }, "Width of a box: square root of the side of its map. Height: logarithm of its channels. Orange: no map. Choose a layer for its numbers.")),
    details,
    make("section", {}, make("h2", {}, "Remarks"), lines.length ? lines : make("p", {}, "None.")),
    make("section", {}, make("h2", {}, "Totals"),
      make("div", { class: "wide-frame", tabindex: "0", role: "region", "aria-label": "Totals" }, make("table", {}, make("tbody", {}, network.totals.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "text" }, value.trim()))))))),
    allLayers(network.rows),
    make("p", {}, make("a", { href: pageAddress("watch", { model: state().model, input: state().input }), hidden: !document.querySelector('nav a[href="/watch"]') }, "Watch it at work")));
}

/** The table of all layers, made when it is opened: a deep network has hundreds. */
function allLayers(rows) {
  const details = make("details", {}, make("summary", {}, `All ${rows.length} layers as a table`));
  details.addEventListener("toggle", () => details.append(layerTable(rows, "All layers")), { once: true });
  return details;
}

function boxTable(box, network) {
  const rows = box.rows.map((place) => network.rows[place]);
  return make("section", { class: "card" }, make("h2", {}, box.name), layerTable(rows, box.text));
}

function layerTable(rows, caption) {
  const heads = ["layer", "kind", "input", "output", "size of the output", "parameters", "MACs", "receptive field", "jump", "left over"];
  return table(caption, heads, rows.map((row) => [
    row.name, row.kind, row.in, row.out, row.arithmetic.join(", ") || "–", number(row.params), number(row.macs), row.field, row.jump, row.leftover || "–",
  ]));
}
