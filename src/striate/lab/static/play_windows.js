// The windows of a kernel on a padded map, one after the other, with their sums.
import { among, followAddress, remember, state, whole } from "./address.js";
import { latest } from "./api.js";
import { choice, draw, labeled, make, written } from "./dom.js";
import { onKeys } from "./keys.js";
import { problem } from "./problem.js";

const CELL = 34;
const FIELDS = { size: ["input", 7, 1, 16], kernel: ["kernel", 3, 1, 7], stride: ["stride", 1, 1, 8], padding: ["padding", 0, 0, 8], dilation: ["dilation", 1, 1, 8] };
const MODES = { zeros: "zeros", reflect: "reflect: the map mirrored", replicate: "replicate: the nearest value", circular: "circular: the other side" };

export const WINDOW_ADDRESS = [...Object.keys(FIELDS), "mode", "weights", "at"];

export async function windowLaboratory(root) {
  const requestLatest = latest();
  const result = make("div", {});
  let at = 0;
  const inputs = Object.fromEntries(Object.entries(FIELDS).map(([name, [, first, low, high]]) => [name, make("input", { type: "number", min: low, max: high, value: first, oninput: () => { at = 0; changed(); } })]));
  const mode = choice(Object.entries(MODES).map(([value, text]) => ({ value, text })), "zeros", changed);
  const weights = make("select", { onchange: changed });

  const values = () => ({ ...Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value])), mode: mode.value, weights: weights.value || "ones" });
  function changed() {
    const now = values();
    const written = Object.fromEntries(Object.entries(FIELDS).map(([name, [, first]]) => [name, Number(now[name]) === first ? null : now[name]]));
    remember({ ...written, mode: now.mode === "zeros" ? null : now.mode, weights: now.weights === "ones" ? null : now.weights, at: null });
    show();
  }
  async function show() {
    try {
      const laid = await requestLatest("play/windows", values());
      if (laid === undefined) return;
      const chosen = laid.choices.includes(weights.value) ? weights.value : "ones";
      weights.replaceChildren(...laid.choices.map((name) => make("option", { value: name }, name)));
      weights.value = chosen;
      result.replaceChildren(...describe(laid), ...(laid.problem ? [] : animation(laid, at, (place) => { at = place; remember({ at: place || null }); })));
    } catch (error) {
      result.replaceChildren(problem(error));
    }
  }
  function take(query) {
    for (const [name, [, first]] of Object.entries(FIELDS)) inputs[name].value = query[name] ?? first;
    mode.value = among("mode", Object.keys(MODES), "zeros");
    weights.replaceChildren(make("option", { value: query.weights ?? "ones" }, query.weights ?? "ones"));
    at = whole(query.at, 0);
  }
  root.append(make("h2", {}, "Where the windows lie"),
    make("div", { class: "card controls" }, Object.entries(FIELDS).map(([name, [label]]) => labeled(label, inputs[name])), labeled("padding mode", mode), labeled("weights", weights)),
    result);
  take(state());
  followAddress((query) => { take(query); show(); });
  await show();
}

/** The arithmetic of the output's size, and what does not fit. */
function describe(laid) {
  const lines = [make("p", { class: "result-line" }, "(n + 2p − (d·(k − 1) + 1)) / s + 1, rounded down: ", make("strong", { class: "mono" }, laid.arithmetic), laid.problem ? "." : `, so ${laid.count} × ${laid.count} outputs.`)];
  if (laid.span > 1) lines.push(make("p", { class: "faint" }, `A window spans ${laid.span} of the ${laid.room} positions of the padded map.`));
  if (laid.problem) lines.push(make("div", { class: "card problem", role: "alert" }, make("strong", { class: "error" }, "No window fits: "), `${laid.problem.got}; expected: ${laid.problem.expected}. Remedy: ${laid.problem.remedy}.`));
  else if (laid.uncovered.length) {
    const positions = laid.uncovered.length === 1 ? `Position ${laid.uncovered[0]} is` : `Positions ${laid.uncovered.join(", ")} are`;
    lines.push(make("p", { class: "warning" }, `${positions} in no window, along both axes: their values change nothing.`, laid.ways_out.length ? ` What would fix that: ${laid.ways_out.join("; ")} outputs.` : ""));
  }
  return lines;
}

