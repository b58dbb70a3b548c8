"""Pictures and page of a finished cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from striate.report.page import as_base64, page_environment
from striate.runs.directory import RunDirectory
from striate.runs.files import write_text
from striate.studies.cross_validation.content import make_content
from striate.studies.cross_validation.fold import FoldResult
from striate.studies.cross_validation.plan import CrossValidation
from striate.studies.cross_validation.summary import pooled_answers
from striate.tasks.registry import metric_named
from striate.visualize.page_parts import Picture, Table
from striate.visualize.themed_svg import saved_picture
from striate.visualize.training_curves import fold_curves_figure, folds_figure


def write_cv_report(
    run: RunDirectory, study: CrossValidation, results: Sequence[FoldResult], metrics: Mapping[str, Any]
) -> None:
    """Draw into `plots/` and write report.html, one file that needs nothing else. Raises RunError."""
    answers, behind = _draw_answers(run, study, results)
    pictures = (_draw_dots(run, study, results, metrics["cv"]), _draw_curves(run, study, results), answers)
    content = make_content(run, study, results, metrics, pictures, behind)
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
        f"{title}. A dot a held-out fold, a tick the mean of its repeat; dashed: the mean of all folds, gray: one"
        " standard deviation each way."
    )
    return saved_picture("Each fold", caption, figure, run.plots / "folds.png")


def _draw_curves(run: RunDirectory, study: CrossValidation, results: Sequence[FoldResult]) -> Picture:
    title = _title(study)
    histories = [result.history for result in results]
    figure = fold_curves_figure(histories, metric=study.first.task.headline, title=title)
    caption = (
        f"{title}. Thin: each fold; thick: their mean. val is the validation part of what a fold learns from; what it"
        " holds out is measured once, at the end, and is in no curve."
    )
    return saved_picture("Learning curves", caption, figure, run.plots / "curves.png")


def _draw_answers(
    run: RunDirectory, study: CrossValidation, results: Sequence[FoldResult]
) -> tuple[Picture | None, Table | None]:
    """The answers of all repeats together, so that each sample counts once a repeat; nothing for masks."""
    data, targets = study.pool.data, study.pool.samples.targets.numpy()
    answers = np.concatenate([pooled_answers(results, k + 1) for k in range(study.repeats)])
    truth = np.concatenate([targets] * study.repeats)
    times = "" if study.repeats == 1 else f", each answered {study.repeats} times"
    title = f"{_title(study)}{times}"
    return study.first.task.pooled(run.plots, truth, answers, _title(study), title, data.target_names)


def _title(study: CrossValidation) -> str:
    data = study.pool.data
    return f"{data.name}, {study.folds} × {study.repeats} cross-validation, n = {len(study.pool):,}"
