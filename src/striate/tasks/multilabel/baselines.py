"""Baselines of sets of labels: the frequency of each label, and a linear classifier for each label."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from striate.data.dataset import Dataset
from striate.data.normalize import measure_normalization
from striate.data.store.stored import Inputs, take_rows
from striate.statistics.ranking import mean_of_known
from striate.tasks.baseline import CHOICE, Fitted, Method, choose_by_validation, sampling_note
from striate.tasks.baseline_features import describe_inputs, hog_features, shows_edges, standardized_inputs
from striate.tasks.multilabel.ranking import Ranking, best_thresholds
from striate.tasks.task import Task

_STRENGTHS = (1e-4, 1e-3, 0.01, 0.1, 1.0)
_STRENGTHS_OF_EDGES = (0.1, 1.0, 10.0, 100.0)
_WORK = 400_000_000
"""Samples × features × labels: about half a minute of one core for one fit."""


def label_methods(data: Dataset) -> tuple[Method, ...]:
    """The baselines that fit the kind of data."""
    what = f"A linear classifier for each label on the standardized {data.medium.values}."
    methods = [
        Method(
            "label frequencies", "Predicts for each label the share of training samples that have it.", _frequencies
        ),
        Method("logistic regression", what, _logistic),
    ]
    if shows_edges(data):
        seen = "A linear classifier for each label on histograms of the directions of edges."
        methods.append(Method("HOG + logistic regression", seen, _edges))
    return tuple(methods)


def _frequencies(data: Dataset, task: Task, seed: int) -> Fitted:
    del task, seed
    train = data.splits["train"].targets.cpu()
    return Fitted(train.mean(0).expand(len(data.splits["test"]), -1).clone(), "none", len(train))


def _logistic(data: Dataset, task: Task, seed: int) -> Fitted:
    extract = partial(standardized_inputs, normalization=measure_normalization(data.splits["train"]))
    return _linear(data, task, seed, extract, _STRENGTHS, describe_inputs(data))


def _edges(data: Dataset, task: Task, seed: int) -> Fitted:
    return _linear(data, task, seed, hog_features, _STRENGTHS_OF_EDGES, "histograms of oriented gradients")


def _linear(
    data: Dataset,
    task: Task,
    seed: int,
    extract: Callable[[Inputs], NDArray[np.float32]],
    grid: tuple[float, ...],
    features: str,
) -> Fitted:
    """Linear classifiers with one C for all labels, chosen by the mean average precision on `val`; thresholds are
    chosen there too."""
    train, val, test = (data.splits[name] for name in ("train", "val", "test"))
    width = extract(train.inputs[:1]).shape[1]
    most = max(1000, _WORK // (width * task.outputs))
    order = np.random.default_rng(seed).permutation(len(train))
    used = np.sort(order[:most])
    x, y = extract(take_rows(train.inputs, torch.from_numpy(used))), train.targets.cpu().numpy()[used]
    val_x, val_y = extract(val.inputs), val.targets.cpu().numpy()
    few = np.sort(np.random.default_rng(seed).permutation(len(y))[:CHOICE])

    def fit(strength: float, positions: NDArray[np.int64]) -> list[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return [_fit_label(strength, x[positions], y[positions, k]) for k in range(y.shape[1])]

    def score(models: list[Any]) -> float:
        return mean_of_known(Ranking(_probabilities(models, val_x), val_y).precisions())

    chosen, models = choose_by_validation(grid, fit, score, few, np.arange(len(y)))
    thresholds = best_thresholds(_probabilities(models, val_x), val_y).clip(1e-6, 1 - 1e-6)
    found = _probabilities(models, extract(test.inputs))
    # Scores are shifted so that each label's threshold becomes a probability of one half.
    share = np.where(found < thresholds, found / thresholds, 1 + (found - thresholds) / (1 - thresholds))
    note = sampling_note(len(y), len(train), len(few))
    return Fitted(torch.from_numpy(share / 2).float(), features, len(y), {"C": chosen}, note)


def _fit_label(strength: float, x: NDArray[np.float32], y: NDArray[np.float32]) -> Any:
    """A model of one label; the share of samples that have it where that is all or none."""
    share = float(y.mean())
    return LogisticRegression(C=strength, max_iter=100, tol=1e-3).fit(x, y > 0) if 0 < share < 1 else share


def _probabilities(models: list[Any], x: NDArray[np.float32]) -> NDArray[np.float64]:
    columns = [np.full(len(x), m) if isinstance(m, float) else m.predict_proba(x)[:, 1] for m in models]
    return np.stack(columns, 1)
