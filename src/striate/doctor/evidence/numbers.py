"""Whether target numbers have to do with inputs, by simple models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.describing import fit_describer
from striate.doctor.evidence.distinct import first_of_each

MOST, FEWEST, FOLDS = 1000, 30, 5
_STRENGTH = 10.0


@dataclass(frozen=True)
class Related:
    """By model the correlation of its answers with the targets of samples that it was not fitted to; `count`: of how
    many."""

    models: dict[str, float]
    count: int


def related(x: torch.Tensor, values: torch.Tensor) -> Related:
    """Ask ridge regression, neighbors and trees: inputs (N, …), targets (N,). Raises NoEvidence where there are too few
    different samples with finite numbers."""
    # Loaded here: it takes half a second that no other evidence needs.
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor

    finite = torch.isfinite(x.reshape(len(x), -1).double()).all(1) & torch.isfinite(values)
    rows = torch.arange(len(x))[finite]
    rows = rows[first_of_each(x[rows])] if len(rows) else rows
    if len(rows) < FEWEST:
        raise NoEvidence("too few different samples: simple models have nothing to learn from")
    if len(rows) > MOST:
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:MOST]]
    describer = fit_describer(x[rows])
    looks = describer.looks(x[rows])
    everything = np.concatenate([looks, describer.patterns(x[rows])], axis=1) if describer.grid else looks
    # Ranks: a few very large targets would decide alone.
    ranks = np.argsort(np.argsort(values[rows].numpy(), kind="stable"), kind="stable") / len(rows)
    models = {
        "ridge": (Ridge(_STRENGTH), everything),
        "neighbors": (KNeighborsRegressor(10, algorithm="brute"), looks),
        "trees": (ExtraTreesRegressor(30, min_samples_leaf=3, max_features=0.5, random_state=0), looks),
    }
    fold = np.random.default_rng(0).permutation(len(rows)) % FOLDS
    found = {}
    for name, (model, numbers) in models.items():
        told = np.zeros(len(rows))
        for held in range(FOLDS):
            asked = fold == held
            # Of each fold its own mean is taken off: the mean of the others leans the other way.
            answer = model.fit(numbers[~asked], ranks[~asked]).predict(numbers[asked])
            told[asked] = answer - answer.mean()
        centered = ranks - ranks.mean()
        scale = float(np.sqrt((told**2).sum() * (centered**2).sum()))
        found[name] = float((told * centered).sum()) / scale if scale > 0 else 0.0
    return Related(found, len(rows))
