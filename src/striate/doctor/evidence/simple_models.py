"""Simple models of the training data, which do not depend on the network: out-of-fold predictions for each sample, and
whether numeric targets, and maps of classes, are related to their inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch.nn import functional

from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.features import FeatureExtractor, Numbers, fit_features
from striate.doctor.evidence.nearness import first_of_each

MOST = 1500
"""Most samples that models are fitted to: with more they are slower, but hardly better."""
FEWEST = 24
FOLDS = 5
_TREES = 60
_TABLE_COLUMNS = 40

# Models are fitted by one thread (threadpool_limits(1)): a second one gains nothing for matrices this small, and
# doubles the time next to a busy process.

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class OutOfFold:
    """The out-of-fold predictions of one model."""

    predictions: Whole
    """(N,) classes."""
    confidence: NDArray[np.float64]
    """(N,) confidence of each, 0 to 1."""


@dataclass(frozen=True)
class Reference:
    """Simple models of the training data."""

    rows: torch.Tensor
    """Indices of the samples that they were fitted to, which are distinct."""
    labels: Whole
    """Labels of these samples."""
    out_of_fold: dict[str, OutOfFold]
    """Out-of-fold predictions for these samples by model."""
    extractor: FeatureExtractor
    """Computes the features; fitted to all of these samples."""
    models: dict[str, Any]
    """The models by name, fitted to all of these samples."""

    def accuracy(self, name: str) -> float:
        """The out-of-fold accuracy of a model, 0 to 1."""
        return float((self.out_of_fold[name].predictions == self.labels).mean())

    @property
    def best(self) -> list[str]:
        """Names of the models, the most accurate one first."""
        return sorted(self.out_of_fold, key=lambda name: -self.accuracy(name))

    def by_chance(self, name: str) -> float:
        """The expected accuracy of predictions with these class frequencies if labels were independent of them."""
        classes = max(int(self.labels.max()), int(self.out_of_fold[name].predictions.max())) + 1
        predicted = np.bincount(self.out_of_fold[name].predictions, minlength=classes) / len(self.labels)
        actual = np.bincount(self.labels, minlength=classes) / len(self.labels)
        return float((predicted * actual).sum())

    def predict(self, x: torch.Tensor, name: str) -> Whole:
        """The classes (M,) that a model predicts for new inputs (M, …)."""
        numbers = _features_of(self.extractor, x)[_FEATURES[name]]
        predicted: Whole = np.asarray(self.models[name].predict(numbers), dtype=np.int64)
        return predicted

    def agree(self, x: torch.Tensor | None = None) -> float:
        """How often the predictions of the two best models agree: out of fold for their own samples, or for new inputs.
        They rarely agree on inputs that carry no information about the labels."""
        pair = self.best[:2]
        predicted = [self.out_of_fold[name].predictions if x is None else self.predict(x, name) for name in pair]
        return float((predicted[0] == predicted[-1]).mean()) if len(pair) > 1 else 0.0


_AS_CLEAR, _CERTAIN = 0.8, 4.0
"""Least agreement of two models on informative inputs, relative to that on their own samples; standard errors."""


def labels_are_independent(reference: Reference, x: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether models agree on inputs (M, …) as well as on their own samples, while the labels (M,) are independent of
    their predictions, by a χ² test: its statistic is about the degrees of freedom then."""
    if reference.agree(x) < _AS_CLEAR * reference.agree():
        return False
    predicted = torch.from_numpy(reference.predict(x, reference.best[0]))
    counts = torch.zeros(int(predicted.max()) + 1, int(labels.max()) + 1, dtype=torch.float64)
    counts.index_put_((predicted, labels.long()), torch.ones(len(predicted), dtype=torch.float64), accumulate=True)
    counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    free = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    expected = counts.sum(1, keepdim=True) * counts.sum(0) / counts.sum()
    return free > 0 and float(((counts - expected) ** 2 / expected).sum()) < free + _CERTAIN * (2 * free) ** 0.5


def fit_simple_models(x: torch.Tensor, labels: torch.Tensor, clock: Clock) -> Reference:
    """Fit simple models to training samples: inputs (N, …) and their class numbers (N,), from 0.

    Raises NoEvidence for too few different samples or a single class, OutOfTime where fitting takes longer than the
    time that is left.
    """
    rows = _usable(x, labels)
    x, y = x[rows], labels[rows].numpy().astype(np.int64)
    extractor = fit_features(x)
    features = _features_of(extractor, x)
    with threadpool_limits(1):
        out_of_fold = {
            name: _out_of_fold(name, features[kind], y, clock) for name, kind in _FEATURES.items() if kind in features
        }
        models = {name: _fitted(name, features[_FEATURES[name]], y) for name in out_of_fold}
    return Reference(rows, y, out_of_fold, extractor, models)


_FEATURES = {"neighbors": "coarse", "linear": "both", "patterns": "responses", "trees": "columns"}
"""The features of each model."""


