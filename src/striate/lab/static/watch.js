// Watch: a network at work on an image, layer by layer, down to the arithmetic of one number.
import { followAddress, remember, state } from "./address.js";
import { request, latest } from "./api.js";
import { choice, labeled, make, number, percent, shape } from "./dom.js";
import { imageSource } from "./image_source.js";
import { onKeys } from "./keys.js";
import { layerString } from "./layer_string_problem.js";
import { onScheme, short, strongest } from "./map_canvas.js";
import { problem } from "./problem.js";
import { cursorMap, kernelStrip, mapChoice, mapName, seenImage, seenWords } from "./watch_maps.js";
import { positions } from "./watch_positions.js";
import { projectionsFold, unitArithmetic } from "./watch_unit.js";

const WHOLE = ["layer", "map", "row", "column"];

export const ADDRESS = ["model", "input", "image", "order", ...WHOLE];

export async function page(root) {
  const choices = await request("watch/choices");
  const view = { model: choices.first, input: "", image: null, layer: 0, map: null, row: null, column: null, order: "activity" };
  read(state());
  const requests = Object.fromEntries(["steps", "maps", "picture", "unit", "projections"].map((name) => [name, latest()]));
  let passed = null; // the response of watch/steps

  const trouble = make("div", {});
  const predictions = make("div", {});
  const layers = make("ol", { class: "layers" });
  const said = make("p", { class: "hidden", role: "status" });
  const layerCard = make("section", { class: "card", "aria-label": "Layer" });
  const work = make("div", { class: "work" });
  const arithmetic = make("section", { class: "card", "aria-label": "Arithmetic" });
  const all = make("section", { "aria-label": "Maps of the layer" });
  const outputs = positions();
  const form = networkForm(choices, view, (values) => {
    Object.assign(view, values, { layer: 0, map: null, row: null, column: null });
    showNetwork({ step: true });
  });

  function read(values) {
    for (const name of ["model", "input", "image", "order"]) if (values[name] !== undefined) view[name] = values[name];
    for (const name of WHOLE) view[name] = /^-?\d{1,8}$/.test(values[name] ?? "") ? Number(values[name]) : name === "layer" ? 0 : null;
  }
  const subject = () => ({ model: view.model, input: view.input, image: view.image });
  const keep = (how = {}) => remember({ ...view }, how);
  const step = () => passed.steps[view.layer + 1];

  async function carefully(name, values, place) {
    try {
      const found = await requests[name](`watch/${name}`, { ...subject(), ...values });
      if (found !== undefined) place.querySelector?.(".problem")?.remove();
      return found;
    } catch (error) {
      place.replaceChildren(error.record?.text === undefined ? problem(error) : layerString(error, (fixed) => form.write(fixed)));
      return undefined;
    }
  }

  async function showNetwork(how = {}) {
    if (view.image === null) return;
    keep(how);
    work.classList.add("busy");
    const found = await carefully("steps", {}, trouble);
    work.classList.remove("busy");
    if (found === undefined) return;
    passed = found;
    trouble.replaceChildren();
    predictions.replaceChildren(predictionsOf(found));
    view.layer = Math.min(Math.max(-1, view.layer), found.steps.length - 2);
    layers.replaceChildren(...found.steps.map((one) => make("li", {}, make("button", {
      type: "button", "data-layer": one.place, onclick: () => goLayer(one.place),
    }, make("span", { class: "layer-name" }, one.name), make("span", { class: "layer-what" }, `${one.kind}, ${shape(one.out_shape)}`)))));
    await showLayer();
    await outputs.show(subject(), found);
  }

  function goLayer(layer) {
    if (!passed || layer < -1 || layer > passed.steps.length - 2) return;
    Object.assign(view, { layer, map: null, row: null, column: null });
    showLayer({ step: true });
  }

  async function showLayer(how = {}) {
    for (const button of layers.querySelectorAll("button")) {
      const now = Number(button.dataset.layer) === view.layer;
      button.setAttribute("aria-current", now ? "step" : "false");
      if (now) reveal(layers, button);
    }
    layerCard.replaceChildren(layerHead(step(), passed.steps, goLayer));
    const found = await carefully("maps", { layer: view.layer, order: view.order }, all);
    if (found === undefined) return;
    if (view.map === null || view.map >= found.total) view.map = found.maps[0].unit;
    keep(how);
    drawChoice(found);
    await showMap();
  }

  function drawChoice(first) {
    const vector = step().maps[1] * step().maps[2] === 1;
    const list = make("ul", { class: vector ? "bars numbers" : "thumbs" });
    const foot = make("div", {});
    const add = (found) => {
      const { list: items, more } = mapChoice(found, step(), view.map, goMap, async () => {
        const next = await carefully("maps", { layer: view.layer, order: view.order, start: found.start + found.maps.length }, foot);
        if (next !== undefined) add(next);
      });
      list.append(...items);
      foot.replaceChildren(...(more ? [more] : []));
    };
    add(first);
    const order = choice([{ value: "activity", text: "the most active first" }, { value: "number", text: "by number" }], view.order, (value) => {
      view.order = value;
      showLayer();
    });
    all.replaceChildren(
      make("div", { class: "row" }, make("h2", {}, `${number(first.total)} ${vector ? "numbers" : first.total === 1 ? "map" : "maps"}`), labeled("Order", order)),
      vector ? make("p", { class: "faint" }, "Choose one for its arithmetic.")
        : make("p", { class: "faint" }, `Blue is below zero, orange above, each map on its own scale; below it, its number and range.${first.filters.some((one) => [1, 3].includes(one.channels)) ? " The small picture is its kernel." : ""}`),
      list, foot);
  }

  function goMap(map) {
    if (map < 0 || map >= step().maps[0]) return;
    view.map = map;
    showMap();
  }

  async function showMap() {
    for (const button of all.querySelectorAll("[data-map]")) button.setAttribute("aria-pressed", String(Number(button.dataset.map) === view.map));
    const found = await carefully("picture", { layer: view.layer, map: view.map }, arithmetic);
    if (found === undefined) return;
    const inside = view.row !== null && view.column !== null && view.row < found.map.rows && view.column < found.map.columns;
    if (!inside) Object.assign(view, strongest(found.map));
    const vector = found.map.rows * found.map.columns === 1;
    const name = mapName(step(), view.map);
    const seen = make("figure", {});
    const caption = make("figcaption", {});
    const goPlace = (row, column) => {
      Object.assign(view, { row, column });
      showUnit(found.map, seen, caption);
    };
    const focused = document.activeElement?.classList.contains("map-frame");
    const frame = vector ? null : cursorMap(found.map, view, `${step().name}, ${name}, ${found.map.rows} rows and ${found.map.columns} columns`, goPlace);
    work.replaceChildren(seen, ...(frame ? [make("figure", {}, frame, caption, placeFields(found.map, view, goPlace), found.filter ? kernelStrip(found.filter) : null)] : []));
    if (focused) frame?.focus();
    await showUnit(found.map, seen, caption);
  }

  async function showUnit(map, seen, caption) {
    keep();
    const { row, column } = view;
    const found = await carefully("unit", { layer: view.layer, map: view.map, row, column }, arithmetic);
    if (found === undefined) return;
    const vector = map.rows * map.columns === 1;
    const name = mapName(step(), view.map);
    const title = vector ? `${step().name}: ${name}` : `${step().name}: ${name}, row ${row}, column ${column}`;
    const words = seenWords(found.seen, passed.network.input);
    seen.replaceChildren(seenImage(passed.image.prepared, passed.network.input, found.seen, `The image as the network gets it. ${words}`), make("figcaption", {}, words));
    caption.textContent = `${name[0].toUpperCase()}${name.slice(1)}: ${short(map.low)} to ${short(map.high)}. Here: ${short(found.unit.output)}.`;
    for (const field of work.querySelectorAll("input[data-place]")) field.value = view[field.dataset.place];
    const place = { layer: view.layer, map: view.map, row, column };
    const projections = view.layer < 0 ? [] : [projectionsFold((where) => carefully("projections", place, where))];
    arithmetic.replaceChildren(unitArithmetic(found.unit, title), ...projections);
    said.textContent = `${title}: ${short(found.unit.output)}`;
  }

  const chooser = make("section", { class: "card", "aria-label": "Image and network" });
  const list = make("section", { class: "card", "aria-label": "Layers" },
    make("h2", {}, "Layers"), make("p", { class: "faint" }, "Keys: j and k step through the layers, [ and ] through the maps; m goes to the chosen map, on which the arrows move."), layers);
  root.append(make("div", { class: "columns" }, make("div", {}, chooser, list), make("div", {}, trouble, outputs.element, layerCard, all, make("div", { class: "watch-bench" }, work, arithmetic), said)));
  onKeys(document.body, {
    m: () => work.querySelector(".map-frame[tabindex]")?.focus(),
    j: () => goLayer(view.layer + 1), k: () => goLayer(view.layer - 1), "[": () => goMap(view.map - 1), "]": () => goMap(view.map + 1),
  });
  onScheme(() => passed && showLayer());
  const source = await imageSource(view.image, (image) => {
    view.image = image.name;
    showNetwork();
  });
  chooser.append(source, form.element, predictions);
  followAddress((values) => {
    const before = view.image;
    read({ model: choices.first, input: "", order: "activity", ...values });
    form.set(view);
    if (view.image !== before && view.image) source.show(view.image);
    else showNetwork();
  });
}

