// The confusion matrix; a click on a cell shows its images.
import { pageAddress } from "./address.js";
import { request } from "./api.js";
import { make, number, percent } from "./dom.js";

const MOST = 100; // classes of a matrix that one can read

export async function confusionView(query, about, go) {
  const response = await request("explore/confusion", { split: query.split });
  const { classes, counts } = response;
  const address = (row, column) => pageAddress("explore", { split: query.split, view: "images", true: row, said: column });
  const open = (row, column) => (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go({ view: "images", true: row, said: column, show: null });
  };
  const said = `${number(response.hits)} of ${number(response.n)} are right: accuracy ${percent(response.accuracy)} (95 %: ${percent(response.interval[0])} to ${percent(response.interval[1])}). ${response.kept ? "Predicted at the end of the training." : "Predicted now, in plain fp32."}`;
  const cell = (row, column) => {
    const count = counts[row][column];
    const of = counts[row].reduce((sum, one) => sum + one, 0) || 1;
    if (!count) return make("td", { class: row === column ? "right" : null }, make("span", { class: "faint" }, "0"));
    // Strong color for much: of the right ones in blue, of the others in orange, where 30 % are already much.
    const strength = Math.round(100 * Math.min(0.85, row === column ? (0.6 * count) / of : 0.08 + (1.6 * count) / of));
    const color = `color-mix(in srgb, var(${row === column ? "--map" : "--flat"}) ${strength}%, transparent)`;
    const link = make("a", { href: address(row, column), onclick: open(row, column), "aria-label": `${number(count)} of ${classes[row]} taken for ${classes[column]}` }, number(count));
    const place = make("td", { class: row === column ? "right" : null }, link);
    place.style.background = color;
    return place;
  };
  const matrix = classes.length > MOST ? make("p", {}, `${classes.length} classes are too many for a matrix.`) : make("div", { class: "wide-frame", tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
    make("table", { class: "confusion" },
      make("caption", {}, "Rows: true classes. Columns: predicted classes. A number opens its images."),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "true"), classes.map((name) => make("th", { scope: "col" }, make("span", {}, name))))),
      make("tbody", {}, classes.map((name, row) => make("tr", {}, make("th", { scope: "row" }, name), classes.map((_, column) => cell(row, column)))))));
  const pairs = response.pairs.map((pair) => make("li", {}, make("a", { href: address(pair.true, pair.said), onclick: open(pair.true, pair.said) },
    `${classes[pair.true]} taken for ${classes[pair.said]}`), `: ${number(pair.n)} of ${number(pair.of)} (${percent(pair.n / pair.of)})`));
  const confused = make("div", {}, make("h2", {}, "Most confused"), pairs.length ? make("ol", {}, pairs) : make("p", {}, "No class was taken for another."));
  return { element: make("div", { class: "confusion-columns" }, matrix, confused), said };
}
