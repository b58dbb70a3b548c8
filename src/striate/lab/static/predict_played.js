// Predict, for a run on sounds, clips or volumes: a file is played or drawn, and predicted; for sounds with an
// attribution map.
import { followAddress, remember, state } from "./address.js";
import { apiAddress, latest, request } from "./api.js";
import { choice, labeled, make, percent } from "./dom.js";
import { takeDrops } from "./image_source.js";
import { problem } from "./problem.js";

const SMALL = 480; // pixels of the window

/** `about`: the response of predict/files. */
export function playedPage(root, about) {
  const ask = latest();
  const chooser = make("section", { class: "card", "aria-label": `Which of the ${about.many}` });
  const result = make("div", {});
  const said = make("p", { class: "hidden", role: "status" });
  root.append(make("div", { class: "columns" }, make("div", {}, chooser), make("div", {}, result, said)));
  let start = 0;
  let chosen = null;

  async function show(name) {
    chosen = name;
    result.classList.add("busy");
    try {
      const found = await ask("predict/shown", { name });
      if (found === undefined) return;
      remember({ file: name.startsWith("sent:") ? null : name });
      draw(found);
    } catch (error) {
      result.replaceChildren(problem(error));
    } finally {
      result.classList.remove("busy");
    }
  }

  function draw(found) {
    said.textContent = found.line;
    const evidence = make("div", {});
    const listen = make("button", { type: "button", onclick: () => explain(found.name, evidence, listen) }, "What it listened to");
    result.replaceChildren(
      make("h2", {}, [found.title, found.label].filter(Boolean).join(": ")),
      ...(about.player ? [make(about.player, { controls: true, src: apiAddress("predict/file", { name: found.name }), "aria-label": "What the network hears of it" })] : []),
      ...(found.legend.length ? [] : [make("ol", { class: "tops" }, (found.top ?? [[found.line, null]]).map(([name, share]) => make("li", {}, make("span", {}, name), share === null ? null : make("span", {}, percent(share)))))]),
      ...found.pictures.map((one) => make("figure", { class: "played" }, make("figcaption", { class: "faint" }, one.title), make("img", { src: one.picture, alt: `${one.title} of ${found.title}`, onload: enlargeSmall }))),
      ...(found.legend.length ? [make("ul", { class: "legend" }, found.legend.map((one) => {
        const swatch = make("span", { class: one.color ? "swatch" : "swatch none", "aria-hidden": "true" });
        if (one.color) swatch.style.background = `rgb(${one.color.join(" ")})`;
        return make("li", {}, swatch, make("span", {}, one.name), make("span", { class: "count faint" }, percent(one.share)));
      }))] : []),
      ...(found.explained && about.player ? [listen, evidence] : []));
  }

  async function explain(name, place, button) {
    button.disabled = true;
    place.replaceChildren(make("p", { class: "faint" }, "Looking, with checks: some seconds."));
    try {
      const found = await request("predict/evidence", { name });
      place.replaceChildren(
        make("figure", { class: "played" }, make("figcaption", { class: "faint" }, `${found.title}: orange speaks for the prediction, blue against it.`), make("img", { src: found.picture, alt: `Where and at which pitch: ${found.title}` })),
        ...found.lines.map((line) => make("p", {}, line)));
    } catch (error) {
      place.replaceChildren(problem(error));
    }
    button.disabled = false;
  }

  async function send(file) {
    try {
      const sent = await request("predict/upload", { title: file.name }, { body: file });
      await show(sent.name);
    } catch (error) {
      result.replaceChildren(problem(error));
    }
  }

  const asked = () => (/^run#\d{1,11}$/.test(state().file ?? "") ? state().file : null);

  async function fill() {
    const { files } = start ? await request("predict/files", { start }) : about;
    if (start === 0 && chosen === null) chosen = asked() ?? files[0].name;
    const select = choice(files.map((one) => ({ value: one.name, text: [one.label, one.title].filter(Boolean).join(": ") })), chosen, show);
    select.className = "wide";
    const more = make("button", { type: "button", hidden: about.total <= files.length, onclick: () => { start = start + files.length >= about.total ? 0 : start + files.length; fill(); } }, "Others");
    const file = make("input", { type: "file", accept: about.accept, onclick: () => { file.value = ""; }, onchange: () => file.files[0] && send(file.files[0]) });
    chooser.replaceChildren(labeled(`The run's ${about.many}`, select), more, labeled("A file of at most 16 MiB; it stays on this machine", file), make("p", { class: "faint" }, "Or drop one on the page, or paste it."));
  }

  takeDrops(chooser, send);
  fill().then(() => show(chosen));
  followAddress(() => { if (asked() && asked() !== chosen) show(asked()); });
}

/** A small picture is enlarged by a whole number, and has pixels that one should see. */
function enlargeSmall({ target: image }) {
  const times = Math.floor(SMALL / image.naturalWidth);
  if (times < 2) return;
  image.width = times * image.naturalWidth;
  image.classList.add("pixels");
}
