"""The samples of a run by split and class, and what its network predicts for each."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.decode import decode_samples
from striate.errors import DataError, RunError, StriateError, pasted
from striate.inference.predictor import batch_size
from striate.lab.page_images import RUN
from striate.runs.directory import RunDirectory, open_run
from striate.runs.predictions import read_predictions
from striate.runs.verified_files import read_verified
from striate.tasks.classify.metrics import runner_up
from striate.tasks.task import Task
from striate.wording import several

if TYPE_CHECKING:
    from striate.data.listing import Listing
    from striate.lab.workbench import Lab

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Samples:
    """All samples of a run, by id: the position in its data's listing."""

    run: RunDirectory
    """The run."""
    listing: Listing
    """The listing of its data."""
    splits: NDArray[np.str_]
    """(N,) the split of each sample."""
    labels: NDArray[np.str_]
    """(N,) the label of each sample, as text."""
    classes: tuple[str, ...]
    """In the order of class numbers; empty where samples have none."""

    def of_split(self, split: str) -> NDArray[np.int64]:
        """The ids of a split, ascending. Raises DataError for an unknown split."""
        found = np.flatnonzero(self.splits == split)
        if not len(found):
            raise DataError("split", repr(split[:40]), f"one of: {', '.join(self.counts())}", "test")
        return found

    def counts(self) -> dict[str, int]:
        """The number of samples of each split that has any."""
        numbers = {split: int((self.splits == split).sum()) for split in SPLITS}
        return {split: n for split, n in numbers.items() if n}

    def class_counts(self, split: str) -> list[int]:
        """The number of samples of a split in each class."""
        labels = self.labels[self.splits == split]
        return [int((labels == name).sum()) for name in self.classes]


