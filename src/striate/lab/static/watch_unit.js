// The arithmetic of one number: windows with their kernels, terms, and the lines that lead to the result.
import { make, table } from "./dom.js";
import { short } from "./map_canvas.js";

const FIRST_PATCHES = 3;
const FIRST_TERMS = 12;

/** The arithmetic as an element; `title` says which number it is. */
export function unitArithmetic(unit, title) {
  const parts = [make("h3", {}, title), make("p", {}, unit.words)];
  if (unit.patches.length) parts.push(patches(unit));
  if (unit.channels.length > 1) parts.push(channelSums(unit.channels));
  if (unit.terms.length > 1 || unit.kind === "terms") parts.push(terms(unit));
  parts.push(lines(unit));
  return make("div", { class: "arithmetic" }, parts);
}

function lines(unit) {
  const rows = unit.lines.map((line) => [line.label, `${line.text} = ${five(line.value)}`]);
  if (unit.kind === "none") return make("p", { class: "result" }, "The number: ", make("strong", {}, five(unit.output)));
  const list = make("dl", { class: "lines" }, rows.map(([label, text]) => [make("dt", {}, label), make("dd", {}, text)]),
    make("dt", {}, "the network's number"), make("dd", {}, make("strong", {}, five(unit.output))));
  return list;
}

/** Windows and kernels, some at first, the others when query for. */
function patches(unit) {
  const root = make("div", { class: "patches" });
  const show = (count) => {
    root.replaceChildren(...unit.patches.slice(0, count).map((one) => patch(one, unit.kind)));
    const left = unit.patches.length - count;
    if (left > 0) root.append(make("button", { type: "button", onclick: () => show(count + 12) }, left > 12 ? `12 more of ${left} channels` : `${left} more channels`));
  };
  show(FIRST_PATCHES);
  return root;
}

function patch(one, kind) {
  const what = kind === "convolution" ? `channel ${one.channel}` : `map ${one.channel}`;
  const written = fixed(one.values);
  const cell = (row, column) => ({
    text: one.outside[row][column] ? `(${written(one.values[row][column])})` : written(one.values[row][column]),
    class: [one.outside[row][column] && "outside", one.winner?.[0] === row && one.winner?.[1] === column && "winner"].filter(Boolean).join(" "),
    value: one.values[row][column],
  });
  const parts = [grid(`${what}: what goes in`, one, cell)];
  if (one.weights) {
    const products = one.values.map((row, r) => row.map((value, c) => value * one.weights[r][c]));
    const plain = (numbers) => {
      const text = fixed(numbers);
      return (r, c) => ({ text: text(numbers[r][c]), value: numbers[r][c] });
    };
    parts.push(sign("×"), grid("kernel", one, plain(one.weights), true), sign("="), grid("products", one, plain(products), true));
    parts.push(sign("→"), make("p", { class: "patch-sum" }, make("span", { class: "faint" }, "sum"), make("strong", {}, five(one.sum))));
  }
  return make("div", { class: "patch", role: "region", tabindex: "0", "aria-label": `Window on ${what}` }, parts);
}

function sign(text) {
  return make("span", { class: "sign", "aria-hidden": "true" }, text);
}

/** A small table with the rows and columns of the map at its edges; `bare` leaves them out. */
function grid(title, one, cell, bare = false) {
  const scale = Math.max(1e-30, ...one.rows.flatMap((_, r) => one.columns.map((_, c) => Math.abs(cell(r, c).value))));
  const head = bare ? [] : make("thead", {}, make("tr", {}, make("td", {}), one.columns.map((column) => make("th", { scope: "col" }, String(column)))));
  const body = make("tbody", {}, one.rows.map((row, r) => make("tr", {},
    bare ? [] : make("th", { scope: "row" }, String(row)),
    one.columns.map((_, c) => {
      const { text, class: extra = "", value } = cell(r, c);
      const element = make("td", { class: extra || null, title: five(value) }, text);
      shade(element, value / scale);
      return element;
    }))));
  return make("table", { class: bare ? "grid bare" : "grid" }, make("caption", {}, title), head, body);
}

