"""What is written once training is over: measurements of every split, pictures, metrics.json, the report."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from striate.account.count import count_macs, count_parameters, layer_rows
from striate.evaluation.measure import evaluate_split
from striate.evaluation.record import Evaluation
from striate.report.content import ModelFacts, Picture, PictureKind, ReportContent, Table
from striate.report.write import write_report
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import RunDirectory
from striate.runs.files import write_json
from striate.training.config_file import config_to_yaml
from striate.training.prepare import Prepared
from striate.training.session import append_event
from striate.visualize.canvas import of_split, save_figure
from striate.visualize.confusion import confusion_figure
from striate.visualize.curves import curves_figure
from striate.visualize.gallery import Tile, gallery_figure
from striate.visualize.masks import masks_figure
from striate.visualize.scatter import scatter_figure

_SHOWN = 20  # samples in the gallery
_FOLLOWED = {"classify": "accuracy", "regress": "rmse", "segment": "iou"}


def finish_run(run: RunDirectory, prepared: Prepared) -> dict[str, Any]:
    """Measure the best epoch's network on every split and write plots, report.html and metrics.json, in this order.

    metrics.json comes last: where it is, the run is complete. Returns its content. Raises RunError.
    """
    prepared.state.module.load_state_dict(load_checkpoint(run.best, prepared.device)["model"])
    evaluations = {name: _evaluate(prepared, name) for name in ("train", "val", "test")}
    metrics = _metrics(prepared, evaluations)
    pictures = _pictures(run, prepared, evaluations["test"])
    write_report(run.report, _content(run, prepared, evaluations, metrics, pictures))
    write_json(run.metrics_json, metrics)
    append_event(run, "finished", test=metrics["test"])
    return metrics


def _evaluate(prepared: Prepared, split: str) -> Evaluation:
    return evaluate_split(
        prepared.state.module,
        prepared.task,
        prepared.splits[split],
        normalize=prepared.normalize,
        device=prepared.device,
        data_name=prepared.data.name,
        split_name=split,
        classes=prepared.data.classes,
    )


def _metrics(prepared: Prepared, evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    config, history = prepared.config, prepared.state.history
    seconds = sum(row.seconds for row in history)
    return {
        "task": prepared.task.name,
        "model": config.model.name,
        "data": prepared.data.name,
        "params": count_parameters(prepared.state.module),
        "macs": count_macs(prepared.state.module, prepared.data.input_shape),
        "epochs": len(history),
        "best_epoch": _best_epoch(prepared),
        "train_seconds": round(seconds, 3),
        "images_per_second": round(sum(row.samples for row in history) / seconds, 1) if seconds else None,
        "device": config.execution.device,
        "plan": asdict(config.execution),
        **{name: evaluation.metrics for name, evaluation in evaluations.items()},
    }


def _best_epoch(prepared: Prepared) -> int:
    rows = prepared.state.history
    return max(rows, key=lambda row: (prepared.task.score(row.val), row.epoch)).epoch


def _pictures(run: RunDirectory, prepared: Prepared, test: Evaluation) -> list[Picture]:
    """Draw into `plots/`: learning curves, and what the task's answers look like."""
    name, followed = prepared.data.name, _FOLLOWED[prepared.task.name]
    of_test = of_split(name, "test", test.n)
    pictures: list[Picture] = []

    def add(figure: Figure, file: str, title: str, caption: str, kind: PictureKind) -> None:
        pictures.append(Picture(title, caption, save_figure(figure, run.plots / file), kind))

    rows = [row.flat() for row in prepared.state.history]
    curves = curves_figure(rows, metric=followed, title=f"{name}: learning curves", best_epoch=_best_epoch(prepared))
    train_note = "Training figures are measured on augmented batches while the weights change."
    add(curves, "curves.png", "Learning curves", f"Loss, {followed} and learning rate by epoch. {train_note}", "curves")
    if test.confusion is not None:
        figure = confusion_figure(test.confusion, test.classes, title=of_test)
        add(figure, "confusion.png", "Confusion matrix", f"{of_test}. Rows are true classes.", "confusion")
    if prepared.task.name == "regress":
        figure = scatter_figure(test.decoded, test.targets, prepared.data.target_names, title=of_test)
        add(figure, "scatter.png", "Predicted against true", f"{of_test}. On the line: exactly right.", "scatter")
    if prepared.data.kind == "image" and prepared.data.input_shape[0] in (1, 3):
        samples = _samples(prepared, test, of_test)
        if samples is not None:
            caption = f"{of_test}: samples spread evenly over the split, in its order; none was selected."
            add(samples, "samples.png", "Samples with their answers", caption, "samples")
    return pictures


def _samples(prepared: Prepared, test: Evaluation, title: str) -> Figure | None:
    """Test samples spread over the whole split: neither the best nor the worst."""
    chosen = np.unique(np.linspace(0, test.n - 1, min(_SHOWN, test.n)).astype(int))
    images = prepared.data.splits["test"].inputs[chosen.tolist()].numpy()
    if prepared.task.name == "segment":
        rows = chosen[:5]
        return masks_figure(images[:5], test.targets[rows], test.decoded[rows], test.classes, title=title)
    if prepared.task.name != "classify":
        return None
    tiles = []
    for image, row in zip(images, chosen, strict=True):
        answer, truth = int(test.decoded[row].argmax()), int(test.targets[row])
        probability = float(test.decoded[row][answer])
        tiles.append(Tile(image, test.classes[answer], probability, test.classes[truth], answer == truth))
    return gallery_figure(tiles, title=title)


def _content(
    run: RunDirectory,
    prepared: Prepared,
    evaluations: dict[str, Evaluation],
    metrics: dict[str, Any],
    pictures: list[Picture],
) -> ReportContent:
    data, config = prepared.data, prepared.config
    reason = next((n for n in prepared.notes if n.startswith("model ")), "chosen by the user")
    shape = "×".join(map(str, data.input_shape))
    counts = tuple((name, len(split)) for name, split in data.splits.items())
    return ReportContent(
        title=f"{config.model.name} on {data.name}",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        task=prepared.task.name,
        data=(f"{data.name} from {data.source}; each input is {shape}, a {data.kind}.",),
        splits=Table("Samples in each split", ("split", "samples"), counts),
        model=ModelFacts(config.model.name, reason, metrics["params"], metrics["macs"], _layers(prepared)),
        metrics={name: evaluation.metrics for name, evaluation in evaluations.items()},
        evaluation=evaluations["test"],
        history=[row.flat() for row in prepared.state.history],
        config=config_to_yaml(config),
        environment=_flat_environment(run.environment),
        command=f"striate train --config {shlex.quote(str(run.config))} --out {shlex.quote(str(run.path) + '-again')}",
        findings=data.findings,
        notes=prepared.notes,
        pictures=pictures,
        target_names=data.target_names,
    )


def _layers(prepared: Prepared) -> Table:
    rows = layer_rows(prepared.state.module, prepared.data.input_shape)
    return Table("Layers in the order of execution", ("layer", "kind", "output", "parameters"), rows)


def _flat_environment(path: Path) -> dict[str, object]:
    environment: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    packages = environment.pop("packages", {})
    return {k: v for k, v in (environment | packages).items() if v not in (None, [])}
