// Histograms of the outputs of each layer, and of their gradients.
import { draw, make, number, percent, table } from "./dom.js";

const WIDE = 160;
const HIGH = 48;

/** One row a layer, from the input to the output; words where there are none. */
export function layerHistograms(layers, step) {
  if (!layers) return make("p", { class: "faint" }, "No snapshot of the layers yet: one takes about as long as a step, and all together at most a hundredth of the training time.");
  const rows = layers.map((layer) => make("li", {},
    make("span", { class: "name" }, layer.name, make("span", { class: "faint" }, ` ${layer.kind}`)),
    part("outputs", layer.outputs, `${number(layer.outputs.low)} to ${number(layer.outputs.high)}`, layer.name),
    layer.gradients
      ? part("gradients", layer.gradients, `${power(layer.gradients.low)} to ${power(layer.gradients.high)}`, layer.name)
      : make("span", { class: "faint" }, "no gradient")));
  const lines = layers.map((layer) => [layer.name, layer.kind, number(layer.outputs.low), number(layer.outputs.high), percent(layer.outputs.zeros),
    layer.gradients ? `${(10 ** middle(layer.gradients)).toExponential(0)}` : "–", layer.gradients ? percent(layer.gradients.zeros) : "–"]);
  return make("div", {},
    make("p", { class: "faint" }, `Of 64 training samples at most, in train mode and fp32, after step ${number(step)}. Left: the outputs. Right: the magnitudes of the gradient of one sample's loss by them, on a logarithmic axis.`),
    make("ol", { class: "histograms" }, rows),
    make("details", {}, make("summary", {}, "Layers as a table"),
      table(`Layers after step ${number(step)}`, ["layer", "kind", "least output", "largest output", "outputs that are 0", "median gradient", "gradients that are 0"], lines)));
}

function part(name, histogram, range, layer) {
  const most = Math.max(1, ...histogram.counts);
  const width = WIDE / histogram.counts.length;
  const bars = histogram.counts.map((count, place) => {
    const high = (HIGH * count) / most;
    return count ? draw("rect", { x: place * width, y: HIGH - high, width: width * 0.9, height: Math.max(0.6, high) }) : null;
  });
  return make("span", { class: `histogram ${name}` },
    draw("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", "aria-label": `Histogram of the ${name} of ${layer}: ${range}` }, draw("line", { class: "grid", x1: 0, x2: WIDE, y1: HIGH - 0.5, y2: HIGH - 0.5 }), bars),
    make("span", { class: "faint" }, `${range}${histogram.zeros ? `; ${percent(histogram.zeros)} are 0` : ""}`));
}

function power(exponent) {
  return `10${[...String(exponent)].map((sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign])).join("")}`;
}

/** The exponent at which half of the counted gradients lie below. */
function middle(histogram) {
  const all = histogram.counts.reduce((sum, count) => sum + count, 0);
  let below = 0;
  const place = histogram.counts.findIndex((count) => (below += count) >= all / 2);
  return histogram.low + ((place + 0.5) * (histogram.high - histogram.low)) / histogram.counts.length;
}
