// One run, as it goes: figures, curves, filters, histograms, findings.
import { remember, state } from "./address.js";
import { ask } from "./api.js";
import { make, number } from "./dom.js";
import { lineChart } from "./line_chart.js";
import { problem } from "./problem.js";
import { filterSheet } from "./train_filters.js";
import { layerHistograms } from "./train_layers.js";

const STATES = {
  preparing: "Reading the data and deciding what is open; the doctor looks before the first step.",
  training: "Training.",
  finishing: "Trained; measuring all splits and writing the report.",
  stopping: "Stopping after this step, to save.",
  paused: "Paused: everything is saved, and it can go on, bit for bit as if it had never stopped.",
  stopped: "Stopped before its first step: there is nothing to keep.",
  finished: "Finished.",
  failed: "It could not be carried out.",
  elsewhere: "Trained by a program that this lab has not started: it can be watched, and ended where it runs.",
};
const LIVE = ["preparing", "training", "finishing", "stopping", "elsewhere"];
const SECOND = 1000;

/** The view of a run: `show(name)` follows another one. `onend(name)`: the run being shown has come to an end. */
export function runView(onend) {
  const parts = makeParts();
  let name = null;
  let rows = [];
  let last = null; // the newest answer
  let timer = 0;
  const wanted = () => (state().look ? Number(state().look) : null);

  async function poll() {
    const mine = name;
    clearTimeout(timer);
    if (!mine) return;
    let answer;
    try {
      answer = await ask("train/follow", { run: mine, known: rows.length });
      if (answer.epochs_done < rows.length) { // it went on from an earlier checkpoint
        rows = [];
        answer = await ask("train/follow", { run: mine });
      }
    } catch (error) {
      if (mine === name) {
        parts.body.hidden = true;
        parts.nothing.hidden = false;
        parts.nothing.replaceChildren(problem(error));
      }
      return;
    }
    if (mine !== name) return;
    rows = rows.concat(answer.rows);
    if (last && LIVE.includes(last.state) && !LIVE.includes(answer.state)) onend(mine);
    last = answer;
    await drawAll(answer);
    if (mine === name) timer = setTimeout(poll, document.hidden ? 5 * SECOND : LIVE.includes(answer.state) ? SECOND : 5 * SECOND);
  }
  async function drawAll(answer) {
    parts.seen.hidden = !answer.steps; // nothing was trained
    drawState(parts, answer, rows.at(-1)?.step ?? 0, act);
    drawCurves(parts, rows, answer.look);
    drawFindings(parts, answer);
    drawLookSlider(parts, answer, wanted(), rows.at(-1)?.step ?? 0);
    await drawLook();
  }
  async function drawLook() {
    const step = wanted();
    if (!last) return;
    const look = step === null ? last.look : (await ask("train/look", { run: name, step })).look;
    const key = look ? `${name} ${look.step} ${look.layers_step}` : "";
    if (parts.looks.dataset.key === key) return;
    parts.looks.dataset.key = key;
    parts.filters.replaceChildren(...(look ? [filterSheet(look.filters, look.step)] : [make("p", { class: "faint" }, noLook(last))]));
    parts.layers.replaceChildren(...(look ? [make("h2", {}, "Layers"), layerHistograms(look.layers, look.layers_step)] : []));
  }
  async function act(path, body) {
    try {
      parts.problem.replaceChildren();
      await ask(`train/${path}`, {}, { body: body ?? {} });
    } catch (error) {
      parts.problem.replaceChildren(problem(error));
    }
    await poll();
  }
  parts.slider.addEventListener("input", async () => {
    const steps = last?.looks ?? [];
    const place = Number(parts.slider.value);
    remember({ look: place >= steps.length - 1 ? null : steps[place] });
    drawLookSlider(parts, last, wanted(), rows.at(-1)?.step ?? 0);
    await drawLook();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  return {
    element: parts.element,
    show(other) {
      name = other || null;
      rows = [];
      last = null;
      parts.looks.dataset.key = "-";
      parts.body.hidden = !name;
      parts.nothing.hidden = Boolean(name);
      parts.nothing.replaceChildren(make("p", {}, "Start a training, or choose a run to watch."));
      parts.problem.replaceChildren();
      parts.heading.textContent = name ?? "No run";
      return poll();
    },
  };
}

function makeParts() {
  const table = (columns) => ({ rows: (series) => {
    const steps = [...new Set(series.filter((one) => !one.dots).flatMap((one) => one.points.map(([x]) => x)))].sort((a, b) => a - b);
    const lines = series.filter((one) => !one.dots);
    return { heads: ["step", ...lines.map((one) => one.name)], rows: steps.map((step) => [number(step), ...lines.map((one) => number(one.points.find(([x]) => x === step)?.[1]))]) };
  }, ...columns });
  const loss = lineChart("Loss", "step", table({}));
  const score = lineChart("Accuracy", "step", table({ percent: true }));
  const heading = make("h2", { tabindex: "-1" }, "No run");
  const status = make("p", { role: "status" });
  const buttons = make("div", { class: "row" });
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Steps done" });
  const figures = make("dl", { class: "figures" });
  const problemPlace = make("div", {});
  const findings = make("div", {});
  const filters = make("div", {});
  const layers = make("div", {});
  const slider = make("input", { type: "range", min: 0, max: 0, step: 1, value: 0, "aria-label": "Which look is shown" });
  const when = make("span", { class: "faint" });
  const said = make("div", {});
  const looks = make("section", { class: "card", "aria-label": "Filters and layers" }, make("h2", {}, "Filters of the first layer"),
    make("div", { class: "row look-row" }, slider, when), filters, layers);
  const nothing = make("div", {});
  const seen = make("div", {}, make("div", { class: "charts" }, loss.element, score.element), looks, make("section", { "aria-label": "Findings" }, findings));
  const body = make("div", { hidden: true }, status, problemPlace, buttons, bar, figures, seen, said);
  const element = make("section", { class: "run-view", "aria-label": "The run" }, heading, nothing, body);
  return { element, heading, nothing, body, seen, status, buttons, bar, figures, problem: problemPlace, loss, score, findings, filters, layers, slider, when, said, looks };
}

function drawState(parts, answer, lastRow, act) {
  const told = STATES[answer.state];
  if (parts.status.textContent !== told) parts.status.textContent = told;
  const can = {
    "Pause or stop": answer.own && ["training", "preparing"].includes(answer.state) ? () => act("stop") : null,
    "Go on": answer.state === "paused" ? () => act("resume", { run: parts.heading.textContent }) : null,
  };
  const wanted = Object.keys(can).filter((label) => can[label]);
  if (parts.buttons.dataset.labels !== wanted.join()) {
    parts.buttons.dataset.labels = wanted.join();
    parts.buttons.replaceChildren(...wanted.map((label) => make("button", { type: "button", onclick: can[label] }, label)));
  }
  const step = answer.look?.step ?? 0;
  const done = answer.state === "finished" ? answer.steps : Math.max(step, lastRow, answer.saved_step);
  parts.bar.hidden = !answer.steps;
  parts.bar.max = answer.steps || 1;
  parts.bar.value = done ?? 0;
  parts.bar.textContent = `${done} of ${answer.steps}`;
  const live = answer.look && ["training", "elsewhere"].includes(answer.state);
  const test = answer.result?.test;
  const list = [
    ["data", answer.data], ["network", answer.model],
    ["step", answer.steps ? `${number(done)} of ${number(answer.steps)}` : null],
    ["epochs done", answer.epochs ? `${number(answer.epochs_done)} of ${number(answer.epochs)}` : answer.epochs_done ? number(answer.epochs_done) : null],
    ["loss of the last batch", live ? number(answer.look.loss) : null],
    ["learning rate", live ? number(answer.look.lr) : answer.lr ? `${number(answer.lr)} at most` : null],
    ["optimizer", answer.optimizer],
    ["time left", live && answer.look.left !== null ? `about ${time(answer.look.left)}` : null],
    ["test accuracy", test?.accuracy === undefined ? null : `${number(100 * test.accuracy)} % (95 %: ${number(100 * test.accuracy_interval[0])} to ${number(100 * test.accuracy_interval[1])}, n = ${number(test.n)})`],
    ["test RMSE", test?.rmse === undefined ? null : `${number(test.rmse)} (n = ${number(test.n)})`],
    ["test IoU", test?.iou === undefined ? null : `${number(100 * test.iou)} % (n = ${number(test.n)})`],
  ].filter(([, value]) => value);
  parts.figures.replaceChildren(...list.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  parts.problem.replaceChildren(...(answer.refusal ? [make("div", { class: "card problem", role: "alert" }, make("strong", { class: "error" }, answer.refusal.where),
    make("dl", {}, ["got", "expected", "remedy"].map((key) => [make("dt", {}, key), make("dd", {}, answer.refusal[key])])))] : []));
  const goOn = answer.state === "paused" ? [make("p", { class: "faint" }, "In a terminal: ", make("code", {}, `striate train --resume ${answer.path}`))] : [];
  const lines = [...answer.notes, ...(answer.own ? ["", ...answer.said] : [])].join("\n").trim();
  const open = parts.said.querySelector("details")?.open;
  parts.said.replaceChildren(...goOn, ...(lines ? [make("details", { open }, make("summary", {}, "What it decided, and says"), make("pre", { class: "wrapped" }, lines))] : []));
}

function drawCurves(parts, rows, look) {
  const column = (name) => rows.filter((row) => row[name] !== null && row[name] !== undefined).map((row) => [row.step, row[name]]);
  const score = ["accuracy", "iou", "rmse"].find((name) => rows[0] && `val_${name}` in rows[0]);
  parts.loss.update([
    { name: "training, mean of an epoch", points: column("train_loss") },
    { name: "validation", points: column("val_loss") },
    { name: "single batches", points: look?.losses ?? [], dots: true },
  ].sort((a, b) => Number(Boolean(a.dots)) - Number(Boolean(b.dots))));
  parts.score.element.hidden = score !== "accuracy";
  parts.score.update([
    { name: "training, mean of an epoch", points: column("train_accuracy") },
    { name: "validation", points: column("val_accuracy") },
  ]);
}

function drawFindings(parts, answer) {
  const key = JSON.stringify(answer.findings) + answer.state;
  if (parts.findings.dataset.key === key) return;
  parts.findings.dataset.key = key;
  const none = answer.state === "preparing" ? "Not looked yet." : `None${LIVE.includes(answer.state) ? " so far" : ""}: neither before the first step, nor in the curves.`;
  parts.findings.replaceChildren(make("h2", {}, "What the doctor finds"), ...(answer.findings.length ? answer.findings.map((one) => make("div", { class: `remark is-${one.severity}` },
    make("strong", { class: one.severity === "error" ? "error" : one.severity === "warning" ? "warning" : "" }, `${one.severity}: ${one.where}: ${one.measured}.`), ` ${one.why} ${one.remedy}`)) : [make("p", { class: "faint" }, none)]));
}

function drawLookSlider(parts, answer, wanted, lastRow) {
  const steps = answer?.looks ?? [];
  parts.slider.hidden = steps.length < 2;
  parts.slider.max = Math.max(0, steps.length - 1);
  const place = wanted === null ? steps.length - 1 : steps.reduce((best, step, k) => (Math.abs(step - wanted) < Math.abs(steps[best] - wanted) ? k : best), 0);
  parts.slider.value = Math.max(0, place);
  const words = steps.length ? `after step ${number(steps[Math.max(0, place)])}${newestWords(answer, steps, wanted, lastRow)}` : "";
  parts.slider.setAttribute("aria-valuetext", words);
  parts.when.textContent = words;
}

/** What is said of the newest look: of a run that has ended, that it went on when nobody watched. */
function newestWords(answer, steps, wanted, lastRow) {
  if (wanted !== null) return "";
  if (answer.state === "finished" && lastRow > steps.at(-1)) return `, the last that was watched; the training went on to step ${number(lastRow)}`;
  return steps.length > 1 ? ", the newest" : "";
}

function noLook(answer) {
  if (answer.state === "preparing") return "There is no network yet.";
  if (answer.state === "finishing") return "Nothing was looked at: the training was over too soon.";
  if (LIVE.includes(answer.state)) return "The first look comes a second or two after the first step. Trainings in several processes leave none.";
  return "A training leaves looks only while it is watched; nobody watched this one, or it was too short.";
}

function time(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
