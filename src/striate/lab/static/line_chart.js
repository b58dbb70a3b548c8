// Curves with axes, and the same numbers as a table.
import { draw, make, number, table } from "./dom.js";

const HIGH = 220;
const LEFT = 46;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 34;
const MARKS = ["first", "second", "third"]; // classes of lab.css: color and dashes
const ROWS = 200;

/** A chart whose `update(series)` draws it anew. A series is { name, points: [[x, y], …], dots }: a line, or only dots.
 * `percent`: y is a share. `across`: the name of x. `rows(series)`: { heads, rows } of the table. */
export function lineChart(title, across, { percent = false, rows } = {}) {
  const picture = make("div", { class: "chart-picture" });
  const legend = make("p", { class: "faint chart-legend", "aria-hidden": "true" });
  const numbers = make("div", {});
  const element = make("figure", { class: "chart" }, make("figcaption", {}, make("strong", {}, title)), legend, picture,
    make("details", { ontoggle: () => fill() }, make("summary", {}, `${title} as a table`), numbers));
  let shown = [];
  const redraw = () => {
    picture.replaceChildren(plot(title, across, shown, percent, picture.clientWidth || 480));
  };
  new ResizeObserver(redraw).observe(picture);
  const fill = () => {
    if (!element.querySelector("details").open) return;
    const { heads, rows: lines } = rows(shown);
    numbers.replaceChildren(table(lines.length > ROWS ? `${title}, the last ${ROWS} of ${lines.length}` : title, heads, lines.slice(-ROWS)));
  };
  const update = (series) => {
    shown = series.filter((one) => one.points.length);
    legend.replaceChildren(...shown.map((one, place) => make("span", {}, sign(one, place), one.name)));
    redraw();
    fill();
  };
  return { element, update };
}

function sign(one, place) {
  const mark = one.dots
    ? draw("circle", { cx: 12, cy: 6, r: 2, class: `dot ${MARKS[place]}` })
    : draw("line", { x1: 0, x2: 24, y1: 6, y2: 6, class: `curve ${MARKS[place]}` });
  return draw("svg", { viewBox: "0 0 24 12", width: 24, height: 12 }, mark);
}

function plot(title, across, series, percent, wide) {
  const points = series.flatMap((one) => one.points).filter(([, y]) => Number.isFinite(y));
  if (!points.length) return make("p", { class: "faint" }, "Nothing yet.");
  const last = Math.max(...points.map(([x]) => x));
  const xs = ticks(0, last, wide / 90).filter((value) => value <= last);
  const ys = ticks(Math.min(...points.map(([, y]) => y)), Math.max(...points.map(([, y]) => y)), 5);
  const x = scale([0, last], LEFT, wide - RIGHT);
  const y = scale(ys, HIGH - BOTTOM, TOP);
  const text = (value) => (percent ? `${number(100 * value)} %` : number(value));
  const said = series.map((one) => `${one.name}: last ${text(one.points.at(-1)[1])} at ${across} ${number(one.points.at(-1)[0])}`);
  return draw("svg", { viewBox: `0 0 ${wide} ${HIGH}`, width: wide, height: HIGH, role: "img", "aria-label": `${title} over ${across}. ${said.join("; ")}` },
    ys.map((value) => [
      draw("line", { class: "grid", x1: LEFT, x2: wide - RIGHT, y1: y(value), y2: y(value) }),
      draw("text", { x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, percent ? `${number(100 * value)} %` : number(value)),
    ]),
    xs.map((value) => draw("text", { x: Math.min(x(value), wide - 18), y: HIGH - BOTTOM + 16, "text-anchor": "middle" }, number(value))),
    draw("text", { x: (LEFT + wide - RIGHT) / 2, y: HIGH - 4, "text-anchor": "middle" }, across),
    series.map((one, place) => one.dots
      ? one.points.filter(([, v]) => Number.isFinite(v)).map(([a, b]) => draw("circle", { class: `dot ${MARKS[place]}`, cx: x(a), cy: y(b), r: 1.6 }))
      : [draw("polyline", { class: `curve ${MARKS[place]}`, points: one.points.filter(([, v]) => Number.isFinite(v)).map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ") }),
        one.points.length === 1 ? draw("circle", { class: `dot ${MARKS[place]}`, cx: x(one.points[0][0]), cy: y(one.points[0][1]), r: 3 }) : null]));
}

/** Round numbers from below `low` to above `high`, about `count` of them. */
function ticks(low, high, count) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / Math.max(2, Math.floor(count));
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((times) => times * power >= rough * 0.999);
  const first = Math.floor(low / step);
  const found = [];
  for (let k = first; k <= first + 20; k += 1) {
    found.push(Number((k * step).toPrecision(10)));
    if (k * step >= high - step * 1e-6 && found.length > 1) break;
  }
  return found;
}

function scale(marks, from, to) {
  const low = marks[0];
  const span = marks.at(-1) - low || 1;
  return (value) => from + ((to - from) * (value - low)) / span;
}
