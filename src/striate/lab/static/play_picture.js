// Classic kernels on a picture, and the arithmetic of one of its pixels.
import { among, followAddress, remember, state, whole } from "./address.js";
import { apiAddress, request, latest, quietly } from "./api.js";
import { choice, draw, labeled, make, written } from "./dom.js";
import { imageSource } from "./image_source.js";
import { onKeys } from "./keys.js";
import { problem } from "./problem.js";

const BORDERS = { replicate: "replicate: the nearest pixel", zeros: "zeros: black", reflect: "reflect: the picture mirrored", circular: "circular: the other side" };

export const PICTURE_ADDRESS = ["image", "filter", "border", "gray", "x", "y"];

export async function pictureLaboratory(root) {
  const kernels = await request("play/kernels");
  const requestLatest = latest();
  const place = { x: 0, y: 0, image: null };
  const text = make("input", { class: "wide mono", spellcheck: "false", autocapitalize: "off", maxlength: 2000, oninput: () => { named.value = ""; soon(); } });
  const named = choice([{ value: "", text: "your own" }, ...kernels.map((one) => ({ value: one.name, text: `${one.name}: ${one.purpose}` }))], "", (name) => { if (name) { text.value = name; changed(); } });
  named.className = "wide";
  const border = choice(Object.entries(BORDERS).map(([value, words]) => ({ value, text: words })), "replicate", () => changed());
  const gray = make("input", { type: "checkbox", id: "gray-first", onchange: () => changed() });
  const result = make("div", {});
  const side = make("section", { class: "card", "aria-label": "Picture and kernel" },
    labeled("Kernel", named), labeled("A name, or rows of numbers parted by ;", text), labeled("Padding mode", border),
    make("p", { class: "check" }, gray, make("label", { for: "gray-first" }, "make it gray first")));
  root.append(make("h2", {}, "A kernel on a picture"), make("div", { class: "columns" }, side, result));

  const values = () => ({ image: place.image, kernel: text.value, mode: border.value, gray: gray.checked });
  function changed() {
    remember({ filter: text.value === "sobel-x" ? null : text.value, border: border.value === "replicate" ? null : border.value, gray: gray.checked ? 1 : null, x: place.x, y: place.y });
    show();
  }
  const soon = quietly(changed, 250);
  async function show() {
    if (!place.image) return;
    try {
      const about = await requestLatest("play/filter", { ...values(), x: place.x, y: place.y });
      if (about === undefined) return;
      place.x = about.pixel.x;
      place.y = about.pixel.y;
      drawResult(result, about, values(), (x, y) => { place.x = x; place.y = y; changed(); });
    } catch (error) {
      result.replaceChildren(problem(error));
    }
  }
  function take(query) {
    text.value = query.filter ?? "sobel-x";
    named.value = kernels.some((one) => one.name === text.value) ? text.value : "";
    border.value = among("border", Object.keys(BORDERS), "replicate");
    gray.checked = query.gray === "1";
    place.x = whole(query.x, -1);
    place.y = whole(query.y, -1);
  }
  take(state());
  const source = await imageSource(state().image ?? null, (image) => {
    if (place.image !== null || place.x < 0 || place.y < 0) {
      place.x = Math.floor(Math.min(image.width, 512) / 2);
      place.y = Math.floor(Math.min(image.height, 512) / 2);
    }
    place.image = image.name;
    remember({ image: image.name });
    changed();
  });
  side.prepend(source);
  followAddress((query) => { take(query); if (query.image === place.image) show(); else source.show(query.image); });
}

