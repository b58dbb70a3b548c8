"""Reconstructions in pictures, tables and sections of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.dataset import SampleFacts
from striate.statistics.estimate import Estimate
from striate.statistics.intervals import percentile_interval, resampled_means
from striate.tasks.assessment import PlainMetrics
from striate.tasks.evaluation import Evaluation
from striate.tasks.groups import FEWEST, sample_groups
from striate.tasks.headline import Headline
from striate.tasks.reconstruct.metrics import METRICS, MSE, psnr
from striate.tasks.show import PHOTO_DPI, Row, places_at_random, plain_cells, slices_section
from striate.visualize.canvas import of_split, save_figure
from striate.visualize.page_parts import Picture, Section, Table
from striate.visualize.reconstruction_figures import reconstructions_figure
from striate.wording import several

SHOWN = 8


def assess_images(evaluation: Evaluation, facts: SampleFacts, headline: Headline, rows: Any) -> PlainMetrics:
    """Each figure with its interval by bootstrap over images, and slices."""
    n, mse = evaluation.n, headline.estimate(rows)
    pixels = int(np.prod(evaluation.targets.shape[1:]))
    draws = resampled_means(np.asarray(rows)[:, None])[:, 0] if n >= FEWEST else None
    decibels = None if draws is None or not (draws > 0).all() else percentile_interval(-10 * np.log10(draws))
    summed = None if draws is None else percentile_interval(pixels * draws)
    figures = {
        "mse": mse,
        "psnr": Estimate(psnr(mse.value or 0.0), decibels),
        "squared_error": Estimate(pixels * (mse.value or 0.0), summed),
    }
    groups = sample_groups(facts, n, brightness=evaluation.brightness)
    few = f"No intervals and no slices: {several(n, 'sample is', 'samples are')} fewer than {FEWEST}."
    return PlainMetrics(MSE, n, figures, headline.slices(groups, rows), (few,) if n < FEWEST else ())


def reconstruction_pictures(
    folder: Path, evaluation: Evaluation, each: NDArray[np.float64], names: Sequence[str]
) -> tuple[Picture, ...]:
    """`reconstructions.png` with some samples at random, then those of the largest error, around its median, and of the
    smallest; `each` (N,) is the mean squared error of each image."""
    order = np.argsort(-each, kind="stable")
    middle = max(0, (len(order) - SHOWN) // 2)
    galleries = (
        ("Samples", "reconstructions.png", places_at_random(evaluation.n, SHOWN), "drawn at random"),
        ("Worst images", "worst.png", order[:SHOWN], "those with the largest mean squared error"),
        ("Typical images", "typical.png", order[middle : middle + SHOWN], "those around the median of the error"),
        ("Best images", "best.png", order[::-1][:SHOWN], "those with the smallest mean squared error"),
    )
    title, pictures = of_split(evaluation.data, evaluation.split, evaluation.n), []
    for name, file, chosen, caption in galleries:
        first = file == "reconstructions.png"
        figure = reconstructions_figure(
            evaluation.targets[chosen],
            evaluation.decoded[chosen],
            title=title if first else f"{title}: {name.lower()}",
            labels=[f"{each[k]:.3g}" for k in chosen],
        )
        path = save_figure(figure, folder / file, PHOTO_DPI)
        listed = "" if first or not len(names) else f" ({', '.join(names[k] for k in chosen)})"
        said = f"{title}; {caption}{listed}. The number is the mean squared error; in the last row bright is wrong."
        pictures.append(Picture(name, said, path, "samples"))
    return tuple(pictures)


def overall_table(figures: PlainMetrics, of: str) -> Table:
    """The figures over all images."""
    rows: tuple[Row, ...] = tuple((m.name, *plain_cells(figures.figures[m.key])) for m in METRICS)
    return Table(f"Over all images, {of}", ("figure", "value", "95 % interval"), rows)


def sections(figures: PlainMetrics, of: str) -> tuple[Section, ...]:
    """Parts of the data."""
    return slices_section(figures, MSE, of)