/** Scroll a list, and nothing else, so far that an element of it is seen. */
function reveal(list, element) {
  const top = element.offsetTop - list.offsetTop;
  if (top < list.scrollTop || top + element.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 3;
}

/** Fields for network and input shape; `onchange({ model, input })` when one is left or Enter is pressed. */
function networkForm(choices, view, onchange) {
  const text = make("textarea", { class: "wide mono", rows: 2, maxlength: 20000, spellcheck: "false", autocapitalize: "off" });
  const input = make("input", { class: "wide", placeholder: "its own", spellcheck: "false" });
  const zoo = choice([{ value: "", text: "choose…" }, ...choices.networks.map((one) => ({ value: one.name, text: one.text, group: one.group }))], "", (name) => name && write({ model: name, input: "" }));
  zoo.className = "wide";
  const changed = () => {
    set({ model: text.value, input: input.value }); // the list shows the network that was typed, or none
    onchange({ model: text.value, input: input.value });
  };
  text.addEventListener("change", changed);
  input.addEventListener("change", changed);
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    text.blur();
  });
  function set(values) {
    text.value = values.model;
    input.value = values.input;
    zoo.value = choices.networks.some((one) => one.name === values.model) ? values.model : "";
  }
  function write(values) {
    set({ model: text.value, input: input.value, ...values });
    changed();
  }
  set(view);
  return { element: make("div", {}, labeled("Network: a name, or a layer string", text), make("div", { class: "pair-of-fields" }, labeled("With a name", zoo), labeled("Input shape", input))), set, write };
}

