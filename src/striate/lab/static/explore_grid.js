// Images in a grid, page by page.
import { pageAddress } from "./address.js";
import { apiAddress, request } from "./api.js";
import { colorKey, make, number, percent, smoothLarge } from "./dom.js";
import { onKeys } from "./keys.js";

const PER_PAGE = 60;
const DRAWN = { predicted: "predicted; wrong pixels are checkered", true: "true", reconstructed: "the image and its reconstruction" };

export async function imageGrid(query, about, go) {
  const { split, show, start } = query;
  const response = await request("explore/samples", { split, show, start, true: query.true, said: query.said, count: PER_PAGE });
  const list = make("ul", { class: "gallery", "aria-label": "Images. Arrow keys go from image to image." }, response.samples.map((sample) => make("li", {}, tile(sample, about.draws ? split : null))));
  moveByKeys(list);
  const last = Math.min(response.total, start + PER_PAGE);
  const said = response.total ? `${number(start + 1)} to ${number(last)} of ${number(response.total)}` : "None.";
  const jump = (to) => () => { go({ start: to || null }); };
  const pages = response.total > PER_PAGE ? make("nav", { class: "row", "aria-label": "Pages of images" },
    make("button", { type: "button", id: "explore-before", disabled: start === 0, onclick: jump(Math.max(0, start - PER_PAGE)) }, "Before"),
    make("button", { type: "button", id: "explore-after", disabled: last >= response.total, onclick: jump(start + PER_PAGE) }, "After"),
    make("span", { class: "faint", "aria-hidden": "true" }, said)) : null;
  const key = response.legend.length ? [colorKey("Colors of the classes", response.legend.map(([name, color]) => [name, `rgb(${color.join(" ")})`]))] : [];
  return { element: make("div", {}, ...key, list, ...(pages ? [pages] : [])), said };
}

function tile(sample, split) {
  const words = [make("span", { class: "name" }, sample.label)];
  if (sample.said !== undefined) {
    const sure = percent(sample.probability);
    words.push(sample.right ? make("span", { class: "good" }, `✓ ${sure}`) : make("span", { class: "error" }, `✗ predicted ${sample.said}, ${sure}`));
  }
  const over = (split && sample.drawn ? sample.drawn : []).map((kind) => make("img", { loading: "lazy", class: "pixels", width: 96, height: 96, onload: smoothLarge,
    alt: DRAWN[kind], title: DRAWN[kind], src: apiAddress("explore/drawn", { split, sample: sample.name.split("#").pop(), truth: kind === "true" }) }));
  return [
    make("a", { href: pageAddress("watch", { image: sample.name }), title: sample.path },
      make("img", { class: "pixels", loading: "lazy", alt: "", width: 96, height: 96, onload: smoothLarge, src: apiAddress("images/picture", { name: sample.name, side: 192 }) }), over, words),
    make("a", { class: "small", href: pageAddress("pixels", { image: sample.name }), "aria-label": `${sample.label}, as pixels` }, "pixels"),
  ];
}

/** Arrow keys go from image to image; the Tab key reaches the links of one of them only, rather than of sixty. */
function moveByKeys(list) {
  const items = [...list.children], links = items.map((item) => item.querySelector("a"));
  const reach = (chosen) => { for (const link of list.querySelectorAll("a")) link.tabIndex = link.closest("li") === chosen ? 0 : -1; };
  reach(items[0]);
  list.addEventListener("focusin", (event) => { reach(event.target.closest("li")); });
  const across = () => Math.max(1, links.filter((link) => link.offsetTop === links[0].offsetTop).length);
  const step = (by) => () => {
    const at = items.indexOf(document.activeElement.closest("li"));
    links[at < 0 ? 0 : Math.min(links.length - 1, Math.max(0, at + by()))]?.focus();
  };
  onKeys(list, { ArrowRight: step(() => 1), ArrowLeft: step(() => -1), ArrowDown: step(across), ArrowUp: step(() => -across()) });
}

/** Links of an image to the pages that open it. */
export function imageLinks(sample) {
  return [["watch", "Watch"], ["pixels", "Pixels"]].map(([name, title]) => make("a", { href: pageAddress(name, { image: sample.name }) }, title));
}
