// Maps of numbers as pictures: blue below zero, orange above, the paper's own color at zero.
import { make, written } from "./dom.js";

const BELOW = [0, 98, 170];
const ABOVE = [205, 82, 0];
const BELOW_DARK = [92, 178, 240];
const ABOVE_DARK = [255, 150, 70];

const dark = matchMedia("(prefers-color-scheme: dark)");

/** Call `repaint` when the color scheme changes. */
export function onScheme(repaint) {
  dark.addEventListener("change", repaint);
}

/** The bytes behind base64. */
export function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** A map { rows, columns, data } on a new canvas, a pixel a number; `label` is for screen readers, null hides it from them. */
export function mapCanvas(map, label) {
  const canvas = make("canvas", { width: map.columns, height: map.rows, class: "pixels map-canvas", ...described(label) });
  paint(canvas, map);
  return canvas;
}

function described(label) {
  return label === null ? { "aria-hidden": "true" } : { role: "img", "aria-label": label };
}

/** Paint a map on a canvas of its size. */
function paint(canvas, map) {
  const data = bytes(map.data);
  const image = new ImageData(map.columns, map.rows);
  const colors = palette();
  for (let i = 0; i < data.length; i += 1) image.data.set(colors.subarray(4 * data[i], 4 * data[i] + 4), 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** The kernel of a map: in color where it meets red, green and blue, else its first plane. */
export function filterCanvas(filter, label) {
  const canvas = make("canvas", { width: filter.columns, height: filter.rows, class: "pixels filter-canvas", ...described(label) });
  if (filter.planes.length === 3 && filter.channels === 3) {
    const planes = filter.planes.map(bytes);
    const image = new ImageData(filter.columns, filter.rows);
    for (let i = 0; i < planes[0].length; i += 1) image.data.set([planes[0][i], planes[1][i], planes[2][i], 255], 4 * i);
    canvas.getContext("2d").putImageData(image, 0, 0);
  } else paint(canvas, { ...filter, data: filter.planes[0] });
  return canvas;
}

/** Four bytes of color for each byte of a map. */
function palette() {
  const zero = dark.matches ? [20, 24, 29] : [255, 255, 255];
  const [below, above] = dark.matches ? [BELOW_DARK, ABOVE_DARK] : [BELOW, ABOVE];
  const colors = new Uint8ClampedArray(4 * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    const share = Math.min(1, Math.abs(byte - 128) / 127);
    const end = byte < 128 ? below : above;
    for (let c = 0; c < 3; c += 1) colors[4 * byte + c] = zero[c] + (end[c] - zero[c]) * share;
    colors[4 * byte + 3] = 255;
  }
  return colors;
}

/** Row and column of the number that is furthest from zero. */
export function strongest(map) {
  let best = 0;
  let place = 0;
  bytes(map.data).forEach((byte, i) => {
    if (Math.abs(byte - 128) > best) {
      best = Math.abs(byte - 128);
      place = i;
    }
  });
  return { row: Math.floor(place / map.columns), column: place % map.columns };
}

/** A number in three digits, with a true minus sign. */
export function short(value) {
  if (value === null || value === undefined) return "not finite";
  return written(Number.isInteger(value) && Math.abs(value) < 1e6 ? value : Number(value.toPrecision(3)));
}
