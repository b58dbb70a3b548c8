// One run while it trains: numbers, curves, filters, histograms, findings.
import { remember, state } from "./address.js";
import { LabError, request } from "./api.js";
import { make, number } from "./dom.js";
import { lineChart } from "./line_chart.js";
import { problem } from "./problem.js";
import { filterSheet } from "./train_filters.js";
import { layerHistograms } from "./train_layers.js";

const STATES = {
  preparing: "Reading the data and deciding the open settings; the doctor checks the setup before the first step.",
  training: "Training.",
  finishing: "Trained; measuring all splits and writing the report.",
  stopping: "Stopping after this step, to save.",
  paused: "Paused: everything is saved, and it can go on, bit for bit as if it had never stopped.",
  stopped: "Stopped before its first checkpoint: nothing is saved.",
  finished: "Finished.",
  failed: "The training could not be carried out.",
  elsewhere: "Trained by a program that this lab has not started: it can be watched, and ended where it runs.",
};
const LIVE = ["preparing", "training", "finishing", "stopping", "elsewhere"];
const SECOND = 1000;

/** The view of a run: `show(name)` follows another one. `onend(name)`: the run being shown has come to an end. */
export function runView(onend) {
  const parts = makeParts();
  let name = null;
  let rows = [];
  let last = null; // the newest response
  let timer = 0;
  const wanted = () => (state().look ? Number(state().look) : null);

  async function poll() {
    const mine = name;
    clearTimeout(timer);
    if (!mine) return;
    let response;
    try {
      response = await request("train/follow", { run: mine, known: rows.length });
      if (response.epochs_done < rows.length) { // it went on from an earlier checkpoint
        rows = [];
        response = await request("train/follow", { run: mine });
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
    rows = rows.concat(response.rows);
    if (last && LIVE.includes(last.state) && !LIVE.includes(response.state)) onend(mine);
    last = response;
    await drawAll(response);
    if (mine === name) timer = setTimeout(poll, document.hidden ? 5 * SECOND : LIVE.includes(response.state) ? SECOND : 5 * SECOND);
  }
  async function drawAll(response) {
    parts.seen.hidden = !response.steps && !rows.length; // nothing was trained
    drawState(parts, response, rows.at(-1), act);
    drawCurves(parts, rows, response.look, response.metric);
    drawFindings(parts, response);
    drawSnapshotSlider(parts, response, wanted(), rows.at(-1)?.step ?? 0);
    await drawSnapshot();
  }
  async function drawSnapshot() {
    const step = wanted();
    if (!last) return;
    const snapshot = step === null ? last.look : (await request("train/look", { run: name, step })).look;
    const seen = snapshot?.filters_step ?? snapshot?.step;
    const key = snapshot ? `${name} ${seen} ${snapshot.layers_step}` : "";
    if (parts.snapshots.dataset.key === key) return;
    parts.snapshots.dataset.key = key;
    parts.filters.replaceChildren(...(snapshot ? [filterSheet(snapshot.filters, seen)] : [make("p", { class: "faint" }, noSnapshot(last))]));
    parts.layers.replaceChildren(...(snapshot ? [make("h2", {}, "Layers"), layerHistograms(snapshot.layers, snapshot.layers_step)] : []));
  }
  async function act(path, body) {
    try {
      parts.problem.replaceChildren();
      await request(`train/${path}`, {}, { body: body ?? {} });
    } catch (error) {
      parts.problem.replaceChildren(problem(error));
    }
    await poll();
  }
  parts.slider.addEventListener("input", async () => {
    const steps = last?.looks ?? [];
    const place = Number(parts.slider.value);
    remember({ look: place >= steps.length - 1 ? null : steps[place] });
    drawSnapshotSlider(parts, last, wanted(), rows.at(-1)?.step ?? 0);
    await drawSnapshot();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  return {
    element: parts.element,
    show(other) {
      name = other || null;
      rows = [];
      last = null;
      parts.snapshots.dataset.key = "-";
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
  const charts = make("div", { class: "charts" }, loss.element);
  /** The chart of the metric that a run follows beside the loss. */
  function scoreOf(metric) {
    if (charts.dataset.metric === (metric?.key ?? "")) return;
    charts.dataset.metric = metric?.key ?? "";
    const title = /[A-Z]/.test(metric?.name ?? "") ? metric.name : metric && metric.name[0].toUpperCase() + metric.name.slice(1); // mAP stays
    parts.score = metric && lineChart(title, "step", table({ percent: metric.is_share }));
    charts.replaceChildren(loss.element, ...(metric ? [parts.score.element] : []));
  }
  const heading = make("h2", { tabindex: "-1" }, "No run");
  const status = make("p", { role: "status" });
  const buttons = make("div", { class: "row" });
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Steps done" });
  const figures = make("dl", { class: "figures" });
  const problemPlace = make("div", {});
  const findings = make("div", {});
  const filters = make("div", {});
  const layers = make("div", {});
  const slider = make("input", { type: "range", min: 0, max: 0, step: 1, value: 0, "aria-label": "Snapshot shown" });
  const when = make("span", { class: "faint" });
  const said = make("div", {});
  const snapshots = make("section", { class: "card", "aria-label": "Filters and layers" }, make("h2", {}, "Filters of the first layer"),
    make("div", { class: "row snapshot-row" }, slider, when), filters, layers);
  const nothing = make("div", {});
  const seen = make("div", {}, charts, snapshots, make("section", { "aria-label": "Findings" }, findings));
  const body = make("div", { hidden: true }, status, problemPlace, buttons, bar, figures, seen, said);
  const element = make("section", { class: "run-view", "aria-label": "The run" }, heading, nothing, body);
  const parts = { element, heading, nothing, body, seen, status, buttons, bar, figures, problem: problemPlace, loss, scoreOf, score: null, findings, filters, layers, slider, when, said, snapshots };
  return parts;
}

function drawState(parts, response, row, act) {
  const told = STATES[response.state];
  if (parts.status.textContent !== told) parts.status.textContent = told;
  const can = {
    "Pause or stop": response.own && ["training", "preparing"].includes(response.state) ? () => act("stop") : null,
    "Go on": response.state === "paused" ? () => act("resume", { run: parts.heading.textContent }) : null,
  };
  const wanted = Object.keys(can).filter((label) => can[label]);
  if (parts.buttons.dataset.labels !== wanted.join()) {
    parts.buttons.dataset.labels = wanted.join();
    parts.buttons.replaceChildren(...wanted.map((label) => make("button", { type: "button", onclick: can[label] }, label)));
  }
  const step = response.look?.step ?? 0;
  const done = response.state === "finished" ? response.steps : Math.max(step, row?.step ?? 0, response.saved_step);
  parts.bar.hidden = !response.steps;
  parts.bar.max = response.steps || 1;
  parts.bar.value = done ?? 0;
  parts.bar.textContent = `${done} of ${response.steps}`;
  const live = response.look && ["training", "elsewhere"].includes(response.state);
  const test = response.result?.test;
  // What is known of an earlier step only is called so.
  const at = (known) => (known < done ? `, step ${number(known)}` : "");
  const [lr, lrStep] = row && row.step >= step ? [row.lr, row.step] : [response.look?.lr, step];
  const list = [
    ["data", response.data], ["network", response.model],
    ["step", response.steps ? `${number(done)} of ${number(response.steps)}` : null],
    ["epochs done", response.epochs ? `${number(response.epochs_done)} of ${number(response.epochs)}` : response.epochs_done ? number(response.epochs_done) : null],
    [at(step) ? `loss of a batch${at(step)}` : "loss of the last batch", live ? number(response.look.loss) : null],
    [`learning rate${live ? at(lrStep) : ""}`, live ? number(lr) : response.lr ? `${number(response.lr)} at most` : null],
    ["optimizer", response.optimizer],
    [`time left${at(step)}`, live && response.look.left !== null ? `about ${time(response.look.left)}` : null],
    [`test ${response.metric?.name}`, testText(test, response.metric)],
  ].filter(([, value]) => value);
  parts.figures.replaceChildren(...list.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  parts.problem.replaceChildren(...(response.refusal ? [problem(new LabError(response.refusal))] : []));
  const goOn = response.state === "paused" ? [make("p", { class: "faint" }, "In a terminal: ", make("code", {}, `striate train --resume ${response.path}`))] : [];
  const lines = [...response.notes, ...(response.own ? ["", ...response.said] : [])].join("\n").trim();
  const open = parts.said.querySelector("details")?.open;
  parts.said.replaceChildren(...goOn, ...(lines ? [make("details", { open }, make("summary", {}, "Decisions and messages"), make("pre", { class: "wrapped" }, lines))] : []));
}

/** The metric on the test split, with its 95 % interval; null where there is none. */
function testText(test, metric) {
  const value = metric && test?.[metric.key];
  if (value === null || value === undefined) return null;
  const text = (one) => number(metric.is_share ? 100 * one : one);
  const [low, high] = test[`${metric.key}_interval`] ?? [];
  const interval = low === undefined ? "" : `95 %: ${text(low)} to ${text(high)}, `;
  return `${text(value)}${metric.is_share ? " %" : ""} (${interval}n = ${number(test.n)})`;
}

function drawCurves(parts, rows, snapshot, metric) {
  const column = (name) => rows.filter((row) => row[name] !== null && row[name] !== undefined).map((row) => [row.step, row[name]]);
  parts.loss.update([
    { name: "training, mean of an epoch", points: column("train_loss") },
    { name: "validation", points: column("val_loss") },
    { name: "single batches", points: snapshot?.losses ?? [], dots: true },
  ].sort((a, b) => Number(Boolean(a.dots)) - Number(Boolean(b.dots))));
  parts.scoreOf(metric);
  parts.score?.update([
    { name: "training, mean of an epoch", points: column(`train_${metric.key}`) },
    { name: "validation", points: column(`val_${metric.key}`) },
  ]);
}

function drawFindings(parts, response) {
  const key = JSON.stringify(response.findings) + response.state;
  if (parts.findings.dataset.key === key) return;
  parts.findings.dataset.key = key;
  const none = response.state === "preparing" ? "Not checked yet." : `None${LIVE.includes(response.state) ? " so far" : ""}: neither before the first step, nor in the curves.`;
  parts.findings.replaceChildren(make("h2", {}, "Findings of the doctor"), ...(response.findings.length ? response.findings.map((one) => make("div", { class: `remark is-${one.severity}` },
    make("strong", { class: one.severity === "error" ? "error" : one.severity === "warning" ? "warning" : "" }, `${one.severity}: ${one.where}: ${one.measured}.`), ` ${one.why} ${one.remedy}`)) : [make("p", { class: "faint" }, none)]));
}

function drawSnapshotSlider(parts, response, wanted, lastRow) {
  const steps = response?.looks ?? [];
  parts.slider.hidden = steps.length < 2;
  parts.slider.max = Math.max(0, steps.length - 1);
  const place = wanted === null ? steps.length - 1 : steps.reduce((best, step, k) => (Math.abs(step - wanted) < Math.abs(steps[best] - wanted) ? k : best), 0);
  parts.slider.value = Math.max(0, place);
  const words = steps.length ? `after step ${number(steps[Math.max(0, place)])}${newestWords(response, steps, wanted, lastRow)}` : "";
  parts.slider.setAttribute("aria-valuetext", words);
  parts.when.textContent = words;
}

/** What is added for the newest snapshot: of a finished run, whether it trained on unwatched. */
function newestWords(response, steps, wanted, lastRow) {
  if (wanted !== null) return "";
  if (response.state === "finished" && lastRow > steps.at(-1)) return `, the last that was watched; the training went on to step ${number(lastRow)}`;
  return steps.length > 1 ? ", the newest" : "";
}

function noSnapshot(response) {
  if (response.state === "preparing") return "There is no network yet.";
  if (response.state === "finishing") return "No snapshots: the training was over too soon.";
  if (LIVE.includes(response.state)) return "The first snapshot comes a second or two after the first step. Trainings in several processes write none.";
  return "A training writes snapshots only while a page watches it: none did, or the training was too short.";
}

function time(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
