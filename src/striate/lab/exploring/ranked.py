"""The samples of a split by how well the network does on each: of any task whose predictions the run keeps."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.errors import DataError
from striate.lab.exploring.answers import read_inputs
from striate.lab.exploring.samples import Samples
from striate.runs.predictions import read_predictions
from striate.tasks.task import Task

if TYPE_CHECKING:
    from striate.lab.workbench import Lab


@dataclass(frozen=True, eq=False)
class Ranked:
    """Of one split, in the order of `ids` (N,): the headline metric of `each` sample alone (N,), its target and its
    prediction."""

    task: Task
    ids: NDArray[np.int64]
    each: NDArray[np.float64]
    targets: NDArray[Any]
    decoded: NDArray[Any]

    def ordered(self, *, best: bool) -> NDArray[np.int64]:
        """The ids, the worst sample first, or the best."""
        upward = self.task.higher_is_better != best
        rows = np.argsort(self.each if upward else -self.each, kind="stable")
        found: NDArray[np.int64] = self.ids[rows]
        return found

    def words(self) -> dict[int, str]:
        """By id, the metric of the sample in words: `mean IoU 56.7 %`."""
        metric = self.task.metrics[0]
        return {
            number: f"{metric.name} {metric.text(value)}"
            for number, value in zip(self.ids.tolist(), self.each.tolist(), strict=True)
        }


def find_ranked(lab: Lab, samples: Samples, split: str) -> Ranked:
    """The samples of a split with what the run keeps of it. Raises DataError where it keeps nothing of this split."""
    ids = samples.of_split(split)
    kept = read_predictions(samples.run, split)
    if lab.trained is None or kept is None or not set(kept.ids.tolist()) <= set(ids.tolist()):
        got = "no predictions that the run keeps"
        raise DataError(f"the order of {split}", got, "the split val or test of a finished run", "choose test")
    task = lab.trained.task
    rows = task.rows_for(kept.answers, kept.targets)
    return Ranked(task, kept.ids, task.headline_figure().each(rows), kept.targets, kept.answers)


def drawn(lab: Lab, samples: Samples, ranked: Ranked, number: int, *, truth: bool) -> bytes:
    """A PNG of one sample with what was predicted drawn over it, or with what is true. Raises DataError where the task
    draws nothing, and for a sample that is not there."""
    rows = np.flatnonzero(ranked.ids == number)
    if not len(rows) or not ranked.task.draws:
        got = "no drawing of predictions" if len(rows) else f"no sample {number}"
        raise DataError("explore", got, "a sample of the split, of a task that draws", "striate predict RUN IMAGE")
    _, inputs = read_inputs(lab, samples, np.array([number]))
    row = int(rows[0])
    target = ranked.targets[row]
    pixels = ranked.task.draw(inputs[0].numpy(), target if truth else ranked.decoded[row], None if truth else target)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
