"""Keypoints in pictures, tables and sections of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.tasks.evaluation import Evaluation
from striate.tasks.keypoints.assess import errors_of
from striate.tasks.keypoints.metrics import KeypointMetrics
from striate.tasks.show import Images, Row, ranked_pictures, share_cells
from striate.visualize.charts import chart
from striate.visualize.page_parts import Picture, Section, Table
from striate.visualize.point_figures import points_figure
from striate.wording import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from striate.tasks.keypoints.task import Keypoints


def point_pictures(
    task: Keypoints, folder: Path, evaluation: Evaluation, images: Images, names: Sequence[str]
) -> tuple[Picture, ...]:
    """`points.png` with random samples, then samples with the largest error, around its median, and with the smallest;
    only samples with a visible point."""
    errors = errors_of(evaluation.decoded, evaluation.targets)
    seen = ~np.isnan(errors)
    each = np.where(seen, errors, 0).sum(1) / np.maximum(seen.sum(1), 1)
    order = np.flatnonzero(seen.any(1))
    order = order[np.argsort(-each[order], kind="stable")]

    def draw(chosen: NDArray[np.int64], title: str) -> Figure:
        rows = zip(np.asarray(images[chosen]), chosen, strict=True)
        drawn = [task.draw(image, evaluation.decoded[k], evaluation.targets[k]) for image, k in rows]
        return points_figure(drawn, title=title, labels=[f"NME {percent(float(each[k]))}" for k in chosen])

    choices = ("images with the largest NME: look here for wrong points", "images around the median NME",
            "images with the smallest NME")  # fmt: skip
    note = ". Dots: predicted, crosses if uncertain; rings: true."
    return ranked_pictures(
        folder, evaluation, order, draw, choices=choices, note=note, names=names, at_random="points.png"
    )


def points_section(figures: KeypointMetrics, of: str) -> Section:
    """The PCK curve, with the error of each point."""
    rows: tuple[Row, ...] = tuple(
        (row.name, row.n, *share_cells(row.nme), *share_cells(row.pck)) for row in figures.points
    )
    columns = ("point", "visible", "NME", "95 % interval", "PCK at 0.1", "95 % interval")
    near = percent(figures.metrics["pck"].value)
    auc = percent(figures.metrics["auc"].value)
    sentence = f"{near} of the points are within 0.1 of the size of the true points; the area up to 0.1 is {auc}."
    drawn = chart(lambda axes: _draw_curve(axes, figures.curve), f"PCK curve of the {of}. {sentence}", 2.6, 4.6)
    curve = tuple((f"{at:.3f}", percent(share)) for at, share in figures.curve)
    return Section(
        "Each point",
        (sentence,),
        (Table(f"Each point, {of}", columns, rows),),
        (drawn,),
        f"{of}. The share of points closer than each distance, in units of √(w · h) of the box around the true points.",
        (Table("PCK curve", ("distance", "share of points"), curve),),
    )


def _draw_curve(axes: Any, curve: Sequence[tuple[float, float]]) -> None:
    places, shares = zip(*curve, strict=True)
    axes.plot(places, shares)
    axes.axvline(0.1, linestyle=":", linewidth=1)
    axes.set(xlim=(0, places[-1]), ylim=(0, 1), xlabel="distance / size of the true points", ylabel="share of points")
