// The chooser of an image, shared by all pages: a sample of data, an upload, the webcam, or a drawing.
import { apiAddress, latest, request } from "./api.js";
import { choice, labeled, make } from "./dom.js";
import { drawingBoard } from "./drawing_board.js";
import { problem } from "./problem.js";

const PER_PAGE = 24;

/** The chooser as an element. `name`: the image to begin with, as it stands in an address; null takes the first sample.
 * `onchange(image)` gets { name, title, label, width, height, channels, notes } of it, and of each one chosen later.
 * `show(name)` of the element chooses an image by its name. */
export async function imageSource(name, onchange) {
  const root = make("section", { class: "image-source", "aria-label": "Image" });
  const now = make("div", { class: "row" });
  const refused = make("div", {});
  const panel = make("div", {});
  const { sets } = await request("images/sets");
  let chosen = null;
  let choices = 0;

  async function show(wanted, image = null) {
    const mine = (choices += 1);
    try {
      const found = image ?? (await request("images/about", { name: wanted }));
      if (mine !== choices) return; // another one was chosen meanwhile
      chosen = found;
    } catch (error) {
      if (mine === choices) refused.replaceChildren(problem(error));
      return;
    }
    const words = [chosen.label, chosen.title, `${chosen.width} × ${chosen.height} pixels`, ...chosen.notes];
    refused.replaceChildren();
    now.replaceChildren(
      make("img", { class: "pixels chosen", src: apiAddress("images/picture", { name: chosen.name, side: 128 }), alt: "", width: 56, height: 56 }),
      make("span", { class: "faint" }, words.filter(Boolean).join(", ")));
    for (const button of panel.querySelectorAll("[data-image]")) {
      button.setAttribute("aria-pressed", String(button.dataset.image === chosen.name));
    }
    onchange(chosen);
  }

  async function send(blob, values) {
    panel.classList.add("busy");
    try {
      const image = await request("images/upload", values, { body: blob });
      await show(image.name, image);
    } catch (error) {
      refused.replaceChildren(problem(error));
    } finally {
      panel.classList.remove("busy");
    }
  }

  const ways = {
    Sample: () => samples(sets, () => chosen?.name, show),
    Upload: () => upload(send),
    Webcam: () => webcam(send),
    Draw: () => drawingBoard((blob) => send(blob, { title: "drawing", gray: true })),
  };
  const buttons = Object.keys(ways).map((way) => make("button", { type: "button", "aria-pressed": "false", onclick: () => open(way) }, way));
  function open(way) {
    panel.querySelector("video")?.srcObject?.getTracks().forEach((track) => track.stop());
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.textContent === way));
    panel.replaceChildren(ways[way]());
  }
  root.append(now, refused, make("div", { class: "row", role: "group", "aria-label": "Where the image comes from" }, buttons), panel);
  takeDrops(root, (file) => send(file, { title: file.name }));
  root.show = show;
  open("Sample");
  await show(name ?? `${sets[0].name}#0`);
  return root;
}

/** Small pictures of a set, some at a time. */
function samples(sets, current, show) {
  const list = make("ul", { class: "samples" });
  const root = make("div", {});
  const ask = latest();
  let data = sets.find((one) => current()?.startsWith(`${one.name}#`))?.name ?? sets[0].name;
  let start = 0;
  async function load() {
    try {
      const response = await ask("images/samples", { data, start, count: PER_PAGE });
      if (response === undefined) return;
      more.hidden = response.total <= PER_PAGE;
      list.replaceChildren(...response.samples.map((sample) => make("li", {},
        make("button", {
          type: "button", title: sample.label, "data-image": sample.name, disabled: sample.picture === null,
          "aria-pressed": String(sample.name === current()), "aria-label": `${sample.label || "sample"}, ${sample.name}`,
          onclick: () => show(sample.name),
        }, make("img", { src: sample.picture ?? "/static/icon.svg", alt: "" })))));
    } catch (error) {
      list.replaceChildren(problem(error));
    }
  }
  const select = choice(sets.map((one) => ({ value: one.name, text: `${one.name === "run" ? one.title : one.name} (${one.samples.toLocaleString("en-US")})` })), data, (value) => {
    data = value;
    start = 0;
    load();
  });
  select.className = "wide";
  const more = make("button", { type: "button", onclick: () => { start += PER_PAGE; load(); } }, "Others");
  root.append(labeled("Data", select), list, more);
  load();
  return root;
}

function upload(send) {
  const file = make("input", { type: "file", accept: "image/*", onclick: () => { file.value = ""; }, onchange: () => file.files[0] && send(file.files[0], { title: file.files[0].name }) });
  return make("div", {}, labeled("A picture of at most 16 MiB; it stays on this machine", file), make("p", { class: "faint" }, "Or drop one on the page, or paste it."));
}

/** Take a file that is dropped anywhere on the page, or pasted: `take(file)`. `root` is marked while one is dragged. */
export function takeDrops(root, take) {
  const drags = (event) => event.dataTransfer.types.includes("Files"); // and no text into a field
  document.addEventListener("dragover", (event) => { if (drags(event)) { event.preventDefault(); root.classList.add("drop"); } });
  document.addEventListener("dragleave", () => root.classList.remove("drop"));
  const first = (event, files) => {
    root.classList.remove("drop");
    if (!files.length) return;
    event.preventDefault();
    take(files[0]);
  };
  document.addEventListener("drop", (event) => first(event, event.dataTransfer.files));
  document.addEventListener("paste", (event) => first(event, event.clipboardData.files));
}

function webcam(send) {
  const video = make("video", { class: "webcam", autoplay: true, playsinline: true, muted: true, "aria-label": "What the webcam sees" });
  const words = make("p", { class: "faint" });
  const shoot = make("button", { type: "button", disabled: true, onclick: () => photograph(video, send) }, "Take the picture");
  const start = make("button", {
    type: "button",
    onclick: async () => {
      try {
        video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
        words.textContent = "";
      } catch (error) {
        words.textContent = `No picture from a webcam: ${error.message}. Use another source, or allow the camera for this page.`;
      }
    },
  }, "Start the webcam");
  video.addEventListener("loadeddata", () => { shoot.disabled = false; });
  return make("div", {}, video, make("div", { class: "row" }, start, shoot), words);
}

/** The middle square of what the webcam sees, sent as PNG. */
function photograph(video, send) {
  const side = Math.min(video.videoWidth, video.videoHeight);
  const canvas = make("canvas", { width: Math.min(side, 480), height: Math.min(side, 480) });
  canvas.getContext("2d").drawImage(video, (video.videoWidth - side) / 2, (video.videoHeight - side) / 2, side, side, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => send(blob, { title: "webcam" }), "image/png");
}