/** The most probable classes, and what a reader has to know of the network. */
function predictionsOf({ answer, network }) {
  const rows = answer.map((one) => make("li", {}, make("span", {}, one.label), make("span", { class: "share" }, percent(one.probability))));
  return make("div", {},
    answer.length ? [make("h2", {}, "Prediction"), make("ol", { class: "answer" }, rows)] : [],
    make("p", { class: "faint" }, `${number(network.parameters)} parameters; input ${shape(network.input)}.`),
    network.notes.map((note) => make("p", { class: "faint" }, note)));
}

/** What a layer is, what it takes and gives, and the way to its neighbors. */
function layerHead(step, steps, goLayer) {
  const from = step.sources.map((place) => steps[place + 1]).filter(Boolean);
  return make("div", {},
    make("div", { class: "row" },
      make("button", { type: "button", disabled: step.place < 0, onclick: () => goLayer(step.place - 1) }, "Previous layer"),
      make("button", { type: "button", disabled: step.place > steps.length - 3, onclick: () => goLayer(step.place + 1) }, "Next layer"),
      make("h2", { class: "layer-title" }, step.name)),
    make("p", {}, step.words),
    make("p", { class: "faint" }, step.kind === "input" ? shape(step.out_shape) : `${step.kind}: ${shape(step.in_shape)} → ${shape(step.out_shape)}`,
      step.parameters ? `, ${number(step.parameters)} parameters` : "", from.length ? ". Takes " : "",
      from.map((one, i) => [i ? " and " : "", make("button", { type: "button", class: "link", onclick: () => goLayer(one.place) }, one.name)])));
}

/** Fields for row and column, for who would rather type than point. */
function placeFields(map, view, goPlace) {
  const field = (name, most) => make("input", {
    type: "number", class: "number", min: 0, max: most, value: view[name], "data-place": name,
    onchange: (event) => {
      const wanted = Math.min(most, Math.max(0, Math.round(Number(event.target.value)) || 0));
      goPlace(name === "row" ? wanted : view.row, name === "column" ? wanted : view.column);
    },
  });
  return make("div", { class: "row places" }, labeled("Row", field("row", map.rows - 1)), labeled("Column", field("column", map.columns - 1)));
}
