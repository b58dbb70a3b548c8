// A network as a column of boxes with their descriptions; the sizes are those of the ledger.
import { draw, make } from "./dom.js";
import { onKeys } from "./keys.js";

const ROW = 56; // 3.5rem; stretched where rows are higher
const WIDE = 144; // 9rem
const MIDDLE = 56;
const WIDEST = 104;
const LANES = [116, 138]; // for outputs that go past other boxes

/** The drawing of a network's boxes; `onselect(index)` when one is chosen. */
export function networkDrawing(network, selected, onselect) {
  const { boxes } = network;
  const buttons = boxes.map((box, index) => layerButton(box, network, () => select(index)));
  const shapes = boxes.map((box, index) => boxShape(box, index, network));
  function select(index) {
    buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(place === index)));
    shapes.forEach((shape, place) => shape.classList.toggle("selected", place === index));
    onselect(index);
  }
  if (buttons[selected]) {
    buttons[selected].setAttribute("aria-pressed", "true");
    shapes[selected].classList.add("selected");
  }
  const high = ROW * (boxes.length + 1);
  const picture = draw("svg", { viewBox: `0 0 ${WIDE} ${high}`, preserveAspectRatio: "none", "aria-hidden": "true" }, wires(boxes, network), shapes);
  const list = make("ol", { "aria-label": "Layers from the input to the output" },
    make("li", { class: "input" }, make("span", {}, `input ${network.input.join("×")}`), ["output", "parameters", "MACs", "field"].map((head) => make("span", { class: "cost", "aria-hidden": "true" }, head))), buttons.map((button) => make("li", {}, button)));
  const step = (by) => {
    const at = buttons.indexOf(document.activeElement) + by;
    if (buttons[at]) { buttons[at].focus(); select(at); }
  };
  onKeys(list, { ArrowDown: () => step(1), ArrowUp: () => step(-1), j: () => step(1), k: () => step(-1) });
  return make("div", { class: "network" }, picture, list);
}

function layerButton(box, network, onclick) {
  const cost = (kind, count, total, text, words) => make("span", { class: "cost" }, text || "–", make("span", { class: "hidden" }, ` ${words}`),
    text ? draw("svg", { class: `share ${kind}`, viewBox: "0 0 96 5", "aria-hidden": "true" }, draw("rect", { width: Math.max(1, (96 * count) / total), height: 5 })) : null);
  return make("button", { type: "button", "aria-pressed": "false", onclick },
    make("span", {}, make("span", { class: "name", title: box.name }, box.name), make("span", { class: "what", title: box.text }, box.text)),
    make("span", {}, box.shape),
    cost("params", box.params, network.params, box.params_text, "parameters"),
    cost("macs", box.macs, network.macs, box.macs_text, "MACs"),
    make("span", { class: "cost sees" }, make("span", { class: "hidden" }, "receptive field "), box.field));
}

function size(side, channels, network) {
  const wide = side > 1 ? Math.max(8, WIDEST * Math.sqrt(side / network.largest_side)) : 8;
  const high = 6 + (32 * Math.log2(Math.max(1, channels))) / Math.log2(Math.max(2, network.most_channels));
  return { wide, high };
}

function boxShape(box, index, network) {
  const { wide, high } = size(box.side, box.out_shape[0] ?? 1, network);
  const middle = ROW * (index + 1.5);
  return draw("rect", { class: box.side > 1 ? "map" : "flat", x: MIDDLE - wide / 2, y: middle - high / 2, width: wide, height: high, rx: 2 });
}

/** Lines from what gives to what takes: straight to the next box, in a lane beside the others. */
function wires(boxes, network) {
  const lines = [];
  const input = size(network.input.length > 1 ? network.largest_side : 1, network.input[0], network);
  lines.push(draw("rect", { class: network.input.length > 1 ? "map" : "flat", x: MIDDLE - input.wide / 2, y: ROW / 2 - 4, width: input.wide, height: 8, rx: 2 }));
  boxes.forEach((box, index) => {
    for (const source of box.inputs) {
      const from = ROW * (source + 1.5);
      const to = ROW * (index + 1.5);
      if (source === index - 1) {
        lines.push(draw("line", { class: "wire", x1: MIDDLE, x2: MIDDLE, y1: from, y2: to }));
      } else {
        const lane = LANES[(index + source + 2) % LANES.length];
        lines.push(draw("path", { class: "wire", d: `M${MIDDLE} ${from + 12} H${lane - 6} Q${lane} ${from + 12} ${lane} ${from + 18} V${to - 18} Q${lane} ${to - 12} ${lane - 6} ${to - 12} H${MIDDLE}` }));
      }
    }
  });
  return lines;
}
