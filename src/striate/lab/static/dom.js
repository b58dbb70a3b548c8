// Helpers to create elements, and to format numbers.

const SVG = "http://www.w3.org/2000/svg";

/** An element: attributes by name (`class`, `for`, …), `onclick` and the like as functions, children as nodes or text.
 * Names come from anywhere: they only ever become text. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

let fields = 0;

/** A label above its field. */
export function labeled(text, field) {
  field.id ||= `field-${(fields += 1)}`;
  return make("div", {}, make("label", { for: field.id }, text), field);
}

/** A `<select>`; options are texts, or { value, text, group }. */
export function choice(options, value, onchange) {
  const select = make("select", { onchange: () => onchange(select.value) });
  const groups = new Map();
  for (const option of options) {
    const one = typeof option === "string" ? { value: option, text: option } : option;
    let parent = select;
    if (one.group) {
      if (!groups.has(one.group)) {
        groups.set(one.group, make("optgroup", { label: one.group }));
        select.append(groups.get(one.group));
      }
      parent = groups.get(one.group);
    }
    parent.append(make("option", { value: one.value }, one.text));
  }
  select.value = value;
  return select;
}

/** As `striate.wording.number`, with a true minus sign: grouped by thousands, fractions to four digits, what stands
 * before the point whole. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const whole = Number.isInteger(value) || Math.abs(value) >= 999.95;
  return written(whole ? Math.round(value).toLocaleString("en-US") : Number(value.toPrecision(4)));
}

/** A number in full, with a true minus sign. */
export function written(value) {
  return String(value).replaceAll("-", "−");
}

/** A share from 0 to 1 in percent, with one decimal; only 0 is written as 0, and only 1 as 100. */
export function percent(share) {
  const bound = share > 0 && share < 0.0005 ? "< 0.1" : share < 1 && share >= 0.9995 ? "> 99.9" : null;
  return `${bound ?? (100 * share).toFixed(1)}\u00a0%`;
}

/** Only an image that is shown larger than it is has pixels that one should see: `onload` of one of class `pixels`. */
export function smoothLarge(event) {
  const image = event.target;
  if (image.naturalWidth > image.width) image.classList.remove("pixels");
}

/** Which color is what: names with their colors. */
export function colorKey(label, entries) {
  return make("ul", { class: "color-key", "aria-label": label }, entries.map(([name, color]) => make("li", {},
    draw("svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, draw("rect", { width: 12, height: 12, fill: color })), name)));
}

/** A shape as it is written: 3×224×224. */
export function shape(sizes) {
  const list = [sizes].flat();
  return list.length ? list.join("×") : "–";
}

/** A table with a caption; the first cell of a row names it. Columns of words are left-aligned, those of numbers not. */
export function table(caption, heads, rows) {
  const words = heads.map((_, k) => 2 * rows.filter((row) => /^\p{L}/u.test(row[k])).length > rows.length);
  const kind = (k) => (words[k] ? "text" : null);
  return make("div", { class: "wide-frame", tabindex: "0", role: "region", "aria-label": caption },
    make("table", {},
      make("caption", {}, caption),
      make("thead", {}, make("tr", {}, heads.map((head, k) => make("th", { scope: "col", class: kind(k) }, head)))),
      make("tbody", {}, rows.map(([first, ...cells]) => make("tr", {},
        make("th", { scope: "row" }, first), cells.map((cell, k) => make("td", { class: kind(k + 1) }, cell)))))));
}
