"""Baselines of a classification: the most frequent class, logistic regression, and a linear SVM on HOG (with color),
and on features of k-means."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from striate.data.dataset import Dataset
from striate.data.normalize import measure_normalization
from striate.data.store.stored import Inputs, take_rows
from striate.tasks import kmeans_features
from striate.tasks.baseline import CHOICE, MOST, Fitted, Method, choose_by_validation, sampling_note, stratified_sample
from striate.tasks.baseline_features import (
    HOG_SIDE,
    describe_inputs,
    edge_features,
    shows_edges,
    standardized_inputs,
)
from striate.tasks.task import Task

_LOGISTIC_C = (1e-4, 1e-3, 0.01, 0.1, 1.0)
_LOGISTIC_C_OF_ROWS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
_SVM_C = (0.1, 1.0, 10.0, 100.0)
_KMEANS_C = (1e-3, 0.01)
_ITERATIONS, _TOLERANCE = 100, 1e-3
_WORK = 800_000_000
"""Samples × features × classes: about half a minute of one core for one fit."""
_LEAST = 10_000
"""Smallest number of training samples of a fit, if there are as many."""
_HOG_PIXELS = 50_000_000
"""Pixels of the training images whose gradients are taken: about half a minute of one core."""

_KMEANS_MOST = 20_000
"""Training images whose patches are coded: about half a minute of one core."""

Extract = Callable[[Inputs], NDArray[np.float32]]


def classify_methods(data: Dataset) -> tuple[Method, ...]:
    """The baselines that fit the kind of data."""
    methods = [
        Method("majority class", "Always predicts the most common class of the training split.", _majority),
        Method("logistic regression", f"A linear classifier on the standardized {data.medium.values}.", _logistic),
    ]
    if shows_edges(data):
        seen = "the directions of edges" if data.input_shape[0] == 1 else "the directions of edges and the colors"
        name = "HOG + linear SVM" if data.input_shape[0] == 1 else "HOG + color + linear SVM"
        what = f"A linear classifier on histograms of {seen}, the usual method before neural networks."
        methods.append(Method(name, what, _hog_svm))
    if data.medium.pictures and data.input_shape[0] in (1, 3) and min(data.input_shape[1:]) >= kmeans_features.SMALLEST:
        what = "A linear classifier on features that k-means learns from whitened patches, without labels."
        methods.append(Method("k-means features + linear SVM", what, _kmeans_svm))
    return tuple(methods)


def _majority(data: Dataset, task: Task, seed: int) -> Fitted:
    del seed
    train, test = data.splits["train"], data.splits["test"]
    shares = torch.bincount(train.targets.cpu(), minlength=task.outputs).float() / len(train)
    return Fitted(shares.expand(len(test), -1), "none", len(train))


def _logistic(data: Dataset, task: Task, seed: int) -> Fitted:
    extract = partial(standardized_inputs, normalization=measure_normalization(data.splits["train"]))
    make = partial(LogisticRegression, class_weight=_class_weights(task))
    strengths = _LOGISTIC_C_OF_ROWS if data.medium.flat else _LOGISTIC_C
    return _fit_linear(data, task, seed, extract, make, strengths, describe_inputs(data))


def _hog_svm(data: Dataset, task: Task, seed: int) -> Fitted:
    features = "histograms of oriented gradients (9 orientations, about 8 × 8 cells, blocks of 2 × 2)"
    if data.input_shape[0] == 3:
        features += ", and a histogram of hue, saturation and value (12 × 4 × 4 bins)"
    if max(data.input_shape[1:]) > HOG_SIDE:
        features += f"; images averaged down to {HOG_SIDE} pixels"
    make = partial(LinearSVC, random_state=seed, class_weight=_class_weights(task))
    most = _HOG_PIXELS // int(np.prod(data.input_shape[1:]))
    return _fit_linear(data, task, seed, edge_features, make, _SVM_C, features, most)


def _kmeans_svm(data: Dataset, task: Task, seed: int) -> Fitted:
    extract = kmeans_features.learn_kmeans_features(data.splits["train"].inputs, seed)
    sees = (
        f"{len(extract.centers)} k-means centers of whitened {extract.patch} × {extract.patch} patches; the triangle "
        "code, mean distance − distance where positive, is summed over four quadrants"
    )
    if max(data.input_shape[1:]) > kmeans_features.SIDE:
        sees += f"; images averaged down to {kmeans_features.SIDE} pixels"
    make = partial(LinearSVC, random_state=seed, class_weight=_class_weights(task))
    return _fit_linear(data, task, seed, extract, make, _KMEANS_C, sees, _KMEANS_MOST)


def _fit_linear(
    data: Dataset,
    task: Task,
    seed: int,
    extract: Extract,
    make: Callable[..., Any],
    grid: Sequence[float],
    features: str,
    most: int = MOST,
) -> Fitted:
    """A linear classifier whose C is chosen by the likelihood (without probabilities: the accuracy) on `val`."""
    train, val, test = (data.splits[name] for name in ("train", "val", "test"))
    labels = train.targets.cpu().numpy()
    width = extract(train.inputs[:1]).shape[1]
    most = max(_LEAST, min(MOST, most, _WORK // (width * max(1, task.outputs))))
    used = stratified_sample(labels, most, seed)
    x, y = extract(take_rows(train.inputs, torch.from_numpy(used))), labels[used]
    if len(np.unique(y)) < 2:
        return Fitted(_one_hot(np.full(len(test), y[0]), task.outputs), features, len(y), ranked=False)
    validated = stratified_sample(val.targets.cpu(), CHOICE, seed)
    val_x, val_y = extract(take_rows(val.inputs, torch.from_numpy(validated))), val.targets.cpu().numpy()[validated]
    few = stratified_sample(y, CHOICE, seed)

    def fit(c: float, positions: NDArray[np.int64]) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the note mentions it
            return make(C=c, max_iter=_ITERATIONS, tol=_TOLERANCE).fit(x[positions], y[positions])

    def score(model: Any) -> float:
        # On few samples, the log-likelihood varies less than the accuracy; where predictions are 0 or 1, both agree.
        likelihoods = _decoded(model, val_x, task.outputs).numpy()[np.arange(len(val_y)), val_y]
        return float(np.log(np.clip(likelihoods, 1e-12, None)).mean())

    c, model = choose_by_validation(grid, fit, score, few, np.arange(len(y)))
    notes = [sampling_note(len(y), len(train), len(few))]
    if np.max(model.n_iter_) >= _ITERATIONS:
        notes.append(f"Stopped after {_ITERATIONS} iterations, before it had fully converged.")
    decoded = _decoded(model, extract(test.inputs), task.outputs)
    note = " ".join(filter(None, notes))
    return Fitted(decoded, features, len(y), {"C": c}, note, ranked=hasattr(model, "predict_proba"))


def _decoded(model: Any, x: NDArray[np.float32], classes: int) -> torch.Tensor:
    """(N, K) probabilities, or, without probabilities, 1 for the predicted class; 0 for a class without training
    samples."""
    if not hasattr(model, "predict_proba"):
        return _one_hot(model.predict(x), classes)
    decoded = torch.zeros(len(x), classes)
    decoded[:, torch.from_numpy(model.classes_)] = torch.from_numpy(model.predict_proba(x)).float()
    return decoded


def _one_hot(predicted: NDArray[np.int64], classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(predicted), classes).float()


def _class_weights(task: Task) -> dict[int, float] | None:
    """The weights of `task.class_weights`, so that baselines minimize the same loss as the network."""
    weights = getattr(task, "class_weights", None)
    return None if weights is None else dict(enumerate(weights))