def _usable(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Indices of at most MOST distinct, labeled samples with finite numbers."""
    if not x.numel() or x.is_complex():
        raise NoEvidence("the inputs are not numbers")
    finite = x.flatten(1).isfinite().all(1) if x.is_floating_point() and x.ndim > 1 else torch.ones(len(x)).bool()
    rows = torch.arange(len(x))[finite & (labels >= 0)]
    rows = rows[first_of_each(x[rows])] if len(rows) else rows
    if len(rows) > MOST:
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:MOST].sort().values]
    if len(rows) < FEWEST or len(labels[rows].unique()) < 2:
        raise NoEvidence("too few different samples, or one class only: simple models have nothing to learn from")
    return rows


def _features_of(extractor: FeatureExtractor, x: torch.Tensor) -> dict[str, Numbers]:
    coarse = extractor.coarse_features(x)
    if not extractor.grid:
        found = {"coarse": coarse, "both": coarse}
        return found | ({"columns": coarse} if coarse.shape[1] <= _TABLE_COLUMNS else {})
    responses = extractor.filter_responses(x)
    if not responses.shape[1]:
        return {"coarse": coarse, "both": coarse}
    return {"coarse": coarse, "responses": responses, "both": np.concatenate([coarse, responses], axis=1)}


def _make(name: str, samples: int, classes: int) -> Any:
    # Imported here: it takes half a second, which no other evidence needs.
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    near = int(np.clip(round((samples / classes) ** 0.5), 5, 15))
    if name == "trees":
        return ExtraTreesClassifier(_TREES, min_samples_leaf=3, bootstrap=True, oob_score=True, random_state=0)
    if name == "linear":
        return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    neighbors = KNeighborsClassifier(near, algorithm="brute")
    return neighbors if name == "neighbors" else make_pipeline(StandardScaler(), neighbors)


def _fitted(name: str, numbers: Numbers, y: Whole) -> Any:
    return _make(name, len(y), len(np.unique(y))).fit(numbers, y)


def _out_of_fold(name: str, numbers: Numbers, y: Whole, clock: Clock) -> OutOfFold:
    clock.need(0.0)
    if name == "trees":  # out-of-bag predictions need no folds
        forest = _fitted(name, numbers, y)
        shares = np.nan_to_num(np.asarray(forest.oob_decision_function_))
        return OutOfFold(forest.classes_[shares.argmax(1)], shares.max(1))
    predictions, confidence = np.zeros(len(y), np.int64), np.zeros(len(y))
    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    for held in range(FOLDS):
        held_out = fold == held
        known = y[~held_out]
        model = _make(name, len(known), len(np.unique(known)))  # before the clock is read: it may import a library
        left = clock.left
        model.fit(numbers[~held_out], known)
        shares = model.predict_proba(numbers[held_out])
        predictions[held_out], confidence[held_out] = model.classes_[shares.argmax(1)], shares.max(1)
        clock.need((FOLDS - 1 - held) * (left - clock.left))  # each remaining fold takes as long
    return OutOfFold(predictions, confidence)


MOST_NUMBERS, FEWEST_NUMBERS = 1000, 30
_STRENGTH = 10.0


@dataclass(frozen=True)
class Related:
    """How far simple models predict numeric targets."""

    models: dict[str, float]
    """By model, the correlation of its out-of-fold predictions with the ranks of the targets."""
    count: int
    """Number of samples."""


def related(x: torch.Tensor, values: torch.Tensor, clock: Clock) -> Related:
    """Fit ridge regression, nearest neighbors and trees to inputs (N, …) and targets (N,). Raises NoEvidence for too
    few different samples with finite values."""
    # Imported here: it takes half a second, which no other evidence needs.
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor

    finite = torch.isfinite(x.reshape(len(x), -1).double()).all(1) & torch.isfinite(values)
    rows = torch.arange(len(x))[finite]
    rows = rows[first_of_each(x[rows])] if len(rows) else rows
    if len(rows) < FEWEST_NUMBERS:
        raise NoEvidence("too few different samples: simple models have nothing to learn from")
    if len(rows) > MOST_NUMBERS:
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:MOST_NUMBERS]]
    extractor = fit_features(x[rows])
    coarse = extractor.coarse_features(x[rows])
    everything = np.concatenate([coarse, extractor.filter_responses(x[rows])], axis=1) if extractor.grid else coarse
    # Ranks, so that a few very large targets do not dominate.
    ranks = np.argsort(np.argsort(values[rows].numpy(), kind="stable"), kind="stable") / len(rows)
    models = {
        "ridge": (Ridge(_STRENGTH), everything),
        "neighbors": (KNeighborsRegressor(10, algorithm="brute"), coarse),
        "trees": (ExtraTreesRegressor(30, min_samples_leaf=3, max_features=0.5, random_state=0), coarse),
    }
    fold = np.random.default_rng(0).permutation(len(rows)) % FOLDS
    found = {}
    for name, (model, numbers) in models.items():
        predicted = np.zeros(len(rows))
        with threadpool_limits(1):
            for held in range(FOLDS):
                held_out = fold == held
                clock.need(0.0)
                # Each fold's own mean is subtracted: the mean of the other folds errs in the opposite direction.
                prediction = model.fit(numbers[~held_out], ranks[~held_out]).predict(numbers[held_out])
                predicted[held_out] = prediction - prediction.mean()
        centered = ranks - ranks.mean()
        scale = float(np.sqrt((predicted**2).sum() * (centered**2).sum()))
        found[name] = float((predicted * centered).sum()) / scale if scale > 0 else 0.0
    return Related(found, len(rows))


PAIRINGS = 40
_MOST, _SIDE = 256, 64
_NEAR = 3


def halves(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of two random halves of `samples` samples."""
    rows = torch.randperm(samples, generator=torch.Generator().manual_seed(0))
    return rows[: samples // 2], rows[samples // 2 :]


def ridge_weights(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Dual weights (N, …) of a ridge regression of `targets` (N, …) on `inputs` (N, D), both centered: the prediction
    for `x` is `x @ inputs.T @ weights`."""
    gram = inputs @ inputs.T
    ridge = 0.01 * gram.diagonal().mean() * torch.eye(len(inputs)).double()
    weights: torch.Tensor = torch.linalg.solve(gram + ridge, targets)
    return weights


def class_separation(x: torch.Tensor, maps: torch.Tensor) -> tuple[float, list[float]]:
    """How well simple features of positions separate their classes: with the maps of their own samples, and with those
    of PAIRINGS random pairings of inputs and maps; 0 and an empty list where all labeled positions have the same class.

    `x` (N, C, *positions), `maps` (N, *positions) int64, below 0 where not labeled. The features of a position are its
    channels, standardized within the sample, and their mean and standard deviation nearby. The separation is the share
    of variance between classes, of the best feature. Random pairings preserve what all maps have in common, such as
    objects in the middle.
    """
    x, maps = _thinned(x[:_MOST].float(), maps[:_MOST])
    if len(maps[maps >= 0].unique()) < 2:
        return 0.0, []
    generator = torch.Generator().manual_seed(0)
    pairings = [torch.randperm(len(maps), generator=generator) for _ in range(PAIRINGS)]
    own, *others = class_separations(x, [maps, *(maps[order] for order in pairings)])
    return own, others


def class_separations(x: torch.Tensor, several: Sequence[torch.Tensor]) -> list[float]:
    """The share of variance between classes, of the best feature, for each of several maps (N, *positions)."""
    thinned = [_thinned(x, maps)[1] for maps in several]
    described, classes = _described(_thinned(x, several[0])[0]), max(int(maps.max()) for maps in several) + 1
    return [_between(described, maps, classes) for maps in thinned]


def match_own_maps(predictions: torch.Tensor, maps: torch.Tensor) -> bool:
    """Whether predicted maps (N, *positions) agree with the maps of their own samples more than in any of PAIRINGS
    random pairings."""
    generator = torch.Generator().manual_seed(0)

    def agreement(others: torch.Tensor) -> float:
        return float((predictions == others)[others >= 0].double().mean())

    own = agreement(maps)
    return all(own > agreement(maps[torch.randperm(len(maps), generator=generator)]) for _ in range(PAIRINGS))


def _thinned(x: torch.Tensor, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and maps subsampled to at most _SIDE positions on each axis; averaging would mix labels."""
    for axis, side in enumerate(maps.shape[1:], 1):
        places = torch.arange(0, side, -(-side // _SIDE))
        x, maps = x.index_select(axis + 1, places), maps.index_select(axis, places)
    return x, maps


def _described(x: torch.Tensor) -> torch.Tensor:
    """(N, F, P) features of positions, centered."""
    flat = x.flatten(2)
    deviation = flat.std(2, keepdim=True).clamp(min=1e-6)
    x = ((flat - flat.mean(2, keepdim=True)) / deviation).view_as(x)
    pool = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}[x.ndim - 2]
    near = pool(x, _NEAR, 1, _NEAR // 2, count_include_pad=False)
    rough = (pool(x * x, _NEAR, 1, _NEAR // 2, count_include_pad=False) - near * near).clamp(min=0).sqrt()
    found = torch.cat([x, near, rough], 1).flatten(2)
    return found - found.mean((0, 2), keepdim=True)


def _between(described: torch.Tensor, maps: torch.Tensor, classes: int) -> float:
    """The share of variance between classes, of the best feature."""
    flat = maps.flatten()
    known = flat >= 0
    values = described.movedim(1, 2).flatten(0, 1)[known].double()
    counts = torch.bincount(flat[known], minlength=classes).clamp(min=1).double()
    sums = torch.zeros(classes, values.shape[1], dtype=torch.float64).index_add_(0, flat[known], values)
    center = values.mean(0)
    between = ((sums / counts[:, None] - center) ** 2 * counts[:, None] * (sums != 0)).sum(0)
    total = ((values - center) ** 2).sum(0).clamp(min=1e-12)
    return float((between / total).max())
