// The first layer's filters as pictures: gray is a weight of 0.
import { make, number } from "./dom.js";
import { bytes as bytesOf } from "./map_canvas.js";

/** A canvas with all filters of a snapshot, or words where there are none. */
export function filterSheet(filters, step) {
  if (!filters) return make("p", { class: "faint" }, "The first layer has no filters that are pictures.");
  const [count, channels, high, wide] = filters.shape;
  const bytes = bytesOf(filters.bytes);
  const across = Math.min(count, Math.max(1, Math.ceil(Math.sqrt(count * 2))));
  const down = Math.ceil(count / across);
  const zoom = Math.max(1, Math.round(44 / Math.max(high, wide)));
  const canvas = make("canvas", {
    class: "pixels filters", role: "img", width: across * (wide * zoom + 4) - 4, height: down * (high * zoom + 4) - 4,
    "aria-label": `${count} filters of ${filters.layer}, ${high}×${wide}, after step ${number(step)}`,
  });
  const context = canvas.getContext("2d");
  const tile = new ImageData(wide, high);
  const small = make("canvas", { width: wide, height: high });
  context.imageSmoothingEnabled = false;
  for (let k = 0; k < count; k += 1) {
    for (let place = 0; place < high * wide; place += 1) {
      for (let color = 0; color < 3; color += 1) {
        tile.data[4 * place + color] = bytes[(k * channels + Math.min(color, channels - 1)) * high * wide + place];
      }
      tile.data[4 * place + 3] = 255;
    }
    small.getContext("2d").putImageData(tile, 0, 0);
    context.drawImage(small, (k % across) * (wide * zoom + 4), Math.floor(k / across) * (high * zoom + 4), wide * zoom, high * zoom);
  }
  const some = filters.of > count ? `the first ${count} of ${number(filters.of)}` : `${count}`;
  return make("div", {}, canvas, make("p", { class: "faint" },
    `${some} of ${filters.layer}, ${channels === 3 ? "color, " : ""}${high}×${wide}: mid-gray is 0, ${channels === 3 ? "full color" : "white"} is ${number(filters.most)}, ${channels === 3 ? "its complement" : "black"} is −${number(filters.most)}.`));
}
