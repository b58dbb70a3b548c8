// The maps of one layer: small pictures to choose from, and the chosen one with a cursor on one of its numbers.
import { draw, make } from "./dom.js";
import { onKeys } from "./keys.js";
import { filterCanvas, mapCanvas, short } from "./map_canvas.js";
import { bar } from "./watch_unit.js";

/** Small pictures of a layer's maps; of a vector, its numbers. `response`: that of `watch/maps`. */
export function mapChoice(response, step, chosen, onchoose, onmore) {
  const vector = step.maps[1] * step.maps[2] === 1;
  const list = vector ? numbers(response, step, chosen, onchoose) : pictures(response, step, chosen, onchoose);
  const left = response.total - response.start - response.maps.length;
  const more = left > 0 ? make("button", { type: "button", onclick: onmore }, `More (${left.toLocaleString("en-US")} left)`) : null;
  return { list, more };
}

function pictures(response, step, chosen, onchoose) {
  const kernels = new Map(response.filters.filter((one) => one.channels === 1 || one.channels === 3).map((one) => [one.unit, one]));
  return response.maps.map((map) => {
    const range = map.finite ? `${short(map.low)} to ${short(map.high)}` : "not all finite";
    const kernel = kernels.get(map.unit);
    const canvas = mapCanvas(map, null);
    const glyph = kernel && filterCanvas(kernel, null);
    return make("li", {}, make("button", {
      type: "button", "data-map": map.unit, "aria-pressed": String(map.unit === chosen),
      "aria-label": `${mapName(step, map.unit)}: ${range}${map.activity === 0 ? ", silent" : ""}`, onclick: () => onchoose(map.unit),
    }, make("span", { class: "pair" }, glyph ?? [], canvas), make("span", { class: "thumb-name" }, String(map.unit)), make("span", { class: "thumb-range" }, map.activity === 0 ? "silent" : range)));
  });
}

function numbers(response, step, chosen, onchoose) {
  const scale = Math.max(1e-30, ...response.maps.map((map) => Math.abs(map.low)));
  return response.maps.map((map) => {
    const item = bar(step.labels[map.unit] ?? String(map.unit), map.low, scale);
    const button = make("button", { type: "button", class: "number-choice", "data-map": map.unit, "aria-pressed": String(map.unit === chosen), onclick: () => onchoose(map.unit) });
    button.append(...item.childNodes);
    item.append(button);
    return item;
  });
}

/** What a map is called: of the input, by its color. */
export function mapName(step, map) {
  if (step.labels[map]) return step.labels[map];
  if (step.kind === "input") return step.maps[0] === 3 ? ["red", "green", "blue"][map] : "gray";
  return step.maps[1] * step.maps[2] === 1 ? `number ${map}` : `map ${map}`;
}

/** The chosen map, with a cursor: click, or arrow keys. `onplace(row, column)` is called with where it went. */
export function cursorMap(map, place, label, onplace) {
  const canvas = mapCanvas(map, null);
  const box = draw("rect", { x: place.column, y: place.row, width: 1, height: 1, class: "cursor" });
  const overlay = draw("svg", { viewBox: `0 0 ${map.columns} ${map.rows}`, preserveAspectRatio: "none", class: "overlay", "aria-hidden": "true" }, box);
  const frame = make("div", {
    class: "map-frame", tabindex: "0", role: "application", "aria-roledescription": "map of numbers", "aria-label": `${label}. Arrow keys choose a number.`,
    onclick: (event) => {
      const rect = canvas.getBoundingClientRect();
      go(Math.floor(((event.clientY - rect.top) / rect.height) * map.rows), Math.floor(((event.clientX - rect.left) / rect.width) * map.columns));
    },
  }, canvas, overlay);
  const now = { ...place };
  function go(row, column) {
    now.row = Math.min(map.rows - 1, Math.max(0, row));
    now.column = Math.min(map.columns - 1, Math.max(0, column));
    box.setAttribute("x", now.column);
    box.setAttribute("y", now.row);
    onplace(now.row, now.column);
  }
  onKeys(frame, {
    ArrowLeft: () => go(now.row, now.column - 1), ArrowRight: () => go(now.row, now.column + 1),
    ArrowUp: () => go(now.row - 1, now.column), ArrowDown: () => go(now.row + 1, now.column),
    Home: () => go(now.row, 0), End: () => go(now.row, map.columns - 1),
  });
  return frame;
}

/** The kernel of a map, a small picture for each channel that it meets. */
export function kernelStrip(filter) {
  const left = filter.channels - filter.planes.length;
  const planes = filter.planes.map((data, channel) => mapCanvas({ ...filter, data }, `Kernel for channel ${channel}`));
  return make("details", { open: true }, make("summary", {}, `Its kernel: ${filter.channels} ${filter.channels === 1 ? "channel" : "channels"} of ${filter.rows} × ${filter.columns}`),
    make("div", { class: "kernel-strip", tabindex: "0", role: "region", "aria-label": "Its kernel" }, planes),
    make("p", { class: "faint" }, `Weights to ±${short(filter.scale)}${left > 0 ? `; ${left} more channels are not drawn` : ""}.`));
}

/** The image with what a number sees of it lit: all else is darkened. `seen` is null where that is not known. */
export function seenImage(picture, shape, seen, label) {
  const [, rows, columns] = shape;
  const overlay = draw("svg", { viewBox: `0 0 ${columns} ${rows}`, preserveAspectRatio: "none", class: "overlay", "aria-hidden": "true" });
  if (seen) {
    const top = Math.max(0, seen.rows[0]);
    const left = Math.max(0, seen.columns[0]);
    const height = Math.min(rows - 1, seen.rows[1]) - top + 1;
    const width = Math.min(columns - 1, seen.columns[1]) - left + 1;
    if (height > 0 && width > 0) {
      overlay.append(
        draw("path", { class: "unseen", "fill-rule": "evenodd", d: `M0 0H${columns}V${rows}H0Z M${left} ${top}V${top + height}H${left + width}V${top}Z` }),
        draw("rect", { class: "seen", x: left, y: top, width, height }));
    }
  }
  return make("div", { class: "map-frame image-frame" }, make("img", { class: "pixels", src: picture, alt: label, width: columns, height: rows }), overlay);
}

/** What a number sees, in words. */
export function seenWords(seen, shape) {
  if (!seen) return "Its receptive field is not known.";
  const [, rows, columns] = shape;
  const height = seen.rows[1] - seen.rows[0] + 1;
  const width = seen.columns[1] - seen.columns[0] + 1;
  const cut = seen.rows[0] < 0 || seen.columns[0] < 0 || seen.rows[1] >= rows || seen.columns[1] >= columns;
  const where = `rows ${Math.max(0, seen.rows[0])} to ${Math.min(rows - 1, seen.rows[1])}, columns ${Math.max(0, seen.columns[0])} to ${Math.min(columns - 1, seen.columns[1])}`;
  return `Its receptive field has ${height} × ${width} pixels: ${where}${cut ? "; the rest lies beyond the border" : ""}.`;
}