def read_samples(lab: Lab, page: str = "explore", purpose: str = "data and predictions are to be explored") -> Samples:
    """The samples of the run that the lab was opened with, for the `page` that needs them and its `purpose`.

    Raises RunError without a run, DataError for data that are not images, do not exist, or have changed.
    """
    if lab.run is None:
        got, remedy = "a lab without a run", "end it, and open one: striate lab RUN"
        raise RunError(page, got, f"the run whose {purpose}", remedy)
    run = open_run(lab.run)
    listing = lab.images.listing(RUN)
    rows = _read_rows(run.split)
    some = range(0, len(rows), max(1, len(rows) // 1000))
    changed = len(rows) != len(listing) or any(rows[k][0] != listing.paths[k] for k in some)
    if changed:
        raise DataError(
            listing.source,
            f"{several(len(listing), 'sample')}, not the {len(rows):,} of {run.split.name}, or others",
            "the data that the run was trained on",
            f"put the files back, or see how it does on them: striate eval {pasted(run.path)} {pasted(listing.source)}",
        )
    columns: Sequence[NDArray[np.str_]] = [np.array([row[k] for row in rows]) for k in (1, 2)]
    return Samples(run, listing, columns[1], columns[0], listing.classes if listing.has_one_class_each else ())


def _read_rows(path: Path) -> list[list[str]]:
    try:
        text = (read_verified(path) or b"").decode(errors="surrogateescape")
        _, *rows = csv.reader(StringIO(text, newline=""))
    except RunError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(
            str(path), f"it cannot be read: {error}", "the table that training wrote", "train again"
        ) from None
    if any(len(row) != 3 for row in rows):
        raise RunError(str(path), "rows without path, label and split", "the table that training wrote", "train again")
    return rows


AT_ONCE = 512  # images decoded at once
MOST = 100_000
"""Largest split that the lab predicts; for larger ones, a run saves its predictions."""


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """The predictions of a classification for one split, in the order of `ids`."""

    split: str
    """The split by name."""
    ids: NDArray[np.int64]
    """(N,) positions in the listing."""
    true: NDArray[np.int64]
    """(N,) class numbers."""
    predicted: NDArray[np.int64]
    """(N,) class numbers."""
    probability: NDArray[np.float32]
    """(N,) of the predicted class."""
    lead: NDArray[np.float32]
    """(N,) by how much that exceeds the probability of the next class."""
    saved: bool
    """Whether the run saved them at the end of its training."""

    @property
    def hits(self) -> NDArray[np.bool_]:
        """(N,) which predictions are right."""
        return np.equal(self.true, self.predicted)


def find_predictions(lab: Lab, samples: Samples, split: str) -> SplitPredictions:
    """The predictions for a split: those that the run saved, or else new ones.

    Raises RunError; DataError for other tasks than classification, and for a split that is too large to predict here.
    """
    ids = samples.of_split(split)
    if not samples.classes:
        raise DataError("predictions", "data without classes", "a classification", "striate eval RUN")
    if lab.trained is None or tuple(lab.trained.classes) != samples.classes:
        expected = ", ".join(samples.classes)[:200]
        raise DataError("predictions", "classes of another network", expected, "open another run")
    saved = read_predictions(samples.run, split)
    same = saved is not None and saved.classes == samples.classes and set(saved.ids.tolist()) <= set(ids.tolist())
    if saved is not None and saved.predicted is not None and same:
        return _of_probabilities(split, saved.ids, saved.targets, saved.predictions, saved.predicted, saved=True)
    if len(ids) > MOST:
        got = f"{several(len(ids), 'sample')} without saved predictions"
        raise DataError(f"predictions for {split}", got, f"at most {MOST:,}", "choose another split")
    return new_predictions(split, samples, *predict_samples(lab, samples, ids), lab.trained.task)


def new_predictions(
    split: str, samples: Samples, ids: NDArray[np.int64], probabilities: NDArray[Any], task: Task
) -> SplitPredictions:
    """The predictions for the samples `ids` of a split, from the `probabilities` (N, K) of a network of the task."""
    order = {name: number for number, name in enumerate(samples.classes)}
    true = np.array([order[samples.labels[k]] for k in ids.tolist()], np.int64)
    predicted = task.predicted(probabilities)
    assert predicted is not None, "of a classification"
    return _of_probabilities(split, ids, true, probabilities, predicted, saved=False)


def predict_samples(lab: Lab, samples: Samples, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The ids of the samples that can be read, and the network's probabilities for them."""
    trained = lab.trained
    assert trained is not None, "samples are of a run"
    read, probabilities = [], []
    at_once = min(AT_ONCE, batch_size(trained.preparation.input_shape))
    for start in range(0, len(ids), at_once):
        if lab.ending.is_set():
            raise StriateError("the lab", "its end", "a lab that is running", "open it again")
        part, inputs = read_inputs(lab, samples, ids[start : start + at_once])
        with lab.computing:
            probabilities.append(trained.decode(inputs).numpy())
        read.append(part)
    return np.concatenate(read), np.concatenate(probabilities)


def read_inputs(lab: Lab, samples: Samples, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], torch.Tensor]:
    """The ids that can be read, and their prepared images before standardization, uint8 (N, C, H, W). Raises DataError
    where none can be read."""
    assert lab.trained is not None, "samples are of a run"
    decoded = decode_samples(samples.listing, ids.tolist(), lab.trained.preparation)
    if not len(decoded.ids):
        got = next(iter(decoded.unreadable.values()), "no images")
        raise DataError("images", got, "at least one that can be read", "put the files back")
    return decoded.ids, torch.from_numpy(np.ascontiguousarray(decoded.inputs))


def _of_probabilities(
    split: str,
    ids: NDArray[np.int64],
    true: NDArray[np.int64],
    probabilities: NDArray[Any],
    predicted: NDArray[np.int64],
    *,
    saved: bool,
) -> SplitPredictions:
    own = probabilities[np.arange(len(ids)), predicted]
    lead = own - runner_up(probabilities, predicted)[1]
    return SplitPredictions(split, ids, true, predicted, own, lead, saved)
