"""The assessment of predicted points for a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.dataset import SampleFacts
from striate.statistics.estimate import Estimate, estimate_of
from striate.statistics.intervals import grouped, resampled_means
from striate.tasks.evaluation import Evaluation
from striate.tasks.groups import FEWEST, sample_groups, too_few
from striate.tasks.headline import Headline, Rows
from striate.tasks.keypoints.geometry import NEAR, relative_distances, visible
from striate.tasks.keypoints.metrics import ImageNme, KeypointMetrics, PointMetrics
from striate.wording import several

WORST = 10
"""Number of images with the largest error that are listed."""
FAR, STEPS = 0.2, 40
"""Largest distance of the curve, and its number of steps."""


def errors_of(decoded: Any, targets: Any) -> NDArray[np.float64]:
    """(N, K) distances as shares of the size of the true points, from predictions and targets as arrays or tensors; NaN
    where a point is not visible."""
    places, truth = (torch.as_tensor(values).double() for values in (decoded, targets))
    found = relative_distances(places[..., :2], truth)
    return np.asarray(torch.where(visible(truth), found, torch.nan).numpy())


def image_rows(errors: NDArray[np.float64]) -> Rows:
    """(N, 5) what each image adds to the metrics, from (N, K) errors: the mean distance of its points, whether it has a
    visible one, the points within 0.1, the area of their curve, and the number of visible points."""
    seen = ~np.isnan(errors)
    known = np.where(seen, errors, 0)
    count = seen.sum(1)
    columns = (
        known.sum(1) / np.maximum(count, 1),
        count > 0,
        (seen & (known < NEAR)).sum(1),
        (seen * np.maximum(0, 1 - known / NEAR)).sum(1),
        count,
    )
    return np.stack(columns, axis=1).astype(np.float64)


def metrics_of(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """`nme`, `pck` and `auc` (B,) from sums (B, 5) of rows; NaN where no point is visible."""
    nme, images, near, area, points = np.moveaxis(sums, 1, 0)
    pairs = {"nme": (nme, images), "pck": (near, points), "auc": (area, points)}
    return {
        name: np.divide(total, over, out=np.full(len(sums), np.nan), where=over > 0)
        for name, (total, over) in pairs.items()
    }


def estimates(rows: Rows, groups: Sequence[str] = ()) -> dict[str, Estimate]:
    """The metrics of rows (N, 5) with 95 % intervals by bootstrap over samples, or over groups."""
    units = grouped(rows, groups)
    drawn = metrics_of(resampled_means(units)) if len(units) >= FEWEST else {}
    whole = metrics_of(rows.sum(0)[None])
    return {name: estimate_of(float(value[0]), drawn.get(name)) for name, value in whole.items()}


def curve_of(errors: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """Pairs of a distance, from 0 to `FAR`, and the share of the visible points that are closer."""
    known = errors[~np.isnan(errors)]
    steps = np.arange(STEPS + 1) * FAR / STEPS
    return tuple((float(at), float((known < at).mean()) if len(known) else 0.0) for at in steps)


def assess_points(
    evaluation: Evaluation, facts: SampleFacts, headline: Headline, rows: Rows, names: Sequence[str]
) -> KeypointMetrics:
    """The assessment of predicted points; `rows` (N, 2) are those of the headline."""
    errors = errors_of(evaluation.decoded, evaluation.targets)
    own_groups = facts.columns.get("group", ())
    each = np.nan_to_num(errors).sum(1) / np.maximum((~np.isnan(errors)).sum(1), 1)
    order = np.argsort(-each, kind="stable")[:WORST]
    points = []
    for place, name in enumerate(names):
        found = estimates(image_rows(errors[:, place : place + 1]), own_groups)
        points.append(PointMetrics(name, int((~np.isnan(errors[:, place])).sum()), found["nme"], found["pck"]))
    n = evaluation.n
    left_out = [*too_few(n)]
    if unseen := int(np.isnan(errors).all(1).sum()):
        left_out.append(f"Left out: {several(unseen, 'image')} without a visible point.")
    return KeypointMetrics(
        n=n,
        metrics=estimates(image_rows(errors), own_groups),
        points=tuple(points),
        curve=curve_of(errors),
        worst=tuple(ImageNme(int(evaluation.ids[k]), facts.paths[k], float(each[k])) for k in order),
        slices=headline.slices(sample_groups(facts, n, brightness=evaluation.brightness), rows),
        left_out=tuple(left_out),
    )
