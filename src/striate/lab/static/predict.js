// Predict: an image with the prediction of the run's network drawn over it.
import { followAddress, remember, state } from "./address.js";
import { apiAddress, latest, request as ask } from "./api.js";
import { labeled, make, number, percent, smoothLarge } from "./dom.js";
import { imageSource } from "./image_source.js";
import { drawnMarks } from "./predict_marks.js";
import { playedPage } from "./predict_played.js";
import { problem } from "./problem.js";

const SIDE = 1024;

export const ADDRESS = ["image", "threshold", "opacity", "hidden", "file"];

export async function page(root) {
  const about = await ask("predict/files");
  if (about.many) {
    playedPage(root, about);
    return;
  }
  const request = latest();
  const view = { image: null, threshold: null, opacity: 0.5, hidden: new Set(), chosen: null };
  let found = null; // the response of predict/prediction
  const chooser = make("section", { class: "card", "aria-label": "Picture" });
  const controls = make("section", { class: "card", "aria-label": "What is drawn", hidden: true });
  const result = make("div", {});
  const said = make("p", { class: "hidden", role: "status" });
  root.append(make("div", { class: "columns" }, make("div", {}, chooser, controls), make("div", {}, result, said)));

  function read(values) {
    const share = (text) => (/^(0(\.\d{1,4})?|1)$/.test(text ?? "") ? Number(text) : null);
    view.threshold = share(values.threshold);
    view.opacity = share(values.opacity) ?? 0.5;
    view.hidden = new Set((values.hidden ?? "").split(",").filter((text) => /^\d{1,4}$/.test(text)).map(Number));
  }
  const keep = () => remember({
    image: view.image, threshold: view.threshold, opacity: view.opacity === 0.5 ? null : view.opacity, hidden: [...view.hidden].sort((a, b) => a - b).join(","),
  });

  async function show(image) {
    result.classList.add("busy");
    try {
      const response = await request("predict/prediction", { image: image.name });
      if (response === undefined) return;
      found = response;
      view.chosen = null;
      drawAll(image);
    } catch (error) {
      found = null;
      controls.hidden = true;
      result.replaceChildren(problem(error));
    } finally {
      result.classList.remove("busy");
    }
  }

  function drawAll(image) {
    const { marks, line, top } = found;
    const picture = found.picture ?? apiAddress("images/picture", { name: image.name, side: SIDE });
    const words = found.picture ? `${image.title}, and its reconstruction` : image.title;
    if (marks === null) {
      controls.hidden = true;
      said.textContent = line;
      result.replaceChildren(make("figure", { class: "marked" }, make("img", { class: "pixels", onload: smoothLarge, src: picture, alt: words }), found.picture ? make("figcaption", {}, "The image, and what the network makes of it.") : null),
        make("ol", { class: "tops" }, (top ?? [[line, null]]).map(([name, share]) => make("li", {}, make("span", {}, name), share === null ? null : make("span", {}, percent(share))))));
      return;
    }
    const drawn = drawnMarks(picture, `${image.title}, with what is predicted`, marks, (one) => { view.chosen = one; update(); });
    const list = make("div", {});
    result.replaceChildren(drawn.element, make("p", { class: "found" }), list);
    controls.hidden = false;
    controls.replaceChildren(...controlsOf(marks));
    function update() {
      const threshold = view.threshold ?? marks.threshold;
      const shown = drawn.update({ ...view, threshold });
      const words = wordsOf(marks, shown, threshold);
      result.querySelector(".found").textContent = words;
      said.textContent = words;
      list.replaceChildren(listOf(marks, shown, view, (one) => { view.chosen = one; update(); }));
      for (const row of controls.querySelectorAll("[data-kind]")) row.querySelector(".count").textContent = countOf(marks, Number(row.dataset.kind), threshold);
      const output = controls.querySelector("[data-threshold]");
      if (output) output.textContent = percent(threshold);
      keep();
    }
    drawn.onupdate = update;
    controls.update = update;
    update();
  }

  function controlsOf(marks) {
    const parts = [];
    const slider = (name, label, value, oninput) => {
      const output = make("span", { class: "faint", [`data-${name}`]: "" }, percent(value));
      const input = make("input", { type: "range", class: "wide", min: 0, max: 1, step: 0.01, value, oninput: () => { output.textContent = percent(Number(input.value)); oninput(Number(input.value)); controls.update(); } });
      return make("div", { class: "slider" }, labeled(label, input), output);
    };
    if (marks.outlines.length || marks.spots.length) {
      const usual = marks.threshold;
      parts.push(slider("threshold", marks.outlines.length ? "Score from which on an object is drawn" : "Confidence from which on a point is drawn", view.threshold ?? usual, (value) => { view.threshold = value; }));
      if (usual) parts.push(make("button", { type: "button", onclick: () => { view.threshold = null; controls.querySelector("input").value = usual; controls.update(); } }, `As the run chose it: ${percent(usual)}`));
    }
    if (marks.areas) parts.push(slider("opacity", "Opacity of the areas", view.opacity, (value) => { view.opacity = value; }));
    parts.push(make("h2", {}, marks.spots.length ? "Points" : "Classes"), make("ul", { class: "legend" }, marks.names.map((name, kind) => {
      const box = make("input", { type: "checkbox", id: `kind-${kind}`, checked: !view.hidden.has(kind), onchange: () => { view.hidden[box.checked ? "delete" : "add"](kind); controls.update(); } });
      const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = `rgb(${marks.colors[kind].join(" ")})`;
      return make("li", { "data-kind": kind }, box, swatch, make("label", { for: box.id }, name), make("span", { class: "count faint" }));
    })));
    return parts;
  }

  read(state());
  const source = await imageSource(state().image ?? null, (image) => {
    view.image = image.name;
    keep();
    show(image);
  });
  chooser.append(source);
  followAddress((values) => {
    read(values);
    if (values.image && values.image !== view.image) source.show(values.image);
    else if (found?.marks) {
      controls.replaceChildren(...controlsOf(found.marks));
      controls.update();
    }
  });
}

