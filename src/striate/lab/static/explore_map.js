// The embedding map: images at the points of their features.
import { remember } from "./address.js";
import { apiAddress, request } from "./api.js";
import { colorKey, make, number, percent, table } from "./dom.js";
import { imageLinks } from "./explore_grid.js";
import { onKeys } from "./keys.js";

const NAMES = { pca: "first two principal components", tsne: "t-SNE" };

export async function mapView(query) {
  const { split, method } = query;
  const response = await request("explore/map", { split, method });
  const sheet = make("img", { src: apiAddress("explore/sheet", { split }), alt: "" });
  await sheet.decode();
  const { points, samples } = response;
  const about = make("div", { class: "card", "aria-live": "polite" }, make("p", { class: "faint" }, "Choose an image: click on it, or go with the arrow keys from image to image."));
  const canvas = make("canvas", { class: "map-canvas", tabindex: "0", role: "application", "aria-roledescription": "map",
    "aria-label": `Map of ${points.length} images of ${split}, by ${NAMES[method]}. Arrow keys go to the nearest image in their direction.` });
  let selected = samples.findIndex((sample) => sample.name === query.sample);
  let places = [];
  const draw = () => { places = drawMap(canvas, sheet, response, selected); };
  const select = (index) => {
    if (!samples[index]) return;
    selected = index;
    remember({ sample: samples[index].name });
    draw();
    about.replaceChildren(aboutSample(samples[index], sheet, response, index, select));
  };
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    select(nearest(places, event.clientX - box.left, event.clientY - box.top));
  });
  const step = (dx, dy) => () => select(selected < 0 ? 0 : towards(places, selected, dx, dy));
  onKeys(canvas, { ArrowLeft: step(-1, 0), ArrowRight: step(1, 0), ArrowUp: step(0, -1), ArrowDown: step(0, 1) });
  new ResizeObserver(draw).observe(canvas);
  if (selected >= 0) about.replaceChildren(aboutSample(samples[selected], sheet, response, selected, select));
  const faithful = `${Math.round(100 * response.kept)} % of the ten nearest neighbors among the features are among the ten nearest on the map`;
  const shares = response.explained.length ? ` The axes have ${response.explained.map((share) => `${Math.round(100 * share)} %`).join(" and ")} of the variance.` : " Distances between far groups mean nothing.";
  const rows = samples.map((sample, k) => [make("span", {}, sample.path), sample.label, sample.said ?? "–", number(points[k][0]), number(points[k][1])]);
  const details = make("details", { ontoggle: () => {
    if (details.open && details.childElementCount === 1) details.append(table("Samples of the map", ["sample", "class", "predicted class", "x", "y"], rows));
  } }, make("summary", {}, `All ${points.length} images as a table`));
  const said = `${number(points.length)} images of ${split}, evenly spaced in it, by ${NAMES[method]} of ${number(response.features)} features: ${response.source}.`;
  const element = make("div", {}, make("div", { class: "map-columns" }, canvas, make("div", {}, about, legend(response))), make("p", { class: "faint" }, `Frames are colored by class; a red corner marks a wrong prediction. How faithful the map is: ${faithful}.${shares}`), details);
  return { element, said };
}

