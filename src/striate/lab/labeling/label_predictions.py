"""Predictions for samples whose labels are to be checked, where possible from a model that did not learn that label."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.folds import deal_folds
from striate.data.media.every_medium import medium_of
from striate.data.predict_inputs import list_inputs, read_inputs
from striate.errors import ConfigError, DataError
from striate.evaluation.label_errors import FOLDS, doubt_labels, out_of_fold, reduced
from striate.evaluation.similarity.nearest import search_exactly
from striate.evaluation.similarity.vectors import compute_vectors
from striate.lab.exploring import run_samples
from striate.runs.predictions import read_predictions
from striate.tasks.baseline_features import HOG_SMALLEST, edge_features

if TYPE_CHECKING:
    from pathlib import Path

    from striate.lab.exploring.run_samples import Samples
    from striate.lab.workbench import Lab
    from striate.training.trained import Trained

MOST = 10_000
"""Largest number of training samples that a model of the other folds predicts; for more, the network predicts."""
UNLABELED = "unlabeled"
"""Name of the folder without labels, in place of a split."""
_AT_ONCE = 256
_NEIGHBORS = 10
_TEMPERATURE = 0.1
_STRENGTH = (1.0,)

HELD_OUT = "the network, which did not learn from it,"
LEARNED = "the network, although it learned this label,"
FOLDED = "what a simple model learns from the other samples alone"
NEIGHBORS = "the vote of the ten samples that are nearest to the network"
SEEN = "the network"


@dataclass(frozen=True, eq=False)
class LabelPredictions:
    """Predictions for the samples of one split, or of an unlabeled folder."""

    split: str
    """The split by name."""
    ids: NDArray[np.int64]
    """(N,) positions in the run's data, or in `files`."""
    probabilities: NDArray[np.float64]
    """(N, K) of the classes."""
    labels: NDArray[np.int64]
    """(N,) class numbers, −1 where there are none."""
    by: str
    """What predicts, in words."""
    likely: NDArray[np.bool_]
    """(N,) which labels are likely wrong: another class has a high enough probability (confident learning)."""
    files: tuple[str, ...] = ()
    """The pictures of the unlabeled folder; empty for a split of the run."""

    @cached_property
    def doubt(self) -> NDArray[np.float64]:
        """(N,) by how much the most probable class exceeds the label, 0 to 1; 0 where both are the same."""
        rows = np.arange(len(self.ids))
        own = np.where(self.labels < 0, self.probabilities.max(1), self.probabilities[rows, self.labels])
        return np.asarray(self.probabilities.max(1) - own)

    @cached_property
    def lead(self) -> NDArray[np.float64]:
        """(N,) by how much the most probable class exceeds the next, 0 to 1."""
        if self.probabilities.shape[1] < 2:
            return np.ones(len(self.ids))
        top = np.partition(self.probabilities, -2, axis=1)
        return np.asarray(top[:, -1] - top[:, -2])


def predict_split(lab: Lab, samples: Samples, split: str) -> LabelPredictions:
    """Predictions for a split of the run, whose samples have one class each. Raises DataError where the network
    predicts other classes."""
    assert lab.trained is not None, "samples are of a run"
    if lab.trained.task.gives_vector:
        ids, probabilities = _of_neighbors(lab, samples, split)
        by = NEIGHBORS
    elif split == "train" and (folded := _of_other_folds(lab, samples, split)) is not None:
        # The network has learned these labels, also wrong ones, and after long training it doubts none of them.
        (ids, probabilities), by = folded, FOLDED
    else:
        ids, probabilities = _of_network(lab, samples, split)
        by = LEARNED if split == "train" else HELD_OUT
    labels = _class_numbers(samples, ids)
    likely = np.zeros(len(ids), bool)
    likely[doubt_labels(probabilities, labels).positions] = True
    return LabelPredictions(split, ids, probabilities, labels, by, likely)


