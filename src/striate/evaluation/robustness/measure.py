"""Changes images, asks the network again, and counts what is still right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.dataset import Dataset
from striate.errors import DataError
from striate.evaluation.robustness.draws import Draws
from striate.evaluation.robustness.kinds import Kind, kinds_for
from striate.evaluation.robustness.record import Curve, Level, Robustness
from striate.inference.answering import batch_size
from striate.inference.plan import Asked
from striate.statistics.intervals import wilson
from striate.training.trained import Trained

MOST = 1000
"""Images that are measured where nothing else is asked, evenly spaced over the split."""
_MOST_BYTES = 2**30


def measure_robustness(
    trained: Trained,
    data: Dataset,
    split: str,
    *,
    samples: int = MOST,
    seed: int = 0,
    plan: Asked = "auto",
    progress: Callable[[str], None] = lambda _: None,
) -> Robustness:
    """How the answers of a classifier of images hold on `samples` images of a split, at most as many as 1 GiB holds.

    Images are changed as bytes, before normalization; they are the same images, changed in the same way, in every
    call with this seed. Answers are computed as `plan` says. The network is not changed. `progress` is told each kind.
    Raises DataError for other tasks and for an empty split.
    """
    _refuse(trained, data, split)
    held = data.splits[split]
    count = max(1, min(samples, len(held), _MOST_BYTES // int(np.prod(data.input_shape))))
    rows = torch.arange(count) * len(held) // count
    pool = held.inputs[rows].cpu().contiguous()
    ids, known = held.ids.cpu()[rows].numpy(), held.targets.cpu()[rows].numpy()
    kinds = kinds_for(*data.input_shape[1:])
    total = count * (1 + sum(len(kind.strengths) for kind in kinds))
    answering = trained.planned(lambda n: pool[:n], total, asked=plan)

    def answers(kind: Kind | None = None, strength: float = 0.0) -> NDArray[np.int64]:
        """(N,) the class that is answered for each image, changed by so much."""
        classes = []
        size = batch_size(data.input_shape)
        for start in range(0, count, size):
            at = slice(start, start + size)
            part = pool[at]
            if kind is not None:
                part = kind.change(part, strength, Draws(seed, kind.name, ids[at], np.arange(count)[at], pool))
            classes.append(trained.decode(part, answering).argmax(1).numpy())
        return np.concatenate(classes)

    before, curves = answers(), []
    for number, kind in enumerate(kinds, 1):
        progress(f"{kind.name} ({number} of {len(kinds)})")
        levels = tuple(_level(strength, answers(kind, strength), before, known) for strength in kind.strengths)
        curves.append(Curve(kind.name, kind.unit, kind.what, kind.identity, levels))
    right = int((before == known).sum())
    return Robustness(
        data.name, split, count, len(held), seed, len(data.classes), right / count, wilson(right, count), tuple(curves)
    )


def _refuse(trained: Trained, data: Dataset, split: str) -> None:
    where = f"robustness on the {split} split of {data.name}"
    if trained.task.name != "classify" or data.kind != "image":
        got = f"a {data.kind} and the task {trained.task.name}"
        remedy = "a run of images with classes, as: striate train fashion-mnist"
        raise DataError(
            where, got, "images with classes: what is changed are images, what is counted right answers", remedy
        )
    if len(data.splits[split]) == 0:
        raise DataError(where, "no images", "at least one", f"add images to {split}")


def _level(strength: float, after: NDArray[np.int64], before: NDArray[np.int64], known: NDArray[np.int64]) -> Level:
    n, right, same = len(known), int((after == known).sum()), int((after == before).sum())
    return Level(float(strength), right / n, wilson(right, n), same / n, wilson(same, n))
