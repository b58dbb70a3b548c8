// The predictions of each position of the outputs: a map for each stride over the image, and one position in numbers.
import { latest } from "./api.js";
import { choice, draw, labeled, make, percent } from "./dom.js";
import { onKeys } from "./keys.js";
import { bytes } from "./map_canvas.js";

const HEAT = [255, 110, 0];

/** A section for the maps of a network's outputs: `show(subject, passed)` fills it, or hides it where it has none. */
export function positions() {
  const element = make("section", { class: "card", "aria-label": "What each position says", hidden: true });
  const requests = { maps: latest(), cell: latest() };
  const view = { kind: -1, level: null, row: 0, column: 0 };

  async function show(subject, passed) {
    const found = await requests.maps("watch/positions", { ...subject, kind: view.kind }).catch(async () => {
      view.kind = -1; // another network has other classes
      return requests.maps("watch/positions", { ...subject, kind: -1 });
    });
    if (found === undefined) return;
    element.hidden = found.names.length === 0;
    if (element.hidden) return;
    view.kind = found.kind;
    const highest = found.levels.reduce((best, level, number) => (level.highest > found.levels[best].highest ? number : best), 0);
    const kept = found.levels[view.level];
    if (!kept || view.row >= kept.rows || view.column >= kept.columns) view.level = null;
    if (view.level === null) Object.assign(view, { level: highest, row: found.levels[highest].row, column: found.levels[highest].column });
    const kinds = choice(found.names.map((name, kind) => ({ value: String(kind), text: name })), String(view.kind), (kind) => {
      Object.assign(view, { kind: Number(kind), level: null });
      show(subject, passed);
    });
    const words = make("div", { class: "position-words" });
    const frames = found.levels.map((level, number) => positionMap(level, passed, (row, column) => {
      Object.assign(view, { level: number, row, column });
      showCell();
    }));
    const seen = found.levels.length > 1 ? "Each map is of one stride: the finer one finds small objects, the coarser one large ones." : "";
    element.replaceChildren(
      make("div", { class: "row" }, make("h2", {}, "What each position says"), labeled("About", kinds)),
      make("p", { class: "faint" }, `Full orange is ${found.what} ${percent(found.highest)}, the highest of all positions for ${found.names[view.kind]}. ${seen} Click a position, or move by arrow keys.`),
      make("div", { class: "position-maps" }, frames.map((one) => one.element)), words);
    async function showCell() {
      const { level, row, column } = view;
      frames.forEach((one, number) => one.choose(number === level ? { row, column } : null, null));
      const cell = await requests.cell("watch/cell", { ...subject, level, row, column });
      if (cell === undefined) return;
      frames[level].choose({ row, column }, cell.box);
      words.replaceChildren(...cellWords(found, view, cell));
    }
    await showCell();
  }
  return { element, show };
}

/** One map over the image, with a cursor. */
function positionMap(level, passed, onplace) {
  const [, height, width] = passed.network.input;
  const canvas = make("canvas", { width: level.columns, height: level.rows, class: "pixels", "aria-hidden": "true" });
  const image = new ImageData(level.columns, level.rows);
  bytes(level.data).forEach((byte, i) => image.data.set([...HEAT, 0.85 * byte], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
  const overlay = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", class: "overlay", "aria-hidden": "true" });
  const now = { row: level.row, column: level.column };
  const frame = make("div", {
    class: "map-frame position-frame", tabindex: "0", role: "application", "aria-roledescription": "map of positions",
    "aria-label": `${level.name}, ${level.rows} rows and ${level.columns} columns. Arrow keys choose a position.`,
    onclick: (event) => {
      const box = frame.getBoundingClientRect();
      go(Math.floor(((event.clientY - box.top) / box.height) * level.rows), Math.floor(((event.clientX - box.left) / box.width) * level.columns));
    },
  }, make("img", { class: "pixels", src: passed.image.prepared, alt: "", width, height }), canvas, overlay);
  function go(row, column) {
    now.row = Math.min(level.rows - 1, Math.max(0, row));
    now.column = Math.min(level.columns - 1, Math.max(0, column));
    onplace(now.row, now.column);
  }
  onKeys(frame, {
    ArrowLeft: () => go(now.row, now.column - 1), ArrowRight: () => go(now.row, now.column + 1),
    ArrowUp: () => go(now.row - 1, now.column), ArrowDown: () => go(now.row + 1, now.column),
  });
  return {
    element: make("figure", {}, frame, make("figcaption", {}, `${level.name}: ${level.rows} × ${level.columns} positions, ${percent(level.highest)} at most`)),
    choose(place, box) {
      overlay.replaceChildren();
      if (!place) return;
      Object.assign(now, place);
      const [down, right] = [height / level.rows, width / level.columns];
      const rectangle = (x, y, wide, high, kind) => draw("rect", { x, y, width: wide, height: high, class: kind });
      overlay.append(rectangle(place.column * right, place.row * down, right, down, "cursor"));
      if (box) overlay.append(rectangle(box[0], box[1], box[2] - box[0], box[3] - box[1], "seen"));
    },
  };
}

function cellWords(found, view, cell) {
  const level = found.levels[view.level];
  const order = cell.values.map((value, kind) => [value, kind]).sort((a, b) => b[0] - a[0]).slice(0, 8);
  const box = cell.box ? `Its box, yellow, is ${cell.box.map((edge) => Math.round(edge)).join(", ")} (left, top, right, bottom in pixels of the input).` : "";
  return [
    make("p", { role: "status" }, `${level.name}, row ${view.row}, column ${view.column}. ${box}`),
    make("ol", { class: "answer" }, order.map(([value, kind]) => make("li", {}, make("span", {}, found.names[kind]), make("span", { class: "share" }, percent(value))))),
  ];
}
