// Outlines, points and areas over a picture.
import { draw, make, percent } from "./dom.js";
import { bytes } from "./map_canvas.js";

const TEXT = 12; // pixels of the window, whatever the size of the picture
const NARROW = 480; // a picture that is shown so wide has no room for more than numbers

/** The picture with what is found in it: { element, update(view) }, where `update` draws what `view` { threshold,
 * opacity, hidden, chosen } shows and returns the outlines or spots that are drawn, each with its `number`. */
export function drawnMarks(picture, label, marks, onchoose) {
  const { width, height } = marks;
  const image = make("img", { src: picture, alt: label, width, height, class: Math.max(width, height) < 256 ? "pixels" : null });
  const areas = marks.areas ? make("canvas", { width: marks.areas.columns, height: marks.areas.rows, class: "pixels areas", "aria-hidden": "true" }) : null;
  const overlay = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", class: "marks", "aria-hidden": "true" });
  const frame = make("span", { class: "frame" }, image, areas, overlay);
  const element = make("figure", { class: "marked" }, frame);
  element.style.maxWidth = `min(64rem, ${(150 * width) / height}vh)`; // a tall picture leaves room for what is said of it
  const kinds = areas && bytes(marks.areas.data);
  let view = null;

  function paintAreas() {
    const pixels = new ImageData(marks.areas.columns, marks.areas.rows);
    const colors = marks.colors.map((color, kind) => [...color, view.hidden.has(kind) ? 0 : 255]);
    for (let i = 0; i < kinds.length; i += 1) pixels.data.set(colors[kinds[i]] ?? [0, 0, 0, 0], 4 * i);
    areas.getContext("2d").putImageData(pixels, 0, 0);
    areas.style.opacity = String(view.opacity);
  }

  function shownOf(list) {
    return list.map((one, number) => ({ ...one, number })).filter((one) => one.probability >= view.threshold && !view.hidden.has(one.kind));
  }

  /** SVG units in a pixel of the window. */
  const unit = () => width / (overlay.getBoundingClientRect().width || width);

  function paint() {
    const [outlines, spots] = [shownOf(marks.outlines), shownOf(marks.spots)];
    const plates = [];
    const seen = new Map(spots.map((one) => [one.number, one]));
    const narrow = width / unit() < NARROW;
    const color = (kind) => `rgb(${marks.colors[kind].join(" ")})`;
    const lines = marks.lines.filter((pair) => pair.every((place) => seen.has(place))).map(([a, b]) => draw("line", { class: "joint", x1: seen.get(a).x, y1: seen.get(a).y, x2: seen.get(b).x, y2: seen.get(b).y }));
    // The highest score on top, and its name in its usual place; no frame is drawn through a name.
    const [frames, names] = [[], []];
    for (const one of outlines) {
      const points = one.corners.map((corner) => corner.join(",")).join(" ");
      const chosen = one.number === view.chosen;
      frames.unshift(
        draw("polygon", { class: "casing", points }),
        draw("polygon", { class: `outline${chosen ? " chosen" : ""}`, points, stroke: color(one.kind), onclick: () => onchoose(chosen ? null : one.number) }));
      names.unshift(...nameOf(narrow && !chosen ? String(one.number + 1) : `${one.number + 1} ${marks.names[one.kind]} ${percent(one.probability)}`, Math.min(...one.corners.map(([x]) => x)), Math.min(...one.corners.map(([, y]) => y)), color(one.kind), plates));
    }
    const radius = 4 * unit();
    const dots = spots.flatMap((one) => [
      draw("circle", { class: `spot${one.number === view.chosen ? " chosen" : ""}`, cx: one.x, cy: one.y, r: one.number === view.chosen ? 2 * radius : radius, fill: color(one.kind), onclick: () => onchoose(one.number === view.chosen ? null : one.number) }),
      ...(marks.spots.length <= 12 || one.number === view.chosen ? nameOf(marks.names[one.kind], one.x + 1.5 * radius, one.y, color(one.kind), plates) : []),
    ]);
    overlay.replaceChildren(...lines, ...frames, ...names, ...dots);
    return [...outlines, ...spots];
  }

  /** A name on its color, within the picture and below the `plates` of other names, to which it is added. */
  function nameOf(text, x, y, fill, plates) {
    const size = TEXT * unit();
    const wide = 0.56 * size * text.length + 0.4 * size;
    const left = Math.max(0, Math.min(x, width - wide));
    const high = 1.25 * size;
    let top = Math.max(0, y - high);
    const covers = (other) => left < other.left + other.wide && other.left < left + wide && top < other.top + high && other.top < top + high;
    for (let other = plates.find(covers); other && other.top + 2 * high <= height; other = plates.find(covers)) top = other.top + high * 1.01;
    plates.push({ left, top, wide });
    return [
      draw("rect", { class: "plate", x: left, y: top, width: wide, height: high, fill }),
      draw("text", { class: "name", x: left + 0.2 * size, y: top + 0.95 * size, "font-size": size, textLength: wide - 0.4 * size, lengthAdjust: "spacingAndGlyphs" }, text),
    ];
  }

  new ResizeObserver(() => view && paint()).observe(frame);
  return {
    element,
    update(values) {
      view = values;
      if (areas) paintAreas();
      return paint();
    },
  };
}
