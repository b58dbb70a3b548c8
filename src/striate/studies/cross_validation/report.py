"""Pictures and page of a finished cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from striate.evaluation.text import LABELS, SHARES
from striate.report.content import Picture, Table
from striate.report.numbers import MATRIX, shades
from striate.report.page import as_base64, page_environment
from striate.runs.directory import RunDirectory
from striate.runs.files import write_text
from striate.studies.cross_validation.content import make_content
from striate.studies.cross_validation.fold import FoldResult
from striate.studies.cross_validation.plan import CrossValidation
from striate.studies.cross_validation.summary import pooled_answers
from striate.visualize.canvas import save_figure, shorten
from striate.visualize.confusion import confusion_figure
from striate.visualize.folds import fold_curves_figure, folds_figure
from striate.visualize.scatter import scatter_figure
from striate.visualize.themed_svg import themed_svg

_DPI = 144


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
        values, metric=LABELS[key], title=title, share=key in SHARES, mean=cv["mean"][key], std=cv["std"][key]
    )
    path = save_figure(figure, run.plots / "folds.png", _DPI)
    caption = (
        f"{title}. A dot a held-out fold, a tick the mean of its repeat; dashed: the mean of all folds, gray: one"
        " standard deviation each way."
    )
    return Picture("Each fold", caption, path, "curves", (themed_svg(figure, caption, arranged=True),))


def _draw_curves(run: RunDirectory, study: CrossValidation, results: Sequence[FoldResult]) -> Picture:
    title = _title(study)
    histories = [result.history for result in results]
    figure = fold_curves_figure(histories, metric=study.first.task.headline, title=title)
    path = save_figure(figure, run.plots / "curves.png", _DPI)
    caption = (
        f"{title}. Thin: each fold; thick: their mean. val is the validation part of what a fold learns from; what it"
        " holds out is measured once, at the end, and is in no curve."
    )
    return Picture("Learning curves", caption, path, "curves", (themed_svg(figure, caption, arranged=True),))


def _draw_answers(
    run: RunDirectory, study: CrossValidation, results: Sequence[FoldResult]
) -> tuple[Picture | None, Table | None]:
    """The answers of all repeats together, so that each sample counts once a repeat; nothing for masks."""
    data, targets = study.pool.data, study.pool.samples.targets.numpy()
    answers = np.concatenate([pooled_answers(results, k + 1) for k in range(study.repeats)])
    truth = np.concatenate([targets] * study.repeats)
    times = "" if study.repeats == 1 else f", each answered {study.repeats} times"
    title = f"{_title(study)}{times}"
    if data.annotation == "class":
        counts = confusion_matrix(truth, answers.argmax(1), labels=range(len(data.classes)))
        figure = confusion_figure(counts, data.classes, title=_title(study))
        path = save_figure(figure, run.plots / "confusion.png", 100)
        caption = f"{title}. A row a true class, a column what the fold that held it out said; numbers are answers."
        panels = (themed_svg(figure, caption, arranged=True),)
        picture = Picture("Confusion matrix", caption, path, "confusion", panels)
        return picture, _counts_table(counts, data.classes, title)
    if data.annotation == "number":
        figure = scatter_figure(answers, truth, data.target_names, title=_title(study))
        path = save_figure(figure, run.plots / "scatter.png", _DPI)
        caption = f"{title}. On the dashed line both are equal."
        panels = (themed_svg(figure, caption, arranged=True),)
        return Picture("Predicted and true", caption, path, "scatter", panels), None
    return None, None


def _counts_table(counts: NDArray[Any], classes: Sequence[str], of: str) -> Table | None:
    if len(classes) > MATRIX:
        return None
    rows = tuple((name, *row) for name, row in zip(classes, counts.tolist(), strict=True))
    columns = ("true", *(shorten(c, 24) for c in classes))
    return Table(f"Rows: true class; columns: answer; {of}", columns, rows, shades(counts))


def _title(study: CrossValidation) -> str:
    data = study.pool.data
    return f"{data.name}, {study.folds} × {study.repeats} cross-validation, n = {len(study.pool):,}"