/** A tint behind a number: as in the maps, faint enough to read the number. */
function shade(element, share) {
  const color = share < 0 ? "var(--below)" : "var(--above)";
  element.style.background = `color-mix(in srgb, ${color} ${Math.round(Math.min(1, Math.abs(share)) * 34)}%, var(--paper))`;
}

function channelSums(channels) {
  const sorted = [...channels].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const scale = Math.max(1e-30, Math.abs(sorted[0][1]));
  const show = sorted.slice(0, 64);
  const title = channels.length > show.length ? `Sums by channel: the ${show.length} largest of ${channels.length}` : "Sums by channel, the largest first";
  return make("details", { open: channels.length <= 12 }, make("summary", {}, title),
    make("ol", { class: "bars" }, show.map(([channel, value]) => bar(`channel ${channel}`, value, scale))));
}

function terms(unit) {
  const weighted = unit.terms.some((term) => term.weight !== null);
  const heads = weighted ? ["what goes in", "number", "times", "gives"] : ["what goes in", "number", "gives"];
  const row = (term) => [term.label, short(term.value), ...(weighted ? [term.weight === null ? "1" : short(term.weight)] : []), short(term.adds)];
  const rows = unit.terms.map(row);
  if (unit.rest_count) rows.push([`${unit.rest_count.toLocaleString("en-US")} others together`, "", ...(weighted ? [""] : []), short(unit.rest_sum)]);
  if (rows.length <= FIRST_TERMS + 2) return table("What goes in", heads, rows);
  const root = make("div", {});
  const few = [...rows.slice(0, FIRST_TERMS)];
  root.append(table(`The ${FIRST_TERMS} largest of ${(unit.terms.length + unit.rest_count).toLocaleString("en-US")}`, heads, few),
    make("button", { type: "button", onclick: () => root.replaceChildren(table("What goes in, the largest first", heads, rows)) }, `Show ${rows.length} rows`));
  return root;
}

/** A line with a bar from the middle: to the left below zero, to the right above. */
export function bar(label, value, scale, extra = {}) {
  const fill = make("span", { class: value < 0 ? "fill below" : "fill above" });
  const share = 50 * Math.min(1, Math.abs(value) / scale);
  fill.style.width = `${share}%`;
  fill.style[value < 0 ? "right" : "left"] = "50%";
  return make("li", extra, make("span", { class: "bar-label" }, label), make("span", { class: "track", "aria-hidden": "true" }, fill), make("span", { class: "bar-value" }, short(value)));
}

/** How the numbers of one table are written: all with as many decimals as give the largest three digits. */
function fixed(rows) {
  const largest = Math.max(...rows.flat().map(Math.abs).filter(Number.isFinite), 0);
  const decimals = largest === 0 ? 0 : Math.min(8, Math.max(0, 2 - Math.floor(Math.log10(largest))));
  return (value) => (value === null ? "not finite" : value === 0 ? "0" : value.toFixed(decimals).replace("-", "−"));
}

/** A number in five digits, with a true minus sign. */
function five(value) {
  if (value === null || value === undefined) return "not finite";
  return String(Number(value.toPrecision(5))).replace("-", "−");
}

/** A fold that asks, when it is opened, what of the image excites the number: `ask()` gives its projections. */
export function projectionsFold(ask) {
  const pictures = make("div", { class: "pair-of-fields" });
  const fold = make("details", {}, make("summary", {}, "What of the image excites it"),
    make("p", { class: "faint" }, "The number projected back to the pixels, by the rules of the deconvnet and of guided backpropagation; gray is 0."), pictures);
  fold.addEventListener("toggle", async () => {
    if (!fold.open || pictures.childElementCount) return;
    const found = await ask(pictures);
    if (found !== undefined) pictures.replaceChildren(...found.projections.map(projection));
  });
  return fold;
}

function projection({ method, picture, problem }) {
  const shown = picture ? make("img", { src: picture, alt: `Projection by ${method}`, class: "pixels projection" }) : make("p", { class: "faint" }, `Not here: ${problem}.`);
  return make("figure", {}, shown, make("figcaption", {}, method));
}
