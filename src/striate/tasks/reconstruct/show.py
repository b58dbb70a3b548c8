"""Reconstructions in pictures, tables and sections of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.data.dataset import SampleFacts
from striate.statistics.estimate import Estimate
from striate.statistics.intervals import drawn_count, percentile_interval, resampled_means
from striate.tasks.assessment import PlainMetrics
from striate.tasks.evaluation import Evaluation
from striate.tasks.groups import FEWEST, sample_groups, too_few
from striate.tasks.headline import Headline
from striate.tasks.reconstruct.metrics import MSE, psnr
from striate.tasks.show import ranked_pictures
from striate.visualize.page_parts import Picture
from striate.visualize.reconstruction_figures import reconstructions_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 8


def assess_images(evaluation: Evaluation, facts: SampleFacts, headline: Headline, rows: Any) -> PlainMetrics:
    """Each metric with its interval by bootstrap over images, or groups, and slices."""
    own_groups = facts.columns.get("group", ())
    n, headline = evaluation.n, headline.over(own_groups)
    mse = headline.estimate(rows)
    pixels = int(np.prod(evaluation.targets.shape[1:]))
    many = drawn_count(own_groups, n) >= FEWEST
    draws = resampled_means(np.asarray(rows)[:, None], groups=own_groups)[:, 0] if many else None
    decibels = None if draws is None or not (draws > 0).all() else percentile_interval(-10 * np.log10(draws))
    summed = None if draws is None else percentile_interval(pixels * draws)
    figures = {
        "mse": mse,
        "psnr": Estimate(psnr(mse.value or 0.0), decibels),
        "squared_error": Estimate(pixels * (mse.value or 0.0), summed),
    }
    groups = sample_groups(facts, n, brightness=evaluation.brightness)
    return PlainMetrics(MSE, n, figures, headline.slices(groups, rows), too_few(n))


def reconstruction_pictures(
    folder: Path, evaluation: Evaluation, each: NDArray[np.float64], names: Sequence[str]
) -> tuple[Picture, ...]:
    """`reconstructions.png` with random samples, then samples with the largest error, around its median, and with the
    smallest; `each` (N,) is the mean squared error of each image."""
    order = np.argsort(-each, kind="stable")

    def draw(chosen: NDArray[np.int64], title: str) -> Figure:
        labels = [f"{each[k]:.3g}" for k in chosen]
        return reconstructions_figure(
            evaluation.targets[chosen], evaluation.decoded[chosen], title=title, labels=labels
        )

    choices = ("images with the largest mean squared error", "images around the median error",
            "images with the smallest mean squared error")  # fmt: skip
    return ranked_pictures(
        folder, evaluation, order, draw, choices=choices, names=names, at_random="reconstructions.png", shown=SHOWN,
        note=". The number is the mean squared error; the last row shows the error, bright where large.", drawn=SHOWN,
    )  # fmt: skip
