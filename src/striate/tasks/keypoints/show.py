"""Keypoints in pictures, tables and sections of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.tasks.evaluation import Evaluation
from striate.tasks.keypoints.assess import errors_of
from striate.tasks.keypoints.metrics import NME, KeypointMetrics
from striate.tasks.show import PHOTO_DPI, Images, Row, places_at_random, share_cells, slices_section
from striate.visualize.canvas import of_split, save_figure
from striate.visualize.charts import chart
from striate.visualize.page_parts import Picture, Section, Table
from striate.visualize.point_figures import points_figure
from striate.wording import percent

if TYPE_CHECKING:
    from striate.tasks.keypoints.task import Keypoints

SHOWN = 4


def point_pictures(
    task: Keypoints, folder: Path, evaluation: Evaluation, images: Images, names: Sequence[str]
) -> tuple[Picture, ...]:
    """`points.png` with some samples at random, then those of the largest error, around its median, and of the
    smallest; of samples with a visible point."""
    errors = errors_of(evaluation.decoded, evaluation.targets)
    seen = ~np.isnan(errors)
    each = np.where(seen, errors, 0).sum(1) / np.maximum(seen.sum(1), 1)
    order = np.flatnonzero(seen.any(1))
    order = order[np.argsort(-each[order], kind="stable")]
    middle = max(0, (len(order) - SHOWN) // 2)
    galleries = (
        ("Samples", "points.png", places_at_random(evaluation.n, SHOWN), "drawn at random"),
        ("Worst images", "worst.png", order[:SHOWN], "those with the largest NME: look here for wrong points"),
        ("Typical images", "typical.png", order[middle : middle + SHOWN], "those around the median NME"),
        ("Best images", "best.png", order[::-1][:SHOWN], "those with the smallest NME"),
    )
    title, pictures = of_split(evaluation.data, evaluation.split, evaluation.n), []
    for name, file, chosen, caption in galleries:
        inputs = np.asarray(images[chosen])
        drawn = [
            task.draw(image, evaluation.decoded[k], evaluation.targets[k])
            for image, k in zip(inputs, chosen, strict=True)
        ]
        labels = [f"NME {percent(float(each[k]))}" for k in chosen]
        shown = title if file == "points.png" else f"{title}: {name.lower()}"
        path = save_figure(points_figure(drawn, title=shown, labels=labels), folder / file, PHOTO_DPI)
        listed = "" if file == "points.png" or not len(names) else f" ({', '.join(names[k] for k in chosen)})"
        said = f"{title}; {caption}{listed}. Dots: predicted, a cross where unsure; rings: true."
        pictures.append(Picture(name, said, path, "samples"))
    return tuple(pictures)


def point_sections(figures: KeypointMetrics, of: str) -> tuple[Section, ...]:
    """The curve of PCK with each point's error, and parts of the data."""
    return (_points_section(figures, of), *slices_section(figures, NME, of))


def _points_section(figures: KeypointMetrics, of: str) -> Section:
    rows: tuple[Row, ...] = tuple(
        (row.name, row.n, *share_cells(row.nme), *share_cells(row.pck)) for row in figures.points
    )
    columns = ("point", "visible", "NME", "95 % interval", "PCK at 0.1", "95 % interval")
    near = percent(figures.figures["pck"].value)
    auc = percent(figures.figures["auc"].value)
    said = f"{near} of the points are within 0.1 of the size of the true points; the area to there is {auc}."
    drawn = chart(lambda axes: _draw_curve(axes, figures.curve), f"PCK curve of the {of}. {said}", 2.6, 4.6)
    curve = tuple((f"{at:.3f}", percent(share)) for at, share in figures.curve)
    return Section(
        "Each point",
        (said,),
        (Table(f"Each point, {of}", columns, rows),),
        (drawn,),
        f"{of}. How many of the points are closer than each distance, a share of √(w · h) of the box around the true"
        " points.",
        (Table("PCK curve", ("distance", "share of points"), curve),),
    )


def _draw_curve(axes: Any, curve: Sequence[tuple[float, float]]) -> None:
    places, shares = zip(*curve, strict=True)
    axes.plot(places, shares)
    axes.axvline(0.1, linestyle=":", linewidth=1)
    axes.set(xlim=(0, places[-1]), ylim=(0, 1), xlabel="distance / size of the true points", ylabel="share of points")


def overall_table(figures: KeypointMetrics, of: str) -> Table:
    """The figures over all images."""
    names = {"nme": "NME", "pck": "PCK at 0.1", "auc": "area under PCK, 0 to 0.1"}
    rows: tuple[Row, ...] = tuple((names[key], *share_cells(figure)) for key, figure in figures.figures.items())
    return Table(f"Over all images, {of}", ("figure", "value", "95 % interval"), rows)