/** How many objects or points of a kind there are, or what share of the picture it takes. */
function countOf(marks, kind, threshold) {
  if (marks.shares) return percent(marks.shares[kind]);
  if (marks.spots.length) return percent(marks.spots.find((one) => one.kind === kind)?.probability ?? 0);
  return number(marks.outlines.filter((one) => one.kind === kind && one.probability >= threshold).length);
}

function wordsOf(marks, shown, threshold) {
  if (marks.areas) return `${marks.width} × ${marks.height} pixels, each with its class.`;
  const all = marks.outlines.length + marks.spots.length;
  const what = marks.spots.length ? "points" : "objects";
  if (!all) return "Nothing is found, however low the score.";
  return `${number(shown.length)} of ${number(all)} ${what} have ${percent(threshold)} or more, and are drawn.`;
}

/** The objects or points that are drawn, as a table; a button for each marks it in the picture. */
function listOf(marks, shown, view, onchoose) {
  if (!shown.length) return make("div", {});
  const spots = marks.spots.length > 0;
  const heads = ["", spots ? "point" : "class", spots ? "confidence" : "score", ...(spots ? ["x", "y"] : ["left", "top", "right", "bottom"])];
  const rows = shown.map((one) => {
    const places = spots ? [one.x, one.y] : edges(one.corners);
    const button = make("button", { type: "button", "aria-pressed": String(view.chosen === one.number), "aria-label": `Mark ${spots ? "point" : "object"} ${one.number + 1}, ${marks.names[one.kind]}`, onclick: () => onchoose(view.chosen === one.number ? null : one.number) }, String(one.number + 1));
    return make("tr", {}, make("th", { scope: "row" }, button), make("td", { class: "text" }, marks.names[one.kind]), make("td", {}, percent(one.probability)), places.map((value) => make("td", {}, String(Math.round(value)))));
  });
  return make("div", { class: "wide-frame", tabindex: "0", role: "region", "aria-label": spots ? "Points" : "Objects" },
    make("table", {}, make("caption", {}, "In pixels of the file."),
      make("thead", {}, make("tr", {}, heads.map((head, k) => (k ? make("th", { scope: "col", class: k === 1 ? "text" : null }, head) : make("td", {}))))), make("tbody", {}, rows)));
}

/** Left, top, right and bottom of an outline. */
function edges(corners) {
  const [xs, ys] = [0, 1].map((axis) => corners.map((corner) => corner[axis]));
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}
