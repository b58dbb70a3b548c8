// Pixels: an image as numbers and channels, down to the pixel.
import { followAddress, pageAddress, remember, state } from "./address.js";
import { apiAddress, request, latest } from "./api.js";
import { choice, draw, labeled, make, number, table } from "./dom.js";
import { imageSource } from "./image_source.js";
import { onKeys } from "./keys.js";
import { problem } from "./problem.js";

const SIZES = [8, 14, 20, 28, 40];
const USUAL = window.innerWidth < 640 ? 8 : 14;

export const ADDRESS = ["image", "x", "y", "size", "channel"];

export async function page(root) {
  const result = make("div", {});
  const side = make("section", { class: "card", "aria-label": "Choose an image" });
  root.append(make("div", { class: "columns" }, side, result));
  let view = null;
  const source = await imageSource(state().image ?? null, (image) => {
    const query = state();
    const same = query.image === image.name || view === null;
    remember({ image: image.name });
    view = new View(image, same ? query : { size: query.size, channel: query.channel }, result);
  });
  side.append(source);
  followAddress((query) => {
    if (view && query.image === view.image.name) view.follow(query);
    else source.show(query.image);
  });
}

/** One image: an overview with the part that is shown, its channels, and the numbers of the part. */
class View {
  constructor(image, query, result) {
    this.image = image;
    this.request = latest();
    this.result = result;
    this.overview = make("div", {});
    this.channels = make("div", { class: "channels", role: "group", "aria-label": "Channel" });
    this.readout = make("div", { class: "readout", role: "status" });
    this.numbers = make("div", { class: "numbers wide-frame", tabindex: "0", role: "region", "aria-label": "Values of pixels. Arrow keys move to the next pixel, with Shift by eight." });
    this.ranges = make("div", {});
    this.frames = [draw("rect", { class: "edge" }), draw("rect", {})];
    const size = choice(SIZES.map(String), String(USUAL), (value) => { this.size = Number(value); this.place(); this.load(); });
    this.sizeField = size;
    result.replaceChildren(
      make("div", { class: "row" }, labeled("Pixels across", size), make("a", { href: pageAddress("play", { image: image.name }) }, "Lay a kernel on it")),
      this.readout,
      make("div", { class: "pixel-board" }, this.numbers, make("div", {}, this.overview, this.channels, this.ranges)));
    const step = (x, y) => this.choose(this.x + x, this.y + y);
    onKeys(this.numbers, Object.fromEntries([["ArrowLeft", -1, 0], ["ArrowRight", 1, 0], ["ArrowUp", 0, -1], ["ArrowDown", 0, 1]].flatMap(([key, x, y]) => [
      [key, () => step(x, y)], [`Shift+${key}`, () => step(8 * x, 8 * y)],
    ])));
    this.numbers.addEventListener("click", (event) => {
      const cell = event.target.closest("td");
      if (cell) this.choose(Number(cell.dataset.x), Number(cell.dataset.y));
    });
    this.drawOverview();
    this.follow(query);
  }

  /** Show what an address asks for. */
  follow(query) {
    const { width, height, channels } = this.image;
    const inside = (text, most, otherwise) => Math.min(most - 1, Math.max(0, /^\d+$/.test(text ?? "") ? Number(text) : otherwise));
    this.size = SIZES.includes(Number(query.size)) ? Number(query.size) : USUAL;
    this.sizeField.value = String(this.size);
    this.channel = channels.includes(query.channel) ? query.channel : null;
    this.x = inside(query.x, width, Math.floor(width / 2));
    this.y = inside(query.y, height, Math.floor(height / 2));
    this.place();
    this.load();
  }

  /** Put the part around the chosen pixel. */
  place() {
    const { width, height } = this.image;
    this.wide = Math.min(this.size, width);
    this.high = Math.min(this.size, height);
    this.left = Math.min(width - this.wide, Math.max(0, this.x - Math.floor(this.wide / 2)));
    this.top = Math.min(height - this.high, Math.max(0, this.y - Math.floor(this.high / 2)));
  }

  /** Choose a pixel; the part moves along when it is left. */
  choose(x, y) {
    const { width, height } = this.image;
    this.x = Math.min(width - 1, Math.max(0, x));
    this.y = Math.min(height - 1, Math.max(0, y));
    const before = [this.left, this.top];
    this.left = Math.max(Math.min(this.left, this.x), this.x - this.wide + 1);
    this.top = Math.max(Math.min(this.top, this.y), this.y - this.high + 1);
    if (before[0] === this.left && before[1] === this.top) this.mark();
    else this.load();
  }

  async load() {
    const values = { image: this.image.name, x: this.left, y: this.top, width: this.wide, height: this.high };
    try {
      const part = await this.request("pixels/region", values);
      if (part === undefined) return;
      this.part = part;
      this.drawNumbers();
      this.drawChannels();
      this.mark();
    } catch (error) {
      this.numbers.replaceChildren(problem(error));
    }
  }

