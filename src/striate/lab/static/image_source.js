// The chooser of an image, shared by all pages: a sample of data, an upload, the webcam, or a drawing.
import { apiAddress, request } from "./api.js";
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
  const panel = make("div", {});
  const { sets } = await request("images/sets");
  let chosen = null;

  async function show(wanted, image = null) {
    try {
      chosen = image ?? (await request("images/about", { name: wanted }));
    } catch (error) {
      now.replaceChildren(problem(error));
      return;
    }
    const words = [chosen.label, chosen.title, `${chosen.width} × ${chosen.height} pixels`, ...chosen.notes];
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
      now.replaceChildren(problem(error));
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
  root.append(now, make("div", { class: "row", role: "group", "aria-label": "Where the image comes from" }, buttons), panel);
  takeDrops(root, send);
  root.show = show;
  open("Sample");
  await show(name ?? `${sets[0].name}#0`);
  return root;
}

/** Small pictures of a set, some at a time. */
function samples(sets, current, show) {
  const list = make("ul", { class: "samples" });
  const root = make("div", {});
  let data = sets.find((one) => current()?.startsWith(`${one.name}#`))?.name ?? sets[0].name;
  let start = 0;
  async function load() {
    try {
      const response = await request("images/samples", { data, start, count: PER_PAGE });
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
  const file = make("input", { type: "file", accept: "image/*", onchange: () => file.files[0] && send(file.files[0], { title: file.files[0].name }) });
  return make("div", {}, labeled("A picture of at most 16 MiB; it stays on this machine", file), make("p", { class: "faint" }, "Or drop one here, or paste it."));
}

/** A picture that is dropped on the chooser, or pasted while it has the focus. */
function takeDrops(root, send) {
  root.addEventListener("dragover", (event) => { event.preventDefault(); root.classList.add("drop"); });
  root.addEventListener("dragleave", () => root.classList.remove("drop"));
  const take = (event, files) => {
    if (!files?.length) return;
    event.preventDefault();
    send(files[0], { title: files[0].name });
  };
  root.addEventListener("drop", (event) => { root.classList.remove("drop"); event.preventDefault(); take(event, event.dataTransfer.files); });
  root.addEventListener("paste", (event) => take(event, event.clipboardData.files));
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