/** The padded map, the kernel, and the outputs that have been computed, with buttons to go on. */
function animation(laid, first, onplace) {
  const { taps, sums, products, kernel, padded } = laid;
  const count = laid.count;
  let at = Math.min(Math.max(0, first || 0), count * count - 1);
  let timer = 0;
  const inside = (position) => position >= laid.before && position < padded.length - laid.before;
  const input = grid(padded.length, `Input with its border, ${padded.length} by ${padded.length}`);
  const output = grid(count, `Output, ${count} by ${count}`);
  const cells = padded.map((row, y) => row.map((value, x) => input.cell(x, y, written(value), inside(x) && inside(y) ? "cell" : "outside")));
  for (const never of laid.uncovered) markUncovered(input, laid, never);
  const results = sums.map((row, y) => row.map((_, x) => output.cell(x, y, "", "cell", () => { stop(); move(y * count + x); })));
  const sum = make("p", { class: "sum", role: "status" });
  const slider = make("input", { type: "range", class: "wide", min: 0, max: count * count - 1, value: at, "aria-label": "Output position", oninput: () => { stop(); move(Number(slider.value)); } });
  const play = make("button", { type: "button", class: "main", onclick: () => (timer ? stop() : start()) }, "Play");
  function start() {
    if (at === count * count - 1) at = -1;
    play.textContent = "Pause";
    sum.setAttribute("role", "none"); // a screen reader would not keep up
    const tick = () => {
      if (!play.isConnected || at >= count * count - 1) stop();
      else move(at + 1);
    };
    timer = setInterval(tick, 450);
    tick();
  }
  function stop() {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
    sum.setAttribute("role", "status");
  }
  function move(place) {
    at = Math.min(count * count - 1, Math.max(0, place));
    const row = Math.floor(at / count);
    const column = at % count;
    input.reset();
    taps[row].forEach((y) => taps[column].forEach((x) => cells[y][x].set("seen")));
    results.flat().forEach((cell, k) => cell.set(k === at ? "now" : k < at ? "done" : null, k <= at ? written(sums[Math.floor(k / count)][k % count]) : ""));
    const terms = kernel.flat().map((weight, k) => `${padded[taps[row][Math.floor(k / kernel.length)]][taps[column][k % kernel.length]]}·${weight < 0 ? `(${weight})` : weight}`);
    sum.textContent = written(`row ${row}, column ${column}: ${terms.join(" + ")} = ${products[at].join(" + ").replaceAll("+ -", "- ")} = ${sums[row][column]}`);
    slider.value = String(at);
    onplace(at);
  }
  const board = make("div", { class: "maps", tabindex: "0", role: "group", "aria-label": "Windows. Arrow keys move to the next output." },
    make("figure", {}, make("figcaption", {}, "Input, with its border dashed"), input.element),
    make("figure", {}, make("figcaption", {}, laid.divisor > 1 ? `Kernel, to be divided by ${laid.divisor}` : "Kernel"), kernelGrid(kernel)),
    make("figure", {}, make("figcaption", {}, laid.divisor > 1 ? "Output, not yet divided" : "Output"), output.element));
  onKeys(board, { ArrowLeft: () => move(at - 1), ArrowRight: () => move(at + 1), ArrowUp: () => move(at - count), ArrowDown: () => move(at + count) });
  move(at);
  const step = (by, text) => make("button", { type: "button", onclick: () => { stop(); move(at + by); } }, text);
  return [make("div", { class: "row" }, step(-1, "Back"), play, step(1, "Next")), slider, sum, board];
}

function markUncovered(input, laid, position) {
  const place = laid.before + position;
  const last = laid.padded.length - laid.before;
  for (let k = laid.before; k < last; k += 1) {
    input.frame(place, k);
    input.frame(k, place);
  }
}

function kernelGrid(kernel) {
  const weights = grid(kernel.length, "Kernel");
  kernel.forEach((row, y) => row.forEach((weight, x) => weights.cell(x, y, written(weight), "seen").set("seen")));
  return weights.element;
}

/** Squares with numbers; a cell is marked with `set(kind, text)`. */
function grid(side, label) {
  const element = draw("svg", { viewBox: `0 0 ${side * CELL + 2} ${side * CELL + 2}`, width: side * CELL + 2, height: side * CELL + 2, role: "img", "aria-label": label });
  const marked = [];
  return {
    element,
    cell(x, y, text, kind, onclick) {
      const square = draw("rect", { class: `${kind}${onclick ? " pick" : ""}`, x: x * CELL + 1, y: y * CELL + 1, width: CELL, height: CELL, onclick });
      const words = draw("text", { class: `${kind}-text`, x: (x + 0.5) * CELL + 1, y: (y + 0.5) * CELL + 1, "pointer-events": "none" }, text);
      if (text.length > 3) words.setAttribute("font-size", "11");
      element.append(square, words);
      const set = (mark, changed = null) => {
        square.setAttribute("class", `${mark ?? kind}${onclick ? " pick" : ""}`);
        words.setAttribute("class", `${mark ?? kind}-text`);
        if (changed !== null) words.textContent = changed;
        if (mark) marked.push(() => set(null));
      };
      return { set };
    },
    frame(x, y) {
      element.append(draw("rect", { class: "never", x: x * CELL + 3, y: y * CELL + 3, width: CELL - 4, height: CELL - 4, "pointer-events": "none" }));
    },
    reset() {
      marked.splice(0).forEach((undo) => undo());
    },
  };
}
