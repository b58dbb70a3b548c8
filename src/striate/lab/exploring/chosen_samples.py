"""Which samples of a run are shown, in which order: by class, by mistake, or by the metric of each sample."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.errors import DataError, UsageError
from striate.lab.exploring.run_samples import Samples, SplitPredictions, read_inputs
from striate.lab.page_images import RUN
from striate.runs.predictions import read_predictions
from striate.statistics.intervals import wilson
from striate.tasks.marks import Color
from striate.tasks.task import Task

if TYPE_CHECKING:
    from striate.lab.workbench import Lab

Show = Literal["all", "mistakes", "unsure", "worst", "best"]


@dataclass(frozen=True)
class Choice:
    """The samples that a page requests."""

    split: str
    """The split by name."""
    true: int | None = None
    """Number of the true class; None: any."""
    predicted: int | None = None
    """Number of the predicted class; None: any."""
    show: Show = "all"
    """`all`; `mistakes`, the most confident first; `unsure`: hits, those with the smallest lead first; where samples
    have no class, the `worst` or the `best` first."""

    @property
    def needs_predictions(self) -> bool:
        """Whether the choice depends on what the network predicts."""
        return self.predicted is not None or self.show in ("mistakes", "unsure")

    @property
    def ranks(self) -> bool:
        """Whether samples are ordered by their metric."""
        return self.show in ("worst", "best")


def chosen_ids(choice: Choice, samples: Samples, predictions: SplitPredictions | None) -> NDArray[np.int64]:
    """The ids of the samples in the order in which they are shown: by id where only a split or class is requested,
    otherwise by confidence. Raises UsageError for an unknown class, DataError for an unknown split."""
    for name, number in (("true", choice.true), ("said", choice.predicted)):
        if number is not None and not 0 <= number < len(samples.classes):
            expected = f"a class number from 0 to {len(samples.classes) - 1}"
            raise UsageError(name, str(number), expected, "leave it out")
    if predictions is None or not choice.needs_predictions:
        ids = samples.of_split(choice.split)
        return ids if choice.true is None else ids[samples.labels[ids] == samples.classes[choice.true]]
    fits = np.ones(len(predictions.ids), bool)
    if choice.true is not None:
        fits &= predictions.true == choice.true
    if choice.predicted is not None:
        fits &= predictions.predicted == choice.predicted
    if choice.show != "all":
        fits &= predictions.hits if choice.show == "unsure" else ~predictions.hits
    rows = np.flatnonzero(fits)
    by = predictions.lead[rows] if choice.show == "unsure" else -predictions.probability[rows]
    ordered: NDArray[np.int64] = predictions.ids[rows[np.argsort(by, kind="stable")]]
    return ordered


def describe(
    ids: NDArray[np.int64],
    samples: Samples,
    predictions: SplitPredictions | None,
    metrics: Mapping[int, str] | None = None,
    drawn: Sequence[str] = ("predicted", "true"),
) -> list[dict[str, Any]]:
    """The record of each sample: the `name` of its image in addresses, `path`, `label`; with predictions `said` (the
    predicted class), `probability` and whether it is `right`; with `metrics`, the sample's metric as `label`, and
    what can be `drawn` over it."""
    rows = {} if predictions is None else {number: row for row, number in enumerate(predictions.ids.tolist())}
    records = []
    for number in ids.tolist():
        one = {"name": f"{RUN}#{number}", "path": samples.listing.paths[number], "label": str(samples.labels[number])}
        if metrics is not None and number in metrics:
            one |= {"label": metrics[number], "drawn": list(drawn)}
        if predictions is not None and number in rows:
            row = rows[number]
            predicted = samples.classes[int(predictions.predicted[row])]
            right = bool(predictions.hits[row])
            one |= {"said": predicted, "probability": float(predictions.probability[row]), "right": right}
        records.append(one)
    return records


def confusion(samples: Samples, predictions: SplitPredictions) -> dict[str, Any]:
    """The confusion matrix: `counts`, a row a true class; `pairs`, the most confused ones; the accuracy with its 95 %
    interval (Wilson)."""
    size = len(samples.classes)
    counts = np.bincount(predictions.true * size + predictions.predicted, minlength=size * size).reshape(size, size)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    most = [divmod(int(place), size) for place in np.argsort(-wrong, axis=None, kind="stable")[:10]]
    hits, n = int(predictions.hits.sum()), len(predictions.ids)
    interval = wilson(hits, n)
    return {
        "classes": samples.classes,
        "counts": counts.tolist(),
        "pairs": [
            {"true": a, "said": b, "n": int(wrong[a, b]), "of": int(counts[a].sum())} for a, b in most if wrong[a, b]
        ],
        "n": n,
        "hits": hits,
        "accuracy": hits / n,
        "interval": [interval.low, interval.high],
        "kept": predictions.saved,
    }


@dataclass(frozen=True, eq=False)
class RankedSamples:
    """The samples of one split with the metric of each."""

    task: Task
    """The task of the run."""
    ids: NDArray[np.int64]
    """(N,) positions in the listing; the order of all other fields."""
    each: NDArray[np.float64]
    """(N,) the headline metric of each sample alone."""
    targets: NDArray[Any]
    """Its target."""
    decoded: NDArray[Any]
    """Its prediction."""

    def ordered(self, *, best: bool) -> NDArray[np.int64]:
        """The ids, the worst sample first, or, with `best`, the best one."""
        upward = self.task.higher_is_better != best
        rows = np.argsort(self.each if upward else -self.each, kind="stable")
        found: NDArray[np.int64] = self.ids[rows]
        return found

    def legend(self, ids: NDArray[np.int64]) -> tuple[tuple[str, Color], ...]:
        """The names of the colors in which predictions and truths of these samples are drawn."""
        rows = np.flatnonzero(np.isin(self.ids, ids))
        return self.task.legend([of[row] for row in rows for of in (self.decoded, self.targets)])

    def words(self) -> dict[int, str]:
        """By id, the metric of the sample in words: `mean IoU 56.7 %`."""
        metric = self.task.metrics[0]
        return {
            number: f"{metric.name} {metric.text(value)}"
            for number, value in zip(self.ids.tolist(), self.each.tolist(), strict=True)
        }


def find_ranked(lab: Lab, samples: Samples, split: str) -> RankedSamples:
    """The samples of a split with their saved predictions. Raises DataError where the run saved none of this split."""
    ids = samples.of_split(split)
    saved = read_predictions(samples.run, split)
    if lab.trained is None or saved is None or not set(saved.ids.tolist()) <= set(ids.tolist()):
        got = "no saved predictions"
        raise DataError(f"the order of {split}", got, "the split val or test of a finished run", "choose test")
    task = lab.trained.task
    rows = task.rows_for(saved.predictions, saved.targets)
    return RankedSamples(task, saved.ids, task.headline_metric().each(rows), saved.targets, saved.predictions)


def drawn(lab: Lab, samples: Samples, ranked: RankedSamples, number: int, *, truth: bool) -> bytes:
    """A PNG of one sample with the prediction drawn over it, or with the truth. Raises DataError for a task that does
    not draw, and for an unknown sample."""
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