  /** The values of a pixel of the part, by channel. */
  values(x, y) {
    return Object.entries(this.part.channels).map(([name, channel]) => [name, channel.values[y - this.part.region.y][x - this.part.region.x]]);
  }

  drawNumbers() {
    const { x, y, width, height } = this.part.region;
    const columns = Array.from({ length: width }, (_, k) => x + k);
    const cells = (row) => columns.map((column) => {
      const values = Object.fromEntries(this.values(column, row));
      const shown = this.channel ? [values[this.channel]] : Object.values(values);
      const color = colorOf(values, this.channel);
      const cell = make("td", { "data-x": column, "data-y": row, class: isDark(color) ? "dark" : "bright" }, shown.flatMap((value, k) => (k ? [make("br"), String(value)] : [String(value)])));
      cell.style.backgroundColor = `rgb(${color.join(" ")})`;
      return cell;
    });
    const rows = Array.from({ length: height }, (_, k) => y + k);
    this.numbers.replaceChildren(make("table", {},
      make("caption", { class: "hidden" }, `Values of ${this.channel ?? Object.keys(this.part.channels).join(", ")}`),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, make("span", { class: "hidden" }, "row")), columns.map((column) => make("th", { scope: "col" }, String(column))))),
      make("tbody", {}, rows.map((row) => make("tr", {}, make("th", { scope: "row" }, String(row)), cells(row))))));
  }

  /** The chosen pixel in the table, in words, in the overview and in the address. */
  mark() {
    this.numbers.querySelector("td.chosen")?.classList.remove("chosen");
    const cell = this.numbers.querySelector(`td[data-x="${this.x}"][data-y="${this.y}"]`);
    cell?.classList.add("chosen");
    cell?.scrollIntoView({ block: "nearest", inline: "nearest" });
    const values = this.values(this.x, this.y);
    const swatch = make("span", { class: "swatch" });
    swatch.style.backgroundColor = `rgb(${colorOf(Object.fromEntries(values), null).join(" ")})`;
    this.readout.replaceChildren(swatch, make("span", {}, `column ${this.x}, row ${this.y}: `, make("strong", {}, values.map(([name, value]) => `${name} ${value}`).join(", "))));
    for (const frame of this.frames) {
      for (const [name, value] of Object.entries({ x: this.left, y: this.top, width: this.wide, height: this.high })) frame.setAttribute(name, value);
    }
    remember({ x: this.x, y: this.y, size: this.size === USUAL ? null : this.size, channel: this.channel });
  }

  drawOverview() {
    const { name, width, height } = this.image;
    const picture = make("img", { class: width < 256 ? "pixels" : "", src: apiAddress("images/picture", { name, side: 1024 }), alt: `The picture, ${this.image.title}`, width: Math.max(width, 256), height: Math.round((height * Math.max(width, 256)) / width) });
    const map = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.frames);
    map.addEventListener("click", (event) => {
      const box = map.getBoundingClientRect();
      this.x = Math.min(width - 1, Math.floor(((event.clientX - box.left) / box.width) * width));
      this.y = Math.min(height - 1, Math.floor(((event.clientY - box.top) / box.height) * height));
      this.place();
      this.load();
    });
    this.overview.replaceChildren(make("div", { class: "overview" }, picture, map));
  }

  drawChannels() {
    const { name, channels } = this.image;
    if (!this.channels.childElementCount) {
      const one = (channel, address, text) => make("button", { type: "button", "data-channel": channel, onclick: () => { this.channel = channel || null; this.drawNumbers(); this.drawChannels(); this.mark(); } },
        make("img", { src: address, alt: "", class: "pixels" }), text);
      this.channels.replaceChildren(
        one("", apiAddress("images/picture", { name, side: 192 }), channels.length > 1 ? "all" : channels[0]),
        ...(channels.length > 1 ? channels.map((channel) => one(channel, apiAddress("pixels/channel", { image: name, name: channel, side: 192 }), channel)) : []));
    }
    for (const button of this.channels.children) button.setAttribute("aria-pressed", String(button.dataset.channel === (this.channel ?? "")));
    this.ranges.replaceChildren(table("Each channel of the whole picture: 0 is dark, 255 is bright", ["channel", "smallest", "mean", "largest"],
      Object.entries(this.part.channels).map(([channel, values]) => [channel, number(values.min), number(values.mean), number(values.max)])));
  }
}

/** The color of a cell: the pixel's own, or a gray of one channel. */
function colorOf(values, channel) {
  if (channel) return Array(3).fill(values[channel]);
  return "gray" in values ? Array(3).fill(values.gray) : [values.red, values.green, values.blue];
}

/** Whether white letters are read better on it than black ones (relative luminance of WCAG). */
function isDark(color) {
  const [red, green, blue] = color.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.179;
}