def predict_folder(trained: Trained, folder: Path) -> LabelPredictions:
    """Predictions for the pictures of a folder, at any depth. Raises DataError for a folder without pictures, and for a
    network that predicts no classes."""
    if trained.task.gives_vector or not trained.classes:
        got = f"a run of the task {trained.task.name}"
        raise DataError("unlabeled pictures", got, "a classification", "leave out --unlabeled")
    files, tables = list_inputs([folder], medium_of(trained.preparation.kind))[0], []
    taken: list[int] = []
    for start in range(0, len(files), _AT_ONCE):
        read = list(enumerate(read_inputs(files[start : start + _AT_ONCE], trained.preparation), start))
        if usable := [(number, one.input) for number, one in read if one.input is not None]:
            raw = np.stack([pixels for _, pixels in usable])
            tables.append(trained.decode(torch.from_numpy(raw)).numpy().astype(np.float64))
            taken += [number for number, _ in usable]
    if not taken:
        raise DataError(f"folder {folder}", "no picture that can be read", "pictures", "give another folder")
    probabilities, nothing = np.concatenate(tables), np.full(len(taken), -1)
    return LabelPredictions(UNLABELED, np.array(taken), probabilities, nothing, SEEN, np.zeros(len(taken), bool), files)


def _of_network(lab: Lab, samples: Samples, split: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    trained, ids = lab.trained, samples.of_split(split)
    assert trained is not None
    if tuple(trained.classes) != samples.classes:
        got = "classes of another network"
        raise DataError("labels", got, ", ".join(samples.classes)[:200], "open the run of these data")
    saved = read_predictions(samples.run, split)
    if saved is not None and saved.classes == samples.classes and set(saved.ids.tolist()) <= set(ids.tolist()):
        return saved.ids, saved.predictions.astype(np.float64)
    found, probabilities = run_samples.predict_samples(lab, samples, ids)
    return found, probabilities.astype(np.float64)


def _class_numbers(samples: Samples, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    order = {name: number for number, name in enumerate(samples.classes)}
    return np.array([order[samples.labels[k]] for k in ids.tolist()], np.int64)


def _of_other_folds(lab: Lab, samples: Samples, split: str) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Predictions for each sample by a model of the other folds; None for too many samples, or too few of a class."""
    wanted = samples.of_split(split)
    taken: list[NDArray[np.int64]] = []
    if len(wanted) > MOST:
        return None
    parts: list[NDArray[np.float32]] = []
    units: list[bytes] = []
    for start in range(0, len(wanted), _AT_ONCE):
        read, inputs = run_samples.read_inputs(lab, samples, wanted[start : start + _AT_ONCE])
        taken.append(read)
        if inputs.shape[1] not in (1, 3) or min(inputs.shape[2:]) < HOG_SMALLEST:
            parts.append(np.asarray(inputs.flatten(1).numpy() / 255, np.float32))
        else:
            parts.append(edge_features(inputs))
        units += [blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in inputs]
    ids = np.concatenate(taken)
    labels = _class_numbers(samples, ids)
    there, places = np.unique(labels, return_inverse=True)
    few = min(len({unit for unit, place in zip(units, places, strict=True) if place == k}) for k in range(len(there)))
    try:
        folds = deal_folds(units, places, max(2, min(FOLDS, few)), 0)
    except ConfigError:  # a class with a single sample
        return None
    features = reduced(np.concatenate(parts))
    return ids, out_of_fold(features, labels, folds, len(samples.classes), _STRENGTH)[0]


def _of_neighbors(lab: Lab, samples: Samples, split: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each sample the classes of its nearest neighbors, weighted by exp(cosine / 0.1)."""
    ids, vectors = split_vectors(lab, samples, split)
    labels = _class_numbers(samples, ids)
    places, near = search_exactly(vectors, vectors, _NEIGHBORS + 1)
    weights = np.exp((near - near.max(1, keepdims=True)) / _TEMPERATURE) * (places != np.arange(len(ids))[:, None])
    table = np.zeros((len(ids), len(samples.classes)))
    np.add.at(table, (np.arange(len(ids))[:, None], labels[places]), weights)
    return ids, table / np.maximum(table.sum(1, keepdims=True), 1e-12)


def split_vectors(lab: Lab, samples: Samples, split: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ids of the samples of a split that can be read, and their vectors of length 1."""
    assert lab.trained is not None
    ids, vectors, wanted = [], [], samples.of_split(split)
    for start in range(0, len(wanted), _AT_ONCE):
        part, inputs = run_samples.read_inputs(lab, samples, wanted[start : start + _AT_ONCE])
        with lab.computing:
            vectors.append(compute_vectors(lab.trained, inputs.numpy())[0])
        ids.append(part)
    return np.concatenate(ids), np.concatenate(vectors)
