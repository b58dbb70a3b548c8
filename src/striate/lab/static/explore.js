// Explore: the data of the run, and the predictions of its network.
import { among, followAddress, remember, state, whole } from "./address.js";
import { request } from "./api.js";
import { choice, labeled, make, number } from "./dom.js";
import { confusionView } from "./explore_confusion.js";
import { imageGrid } from "./explore_grid.js";
import { mapView } from "./explore_map.js";
import { problem } from "./problem.js";

const RANKED = [{ value: "all", text: "all" }, { value: "worst", text: "the worst first" }, { value: "best", text: "the best first" }];
const VIEWS = { images: "Images", confusion: "Confusion matrix", map: "Map" };
const DRAWN = { images: imageGrid, confusion: confusionView, map: mapView };

export const ADDRESS = ["view", "split", "show", "method", "true", "said", "start", "sample"];

export async function page(root) {
  const about = await request("explore/about");
  const controls = make("div", {});
  const status = make("p", { role: "status", class: "faint" });
  const view = make("div", {});
  root.append(controls, status, view);
  let drawing = 0;

  async function show() {
    const mine = (drawing += 1);
    const query = read(about);
    controls.replaceChildren(...drawControls(about, query, go));
    status.textContent = "Reading…";
    view.classList.add("busy");
    try {
      const { element, said } = await DRAWN[query.view](query, about, go);
      if (mine !== drawing) return;
      view.replaceChildren(element);
      status.textContent = said;
    } catch (error) {
      if (mine !== drawing) return;
      view.replaceChildren(problem(error));
      status.textContent = "";
    }
    view.classList.remove("busy");
  }
  /** Another state of the page; what is null is left out of the address. */
  function go(values) {
    const focused = document.activeElement?.id;
    remember({ start: null, sample: null, ...values }, { step: true });
    show().then(() => document.getElementById(focused)?.focus());
  }
  followAddress(show);
  await show();
}

/** What the address asks for, with what it leaves open. */
function read(about) {
  const query = state();
  const splits = about.splits.map((one) => one.name);
  return {
    view: among("view", Object.keys(VIEWS), "images"),
    split: among("split", splits, splits.includes("test") ? "test" : splits[0]),
    show: query.show ?? "all", method: among("method", ["pca", "tsne"], "pca"),
    true: whole(query.true, null), said: whole(query.said, null), start: whole(query.start, 0), sample: query.sample ?? null,
  };
}

function drawControls(about, query, go) {
  const split = choice(about.splits.map((one) => ({ value: one.name, text: `${one.name} (${number(one.n)})` })), query.split, (value) => go({ split: value }));
  split.id = "explore-split";
  const offered = Object.entries(VIEWS).filter(([name]) => name !== "confusion" || about.classes.length);
  const views = make("div", { class: "row", role: "group", "aria-label": "View" }, offered.map(([name, title]) =>
    make("button", { type: "button", id: `explore-${name}`, "aria-pressed": String(name === query.view), onclick: () => go({ view: name, true: null, said: null, show: null }) }, title)));
  const fields = [labeled("Split", split)];
  if (query.view === "images" && about.classes.length) fields.push(...classFields(about, query, go));
  if (query.view === "images" && about.splits.find((one) => one.name === query.split).ranked) {
    const order = choice(RANKED, query.show, (value) => go({ show: value === "all" ? null : value }));
    order.id = "explore-show";
    fields.push(labeled("Order", order));
  }
  if (query.view === "map") {
    const method = choice([{ value: "pca", text: "principal components, at once" }, { value: "tsne", text: "t-SNE, some seconds" }], query.method, (value) => go({ method: value }));
    method.id = "explore-method";
    fields.push(labeled("Method", method));
  }
  return [make("p", {}, `${about.data}: ${about.splits.map((one) => `${one.name} ${number(one.n)}`).join(", ")} images`, about.classes.length ? ` of ${about.classes.length} classes.` : "."), views, make("div", { class: "row fields" }, fields)];
}

function classFields(about, query, go) {
  const counts = about.splits.find((one) => one.name === query.split).classes;
  const options = (any, counted) => [{ value: "", text: any }, ...about.classes.map((name, k) => ({ value: String(k), text: counted ? `${name} (${number(counts[k])})` : name }))];
  const field = (id, label, options_, value, key) => {
    const select = choice(options_, value === null ? "" : String(value), (chosen) => go({ [key]: chosen === "" ? null : chosen }));
    select.id = id;
    return labeled(label, select);
  };
  const shows = [{ value: "all", text: "all" }, { value: "mistakes", text: "mistakes, most confident first" }, { value: "unsure", text: "correct, least confident first" }];
  return [
    field("explore-true", "True class", options("any", true), query.true, "true"),
    field("explore-said", "Predicted class", options("anything", false), query.said, "said"),
    field("explore-show", "Which", shows, query.show, "show"),
  ];
}