/** Both pictures and the arithmetic; what stands already is changed in place, so that the focus stays. */
function drawResult(result, about, values, onpixel) {
  const { width, height, pixel } = about;
  const key = JSON.stringify([values, width, height]);
  if (result.dataset.key !== key) {
    const same = { mode: values.mode, image: values.image, kernel: values.kernel, gray: values.gray };
    const views = make("div", { class: "pictures", tabindex: "0", role: "group", "aria-label": "Pictures. Arrow keys move to the next pixel, with Shift by eight." },
      pictureView("Before", apiAddress("play/original", { image: values.image, gray: values.gray }), about, onpixel),
      pictureView("After", apiAddress("play/filtered", same), about, onpixel));
    result.pixel = pixel;
    const step = (x, y) => onpixel(Math.min(width - 1, Math.max(0, result.pixel.x + x)), Math.min(height - 1, Math.max(0, result.pixel.y + y)));
    onKeys(views, Object.fromEntries([["ArrowLeft", -1, 0], ["ArrowRight", 1, 0], ["ArrowUp", 0, -1], ["ArrowDown", 0, 1]].flatMap(([name, x, y]) => [
      [name, () => step(x, y)], [`Shift+${name}`, () => step(8 * x, 8 * y)],
    ])));
    result.replaceChildren(views, make("p", { class: "faint" }, about.notes.join("; ")), make("div", { class: "arithmetic" }));
    result.dataset.key = key;
  }
  result.pixel = pixel;
  const [rows, columns] = [about.kernel.weights.length, about.kernel.weights[0].length];
  result.querySelectorAll("rect").forEach((frame) => {
    const box = { x: pixel.x - Math.floor(columns / 2), y: pixel.y - Math.floor(rows / 2), width: columns, height: rows };
    const one = frame.dataset.what === "after" ? { x: pixel.x, y: pixel.y, width: 1, height: 1 } : box;
    for (const [name, value] of Object.entries(one)) frame.setAttribute(name, value);
  });
  result.querySelector(".arithmetic").replaceChildren(...arithmetic(about));
}

function pictureView(title, address, about, onpixel) {
  const what = title.toLowerCase();
  const { width, height } = about;
  const map = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, draw("rect", { class: "edge", "data-what": what }), draw("rect", { "data-what": what }));
  map.addEventListener("click", (event) => {
    const box = map.getBoundingClientRect();
    onpixel(Math.min(width - 1, Math.floor(((event.clientX - box.left) / box.width) * width)), Math.min(height - 1, Math.floor(((event.clientY - box.top) / box.height) * height)));
  });
  return make("figure", {}, make("figcaption", {}, title), make("span", { class: "frame" }, make("img", { src: address, alt: `${title} the kernel`, class: width < 256 ? "pixels" : "", width, height }), map));
}

/** One output pixel: what lies under the kernel, the products, their sum, and what becomes of it. */
function arithmetic({ pixel, kernel }) {
  const numbers = (caption, rows, outside = null) => make("div", { class: "wide-frame", tabindex: "0", role: "region", "aria-label": caption },
    make("table", { class: "kernel-numbers" }, make("caption", {}, caption), make("tbody", {}, rows.map((row, y) => make("tr", {}, row.map((value, x) => make("td", { class: outside?.[y][x] ? "beyond" : null }, written(value))))))));
  const parts = [make("h3", {}, `The pixel in column ${pixel.x}, row ${pixel.y}`)];
  for (const channel of pixel.channels) {
    const steps = [`${channel.channel}: the sum of the products is ${written(channel.sum)}`];
    if (kernel.divisor > 1) steps.push(`divided by ${kernel.divisor}: ${written(Number(channel.quotient.toPrecision(8)))}`);
    if (channel.quotient !== channel.rounded) steps.push(`rounded: ${written(channel.rounded)}`);
    if (channel.rounded !== channel.value) steps.push(`limited to 0 … 255: ${channel.value}`);
    parts.push(make("p", {}, `${steps.join(", ")}.`), make("div", { class: "tables" },
      numbers(`pixels, ${channel.channel}`, channel.neighborhood, pixel.outside), numbers(`kernel, ${channel.channel}`, kernel.weights), numbers(`products, ${channel.channel}`, channel.products)));
  }
  if (pixel.outside.flat().some(Boolean)) parts.push(make("p", { class: "faint" }, "What is in italics lies beyond the border."));
  return parts;
}
