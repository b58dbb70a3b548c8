"""Measures the predictions of a network for changed images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.dataset import Dataset
from striate.data.targets import Targets
from striate.errors import DataError
from striate.evaluation.evaluate import groups_of
from striate.evaluation.robustness.changes import Draws
from striate.evaluation.robustness.kinds import Kind, kinds_for
from striate.evaluation.robustness.robustness import Curve, Level, Robustness
from striate.inference.plan import PlanMode
from striate.inference.predictor import batch_size
from striate.records import Interval
from striate.statistics.intervals import FEW, drawn_count, hits_interval, percentile_interval, resampled_means
from striate.tasks.headline import Rows
from striate.tasks.task import Predictions, Task
from striate.training.trained import Trained

MOST = 1000
"""Default number of images that are measured, evenly spaced over the split."""
_MOST_BYTES = 2**30


def measure_robustness(
    trained: Trained,
    data: Dataset,
    split: str,
    *,
    samples: int = MOST,
    seed: int = 0,
    plan: PlanMode = "auto",
    progress: Callable[[str], None] = lambda _: None,
) -> Robustness:
    """How the headline metric of a network holds on `samples` changed images of a split, at most as many as fit into
    1 GiB.

    Images are changed as bytes, before normalization; every call with this seed changes the same images in the same
    way. Predictions are computed as `plan` says. The network does not change. `progress` gets the name of each kind.
    Kinds that would make the targets wrong are left out and named. Raises DataError for other media than images, and
    for an empty split.
    """
    refuse_no_images(data, split, "robustness")
    task, held = trained.task, data.splits[split]
    count = max(1, min(samples, len(held), _MOST_BYTES // int(np.prod(data.input_shape))))
    rows = torch.arange(count) * len(held) // count
    pool = held.inputs[rows].cpu().contiguous()
    ids, known = held.ids.cpu()[rows].numpy(), held.targets.cpu()[rows]
    every = groups_of(data, split)
    groups = [every[row] for row in rows.tolist()] if len(every) == len(held) else []
    kinds, left_out = _kinds(task, data)
    total = count * (1 + sum(len(kind.strengths) for kind in kinds))
    predictor = trained.planned(lambda n: pool[:n], total, mode=plan)

    def draws(kind: Kind, at: slice) -> Draws:
        return Draws(seed, kind.name, ids[at], np.arange(count)[at], pool)

    def predict(kind: Kind | None = None, strength: float = 0.0) -> Predictions:
        """The predictions for all images, changed by this strength."""
        parts = []
        size = batch_size(data.input_shape)
        for start in range(0, count, size):
            at = slice(start, start + size)
            part = pool[at]
            if kind is not None:
                part = kind.change(part, strength, draws(kind, at))
            parts.append(trained.decode(part, predictor))
        return torch.cat(parts)

    def level(kind: Kind, strength: float) -> Level:
        after, truth, original = predict(kind, strength), known, before
        if task.moves_with_image and kind.warp is not None:
            warp = kind.warp(strength, draws(kind, slice(None)))
            truth, original = (task.warp_targets(moved, warp) for moved in (known, before))
        same = task.same(_array(after), _array(original))
        share, span = (None, None) if same is None else _share(same, groups)
        return Level(float(strength), *_headline(task, after, truth, groups), share, span)

    before, curves = predict(), []
    for number, kind in enumerate(kinds, 1):
        progress(f"{kind.name} ({number} of {len(kinds)})")
        levels = tuple(level(kind, strength) for strength in kind.strengths)
        curves.append(Curve(kind.name, kind.unit, kind.what, kind.identity, levels, task.higher_is_better))
    value, interval = _headline(task, before, known, groups)
    return Robustness(
        data.name, split, count, len(held), seed, len(data.classes), value, interval, tuple(curves), task.metrics[0],
        left_out,
    )  # fmt: skip


def _kinds(task: Task, data: Dataset) -> tuple[Sequence[Kind], str]:
    """The kinds after which the targets are known, and a sentence on the others."""
    every = kinds_for(*data.input_shape[1:])
    if task.moves_with_image:
        kinds = [kind for kind in every if not kind.moves or kind.warp is not None]
        why = "they resample the image or cover it with other images, so that its targets no longer fit"
    elif not task.survives_moves:
        kinds, why = [kind for kind in every if not kind.moves], "they may change the targets"
    else:
        return every, ""
    return kinds, f"Not measured: {', '.join(kind.name for kind in every if kind not in kinds)}; {why}."


def _array(values: Any) -> Any:
    return values.numpy() if isinstance(values, torch.Tensor) else values


def _headline(
    task: Task, decoded: Predictions, targets: Targets, groups: Sequence[str]
) -> tuple[float, Interval | None]:
    """The metric with its 95 % interval: by the formula of the task, or else by bootstrap; over groups, where images
    have any."""
    rows: Rows = task.rows_for(_array(decoded), _array(targets))
    figure = task.headline_metric().over(groups)
    interval = task.headline_interval(rows, groups)
    return figure.value(rows), figure.estimate(rows).interval if interval is None else interval


def _share(same: NDArray[np.float64], groups: Sequence[str]) -> tuple[float, Interval | None]:
    """A mean of shares with its interval: Wilson's where each share is 0 or 1, or else by bootstrap; over groups, where
    images have any."""
    if ((same == 0) | (same == 1)).all():
        return float(same.mean()), hits_interval(same, groups)
    many = drawn_count(groups, len(same)) >= FEW
    interval = percentile_interval(resampled_means(same[:, None], groups=groups)[:, 0]) if many else None
    return float(same.mean()), interval


def refuse_no_images(data: Dataset, split: str, what: str) -> None:
    """Raise DataError where `what` cannot be measured because there are no images."""
    where = f"{what} on the {split} split of {data.name}"
    if not data.medium.shows_itself:
        remedy = "a run of images, as: striate train fashion-mnist"
        raise DataError(where, data.inputs_in_words, "images, whose pixels are changed", remedy)
    if len(data.splits[split]) == 0:
        raise DataError(where, "no images", "at least one", f"add images to {split}")
