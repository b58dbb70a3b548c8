"""What simple models make of the data, each sample judged by models that were fitted without it: an opinion on labels
that owes nothing to the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.describing import Describer, Numbers, fit_describer
from striate.doctor.evidence.distinct import first_of_each

MOST = 1500
"""Samples that models are fitted to at most: with more they are slower, not much better."""
FEWEST = 24
FOLDS = 5
_TREES = 60
_TABLE_COLUMNS = 40

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Opinion:
    """What one model answers: classes (N,) and how sure it is of each, 0 to 1."""

    answers: Whole
    sure: NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """Simple models of the training data. `rows`: which samples they were fitted to: distinct ones. `labels`: theirs.
    `opinions`: by model, of these samples, out of fold. `describer`, `models`: fitted to all of them."""

    rows: torch.Tensor
    labels: Whole
    opinions: dict[str, Opinion]
    describer: Describer
    models: dict[str, Any]

    def accuracy(self, name: str) -> float:
        """The share of labels that a model answers out of fold."""
        return float((self.opinions[name].answers == self.labels).mean())

    @property
    def best(self) -> list[str]:
        """Names of the models, the most accurate one first."""
        return sorted(self.opinions, key=lambda name: -self.accuracy(name))

    def by_chance(self, name: str) -> float:
        """The accuracy that answers in these shares would have if labels had nothing to do with them."""
        classes = max(int(self.labels.max()), int(self.opinions[name].answers.max())) + 1
        said = np.bincount(self.opinions[name].answers, minlength=classes) / len(self.labels)
        are = np.bincount(self.labels, minlength=classes) / len(self.labels)
        return float((said * are).sum())

    def ask(self, x: torch.Tensor, name: str) -> Whole:
        """The classes (M,) that a model gives inputs (M, …) that it has not seen."""
        numbers = _views(self.describer, x)[_VIEW[name]]
        answered: Whole = np.asarray(self.models[name].predict(numbers), dtype=np.int64)
        return answered


def consult(x: torch.Tensor, labels: torch.Tensor) -> Reference:
    """Ask simple models about training samples: inputs (N, …) and their class numbers (N,), from 0.

    Raises NoEvidence where there are too few different samples, or one class only.
    """
    rows = _usable(x, labels)
    x, y = x[rows], labels[rows].numpy().astype(np.int64)
    describer = fit_describer(x)
    views = _views(describer, x)
    opinions = {name: _out_of_fold(name, views[_VIEW[name]], y) for name in _VIEW if _VIEW[name] in views}
    models = {name: _fitted(name, views[_VIEW[name]], y) for name in opinions}
    return Reference(rows, y, opinions, describer, models)


_VIEW = {"neighbors": "looks", "linear": "both", "patterns": "patterns", "trees": "columns"}
"""What each model is shown."""


def _usable(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Samples with finite numbers, each once, MOST at most."""
    if not x.numel() or x.is_complex():
        raise NoEvidence("the inputs are not numbers")
    finite = x.flatten(1).isfinite().all(1) if x.is_floating_point() and x.ndim > 1 else torch.ones(len(x)).bool()
    kept = torch.arange(len(x))[finite & (labels >= 0)]
    kept = kept[first_of_each(x[kept])] if len(kept) else kept
    if len(kept) > MOST:
        kept = kept[torch.randperm(len(kept), generator=torch.Generator().manual_seed(0))[:MOST].sort().values]
    if len(kept) < FEWEST or len(labels[kept].unique()) < 2:
        raise NoEvidence("too few different samples, or one class only: simple models have nothing to learn from")
    return kept


def _views(describer: Describer, x: torch.Tensor) -> dict[str, Numbers]:
    looks = describer.looks(x)
    if not describer.grid:
        found = {"looks": looks, "both": looks}
        return found | ({"columns": looks} if looks.shape[1] <= _TABLE_COLUMNS else {})
    patterns = describer.patterns(x)
    if not patterns.shape[1]:
        return {"looks": looks, "both": looks}
    return {"looks": looks, "patterns": patterns, "both": np.concatenate([looks, patterns], axis=1)}


def _make(name: str, samples: int, classes: int) -> Any:
    # Loaded here: it takes half a second that no other evidence needs.
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


def _out_of_fold(name: str, numbers: Numbers, y: Whole) -> Opinion:
    if name == "trees":  # each tree leaves some samples out: what those say needs no folds
        forest = _fitted(name, numbers, y)
        shares = np.nan_to_num(np.asarray(forest.oob_decision_function_))
        return Opinion(forest.classes_[shares.argmax(1)], shares.max(1))
    answers, sure = np.zeros(len(y), np.int64), np.zeros(len(y))
    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    for held in range(FOLDS):
        asked = fold == held
        model = _fitted(name, numbers[~asked], y[~asked])
        shares = model.predict_proba(numbers[asked])
        answers[asked], sure[asked] = model.classes_[shares.argmax(1)], shares.max(1)
    return Opinion(answers, sure)
