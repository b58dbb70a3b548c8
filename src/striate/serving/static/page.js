// One page to try a served network by hand.
const at = (id) => document.getElementById(id);
const shown = new URLSearchParams(location.search).get("token");
let token = shown ?? sessionStorage.getItem("token") ?? "";
if (shown !== null) history.replaceState(null, "", "/"); // it would stay in the history
at("token").value = token;

const made = (name, text = "", className = "") => {
  const element = document.createElement(name);
  element.textContent = text;
  element.className = className;
  return element;
};

async function asked(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { Authorization: `Bearer ${token}` } });
  const content = await answer.json();
  if (content.error?.got) throw new Error(`${content.error.got}; expected: ${content.error.expected}`);
  return content;
}

async function open() {
  if (!token) return;
  try {
    const runs = await asked("/runs");
    sessionStorage.setItem("token", token);
    at("token-line").hidden = true;
    at("run").replaceChildren(...runs.map((run) => made("option", run.run)));
    at("run-line").hidden = runs.length < 2;
    const classes = runs[0].classes.length ? `, ${runs[0].classes.length} classes` : "";
    at("about").textContent = `${runs[0].run}: ${runs[0].task}${classes}.`;
    at("status").textContent = "";
  } catch (error) {
    at("status").textContent = error.message;
  }
}

function bars(line) {
  const box = made("div");
  for (const [label, probability] of line.top ?? []) {
    const row = made("div", "", "row");
    const bar = made("progress");
    bar.max = 1;
    bar.value = probability;
    bar.setAttribute("aria-label", label);
    row.append(made("span", label), bar, made("span", `${(100 * probability).toFixed(1)} %`));
    box.append(row);
  }
  return box;
}

const shape = (name, attributes, text = "") => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
};

// Boxes and points, in pixels of the picture.
function drawn(line, width, height) {
  const over = shape("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  for (const { label, probability, box, angle } of line.boxes ?? []) {
    const [left, top, right, bottom] = box;
    const turned = angle ? { transform: `rotate(${-angle} ${(left + right) / 2} ${(top + bottom) / 2})` } : {};
    const edges = shape("rect", { x: left, y: top, width: right - left, height: bottom - top, ...turned });
    edges.append(shape("title", {}, `${label}, ${(100 * probability).toFixed(1)} %`));
    over.append(edges);
  }
  for (const [name, x, y] of line.points ?? []) {
    const point = shape("circle", { cx: x, cy: y, r: Math.max(width, height) / 100 });
    point.append(shape("title", {}, name));
    over.append(point);
  }
  return over;
}

function entry(file, line) {
  const item = made("li");
  const frame = made("div", "", line.boxes || line.points ? "picture large" : "picture");
  const picture = made("img");
  picture.alt = "";
  picture.addEventListener("load", () => {
    frame.append(drawn(line, picture.naturalWidth, picture.naturalHeight));
    URL.revokeObjectURL(picture.src);
  });
  picture.addEventListener("error", () => picture.remove()); // a sound, a clip, a volume
  picture.src = URL.createObjectURL(file);
  frame.append(picture);
  const said = made("div");
  said.append(made("div", file.name, "name"));
  if (line.error) said.append(made("div", line.error, "wrong"));
  if (line.caption) said.append(made("div", line.caption));
  const all = made("details");
  all.open = !(line.top || line.caption || line.boxes || line.points || line.error);
  all.append(made("summary", "JSON"), made("pre", JSON.stringify(line, null, 1)));
  said.append(bars(line), all);
  item.append(frame, said);
  return item;
}

async function predict(files) {
  for (const file of files) {
    at("status").textContent = `${file.name} …`;
    try {
      const query = new URLSearchParams({ name: file.name });
      if (at("run").value) query.set("run", at("run").value);
      at("answers").prepend(entry(file, await asked(`/predict?${query}`, { method: "POST", body: file })));
      at("status").textContent = "";
    } catch (error) {
      at("status").textContent = `${file.name}: ${error.message}`;
    }
  }
}

at("token").addEventListener("change", () => { token = at("token").value.trim(); open(); });
at("ask").addEventListener("submit", (event) => event.preventDefault());
at("files").addEventListener("change", () => { predict([...at("files").files]); });
for (const name of ["dragover", "dragleave", "drop"]) {
  at("drop").addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") predict([...event.dataTransfer.files]);
  });
}
open();