function drawMap(canvas, sheet, response, selected) {
  const wide = canvas.clientWidth || 600;
  const high = canvas.clientHeight || 500;
  const density = window.devicePixelRatio || 1;
  canvas.width = wide * density;
  canvas.height = high * density;
  const context = canvas.getContext("2d");
  context.scale(density, density);
  const [tileWide, tileHigh] = response.tile;
  const side = Math.max(14, Math.min(tileWide, Math.sqrt((wide * high) / response.points.length) * 0.75));
  const sizes = [side, (side * tileHigh) / tileWide];
  const xs = response.points.map(([x]) => x);
  const ys = response.points.map(([, y]) => y);
  const at = (value, [least, most], length, size) => size / 2 + 4 + ((length - size - 8) * (value - least)) / (most - least || 1);
  const bounds = { x: [Math.min(...xs), Math.max(...xs)], y: [Math.min(...ys), Math.max(...ys)] };
  const places = response.points.map(([x, y]) => [at(x, bounds.x, wide, sizes[0]), high - at(y, bounds.y, high, sizes[1])]);
  const classes = classesOf(response);
  const order = places.map((_, k) => k);
  if (selected >= 0) order.push(selected);
  const style = getComputedStyle(canvas);
  for (const k of order) {
    const chosen = k === selected;
    const [w, h] = chosen ? [sizes[0] * 2, sizes[1] * 2] : sizes;
    const [left, top] = [places[k][0] - w / 2, places[k][1] - h / 2];
    context.drawImage(sheet, (k % response.across) * tileWide, Math.floor(k / response.across) * tileHigh, tileWide, tileHigh, left, top, w, h);
    context.lineWidth = chosen ? 4 : 2;
    context.strokeStyle = chosen ? style.getPropertyValue("--ink") : color(classes, response.samples[k].label);
    context.strokeRect(left, top, w, h);
    if (response.samples[k].right === false) {
      context.fillStyle = style.getPropertyValue("--error");
      context.fillRect(left + w - 6, top, 6, 6);
    }
  }
  return places;
}

function classesOf(response) {
  return [...new Set(response.samples.map((sample) => sample.label))].sort();
}

function color(classes, name) {
  return `hsl(${(360 * classes.indexOf(name)) / classes.length} 75% 50%)`;
}

/** Which color is which class; empty where there are too many to tell apart. */
function legend(response) {
  const classes = classesOf(response);
  if (classes.length > 20) return make("p", { class: "faint" }, `${classes.length} classes: too many colors to tell apart.`);
  return colorKey("Colors of the classes", classes.map((name) => [name, color(classes, name)]));
}

/** A sample's tile of the sheet. */
function tilePicture(sheet, response, index, attributes) {
  const [wide, high] = response.tile;
  const picture = make("canvas", { width: wide, height: high, ...attributes });
  picture.getContext("2d").drawImage(sheet, -(index % response.across) * wide, -Math.floor(index / response.across) * high);
  return picture;
}

/** The samples that are nearest by the features, wherever the map has put them; each can be chosen. */
function neighborList(sheet, response, index, select) {
  return make("ol", { class: "map-neighbors", "aria-label": "Nearest neighbors by the features" }, response.neighbors[index].map(([other, cosine]) => {
    const { label } = response.samples[other];
    const strange = label !== response.samples[index].label;
    return make("li", {}, make("button", { type: "button", onclick: () => select(other), "aria-label": `${label}, similarity ${cosine.toFixed(2)}` },
      tilePicture(sheet, response, other, { class: "pixels" }), make("span", { class: strange ? "error" : "" }, label), make("span", { class: "faint" }, cosine.toFixed(2))));
  }));
}

function aboutSample(sample, sheet, response, index, select) {
  const picture = tilePicture(sheet, response, index, { class: "pixels map-chosen", role: "img", "aria-label": sample.label });
  const lines = [make("strong", {}, sample.label)];
  if (sample.said !== undefined) lines.push(make("p", { class: sample.right ? "good" : "error" }, `${sample.right ? "✓" : "✗"} Predicted: ${sample.said}, ${percent(sample.probability)}.`));
  return make("div", {}, picture, lines, make("p", { class: "faint" }, sample.path), make("p", { class: "row" }, imageLinks(sample)),
    make("p", { class: "faint" }, "Nearest by the features, with the cosine:"), neighborList(sheet, response, index, select));
}

function nearest(places, x, y) {
  const distance = (k) => (places[k][0] - x) ** 2 + (places[k][1] - y) ** 2;
  return places.reduce((best, _, k) => (distance(k) < distance(best) ? k : best), 0);
}

/** The nearest image within 45° of a direction; the same where there is none. */
function towards(places, from, dx, dy) {
  let best = from;
  let least = Infinity;
  places.forEach(([x, y], k) => {
    const [a, b] = [x - places[from][0], y - places[from][1]];
    const along = a * dx + b * dy;
    const aside = Math.abs(a * dy) + Math.abs(b * dx);
    if (k === from || along <= 0 || aside > along) return;
    const distance = along + aside;
    if (distance < least) [best, least] = [k, distance];
  });
  return best;
}
