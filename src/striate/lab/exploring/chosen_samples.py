"""Which samples are shown, in which order.
The samples of a split by how well the network does on each: of any task whose predictions the run keeps.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.errors import DataError, UsageError
from striate.lab.exploring.run_samples import Answers, Samples, read_inputs
from striate.lab.images import RUN
from striate.runs.predictions import read_predictions
from striate.statistics.intervals import wilson
from striate.tasks.task import Task

if TYPE_CHECKING:
    from striate.lab.workbench import Lab

Show = Literal["all", "mistakes", "unsure", "worst", "best"]


@dataclass(frozen=True)
class Choice:
    """What a page asks for: a `split`, the class that samples truly are of and the one that the network says (None:
    any), and which of them: `all`, `mistakes` with the most confident first, `unsure` hits with the smallest lead
    first; where samples have no class, the `worst` or the `best` first."""

    split: str
    true: int | None = None
    said: int | None = None
    show: Show = "all"

    @property
    def needs_answers(self) -> bool:
        """Whether the network has to be asked."""
        return self.said is not None or self.show in ("mistakes", "unsure")

    @property
    def ranks(self) -> bool:
        """Whether samples are to be in the order of their metric."""
        return self.show in ("worst", "best")


def chosen_ids(choice: Choice, samples: Samples, answers: Answers | None) -> NDArray[np.int64]:
    """The ids of the samples in the order in which they are shown: those that only a class was asked of by id, the
    others by how sure the network is. Raises UsageError for a class that is not there, DataError for a split."""
    for name, number in (("true", choice.true), ("said", choice.said)):
        if number is not None and not 0 <= number < len(samples.classes):
            expected = f"a class number from 0 to {len(samples.classes) - 1}"
            raise UsageError(name, str(number), expected, "leave it out")
    if answers is None or not choice.needs_answers:
        ids = samples.of_split(choice.split)
        return ids if choice.true is None else ids[samples.labels[ids] == samples.classes[choice.true]]
    fits = np.ones(len(answers.ids), bool)
    if choice.true is not None:
        fits &= answers.true == choice.true
    if choice.said is not None:
        fits &= answers.said == choice.said
    if choice.show != "all":
        fits &= answers.hits if choice.show == "unsure" else ~answers.hits
    rows = np.flatnonzero(fits)
    by = answers.lead[rows] if choice.show == "unsure" else -answers.probability[rows]
    ordered: NDArray[np.int64] = answers.ids[rows[np.argsort(by, kind="stable")]]
    return ordered


def describe(
    ids: NDArray[np.int64], samples: Samples, answers: Answers | None, figures: Mapping[int, str] | None = None
) -> list[dict[str, Any]]:
    """Each sample as a page needs it: the `name` of its image in addresses, `path`, `label`, and where answers are
    there `said`, `probability` and whether it is `right`; of `figures`, its own as `figure`."""
    rows = {} if answers is None else dict(zip(answers.ids.tolist(), range(len(answers.ids)), strict=True))
    told = []
    for number in ids.tolist():
        one = {"name": f"{RUN}#{number}", "path": samples.listing.paths[number], "label": str(samples.labels[number])}
        if figures is not None and number in figures:
            one |= {"label": figures[number], "figure": True}
        if answers is not None and number in rows:
            row = rows[number]
            said = samples.classes[int(answers.said[row])]
            right = bool(answers.hits[row])
            one |= {"said": said, "probability": float(answers.probability[row]), "right": right}
        told.append(one)
    return told


def confusion(samples: Samples, answers: Answers) -> dict[str, Any]:
    """How often each class was said for each: `counts`, a row a true class; `pairs`, the most confused ones; and the
    accuracy with its 95 % interval (Wilson)."""
    size = len(samples.classes)
    counts = np.bincount(answers.true * size + answers.said, minlength=size * size).reshape(size, size)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    most = [divmod(int(place), size) for place in np.argsort(-wrong, axis=None, kind="stable")[:10]]
    hits, n = int(answers.hits.sum()), len(answers.ids)
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
        "kept": answers.kept,
    }


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
