"""The page of a finished cross-validation: its content, its pictures, and the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from striate.records import Finding
from striate.report.numbers import metric
from striate.report.page import as_base64, page_environment
from striate.runs.directory import RunDirectory, final_command
from striate.runs.environment import read_environment
from striate.runs.files import write_text
from striate.studies.cross_validation.cv_summary import pooled_predictions, sentences
from striate.studies.cross_validation.fold import FoldResult
from striate.studies.cross_validation.plan_cross_validation import CrossValidation
from striate.tasks.registry import is_known, known_metrics, metric_named, metric_text
from striate.training.code_fields import how_to_repeat
from striate.training.config_file import config_to_yaml
from striate.visualize.page_parts import Picture, Table
from striate.visualize.themed_svg import saved_picture
from striate.visualize.training_curves import fold_curves_figure, folds_figure
from striate.wording import number


@dataclass(frozen=True)
class CvContent:
    """The content of the page."""

    title: str
    created: str
    result: str
    """The headline metric."""
    sentences: Sequence[str]
    network: str
    figures: Table
    folds: Table
    dots: Picture
    curves: Picture
    predictions: Picture | None
    """The picture of the pooled predictions. None for masks."""
    predictions_table: Table | None
    """The table of that picture. None for masks."""
    comparisons: Sequence[str]
    """Sentences about the baselines; empty without baselines."""
    baselines: Table | None
    """The table of the baselines. None without baselines."""
    notes: Sequence[str]
    findings: Sequence[Finding]
    config: str
    environment: Mapping[str, object]
    command: str
    final_command: str


def make_content(
    run: RunDirectory,
    study: CrossValidation,
    results: Sequence[FoldResult],
    metrics: Mapping[str, Any],
    pictures: tuple[Picture, Picture, Picture | None],
    table: Table | None,
) -> CvContent:
    """The page of a finished study; `pictures` are the dots, the curves and the predictions."""
    cv, key, data = metrics["cv"], study.first.task.headline, study.pool.data
    macs = "" if metrics["macs"] is None else f", {number(metrics['macs'])} multiply–accumulates for one input"
    compared = metrics.get("baselines", [])
    return CvContent(
        title=f"{metrics['model']} on {data.name}: {cv['folds']} × {cv['repeats']} cross-validation",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        result=f"{metric_named(key).name} {metric_text(key, cv['mean'][key], cv['std'][key])}",
        sentences=sentences(cv, cv["held_out"], key),
        network=f"{metrics['model']}: {number(metrics['params'])} parameters{macs}.",
        figures=_figures(cv),
        folds=_fold_table(results),
        dots=pictures[0],
        curves=pictures[1],
        predictions=pictures[2],
        predictions_table=table,
        comparisons=[entry["comparison"]["sentence"] for entry in compared],
        baselines=_baseline_table(cv, compared) if compared else None,
        notes=study.notes,
        findings=study.findings,
        config=config_to_yaml(study.config),
        environment=read_environment(run.environment),
        command=how_to_repeat(run, study.config),
        final_command=final_command(run.path),
    )


def _figures(cv: Mapping[str, Any]) -> Table:
    pooled = cv["per_repeat"]
    rows = tuple(
        (
            metric_named(key, cv["mean"]).name,
            metric(key, cv["mean"][key]),
            metric(key, cv["std"][key]),
            metric(key, pooled["mean"].get(key)),
            metric(key, pooled["std"].get(key)),
        )
        for key in cv["mean"]
    )
    heads = ("metric", "mean of folds", "std between folds", "pooled, mean of repeats", "std between repeats")
    return Table(
        f"{cv['folds']} folds × {cv['repeats']}, n = {cv['n']:,}; std with divisor n − 1",
        heads,
        rows,
    )


def _fold_table(results: Sequence[FoldResult]) -> Table:
    keys = [key for key in results[0].metrics if is_known(key)]
    heads = ("repeat · fold", "held out", "trained on", "validated on", *(metric_named(k, keys).name for k in keys))
    rows: tuple[tuple[str | int, ...], ...] = tuple(
        (
            f"{r.repeat} · {r.fold}",
            len(r.ids),
            r.n_train,
            r.n_val,
            *(metric(key, r.metrics[key]) for key in keys),
            f"{r.best_epoch} of {len(r.history)}",
            f"{r.seconds:.1f}",
        )
        for r in results
    )
    return Table("Each fold, on its held-out samples", (*heads, "best epoch", "seconds"), rows)


def _baseline_table(cv: Mapping[str, Any], compared: Sequence[Mapping[str, Any]]) -> Table:
    methods = [("this network", cv), *((entry["name"], entry) for entry in compared)]
    keys = [
        key
        for key in (m.key for m in known_metrics())
        if key != "loss" and any(key in values["mean"] for _, values in methods)
    ]
    rows: tuple[tuple[str, ...], ...] = tuple(
        (name, *(metric_text(k, values["mean"].get(k), values["std"].get(k)) for k in keys)) for name, values in methods
    )
    return Table(
        "Mean ± standard deviation over the same folds", ("method", *(metric_named(k, keys).name for k in keys)), rows
    )


def write_cv_report(
    run: RunDirectory, study: CrossValidation, results: Sequence[FoldResult], metrics: Mapping[str, Any]
) -> None:
    """Draw into `plots/` and write report.html, one self-contained file. Raises RunError."""
    drawn, table = _draw_predictions(run, study, results)
    pictures = (_draw_dots(run, study, results, metrics["cv"]), _draw_curves(run, study, results), drawn)
    content = make_content(run, study, results, metrics, pictures, table)
    page = page_environment("striate.studies").get_template("cross_validation.html")
    write_text(run.report, page.render(content=content, image=as_base64))


def _draw_dots(
    run: RunDirectory, study: CrossValidation, results: Sequence[FoldResult], cv: Mapping[str, Any]
) -> Picture:
    key = study.first.task.headline
    values = [[float(r.metrics[key]) for r in results if r.repeat == k + 1] for k in range(study.repeats)]
    title = _title(study)
    figure = folds_figure(
        values,
        metric=metric_named(key).name,
        title=title,
        share=metric_named(key).is_share,
        mean=cv["mean"][key],
        std=cv["std"][key],
    )
    caption = (
        f"{title}. Dot: a held-out fold; tick: the mean of its repeat; dashed: the mean of all folds; gray: ± one"
        " standard deviation."
    )
    return saved_picture("Each fold", caption, figure, run.plots / "folds.png")


def _draw_curves(run: RunDirectory, study: CrossValidation, results: Sequence[FoldResult]) -> Picture:
    title = _title(study)
    histories = [result.history for result in results]
    metric = study.first.task.metrics[0]
    figure = fold_curves_figure(histories, metric=metric.key, title=title, name=metric.name, share=metric.is_share)
    caption = (
        f"{title}. Thin: each fold; thick: their mean. val is the validation part of the training samples of a fold."
        " The held-out samples are measured once, at the end, and are in no curve."
    )
    return saved_picture("Learning curves", caption, figure, run.plots / "curves.png")


def _draw_predictions(
    run: RunDirectory, study: CrossValidation, results: Sequence[FoldResult]
) -> tuple[Picture | None, Table | None]:
    """The predictions of all repeats together, so that each sample counts once per repeat; nothing for masks."""
    data, targets = study.pool.data, study.pool.samples.targets.numpy()
    predictions = np.concatenate([pooled_predictions(results, k + 1) for k in range(study.repeats)])
    truth = np.concatenate([targets] * study.repeats)
    times = "" if study.repeats == 1 else f", each predicted {study.repeats} times"
    title = f"{_title(study)}{times}"
    return study.first.task.pooled(run.plots, truth, predictions, _title(study), title, data.target_names)


def _title(study: CrossValidation) -> str:
    data = study.pool.data
    return f"{data.name}, {study.folds} × {study.repeats} cross-validation, n = {len(study.pool):,}"
