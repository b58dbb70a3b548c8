"""What a network has to beat, once it is fitted and measured: a plain record, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from striate.records import Finding


@dataclass(frozen=True, eq=False)
class Baseline:
    """A method that is no network, fitted on the training split and measured on the test split.

    `what` says in a sentence what it does, `features` what it sees. `hyperparameters` are those chosen on the
    validation split (`{}` where there are none); the test split is never used for a choice. `n_train` samples (pixels,
    for masks: `features` says so) were learned from; `seconds` covers features, choice, fit and answers. `metrics` has
    the keys of a network's on the same split, without `loss`; `top5` only where there are probabilities. `note` says
    what was left out or cut short, or is empty. `decoded`: its answers, as those of an `Evaluation`.
    """

    name: str
    what: str
    features: str
    hyperparameters: dict[str, Any]
    n_train: int
    seconds: float
    metrics: dict[str, Any]
    note: str
    decoded: NDArray[Any]

    def to_json(self) -> dict[str, Any]:
        """The baseline as one JSON object of plain values, its metrics beside its name, without the single answers."""
        return {
            "name": self.name,
            **self.metrics,
            "what": self.what,
            "features": self.features,
            "hyperparameters": dict(self.hyperparameters),
            "n_train": self.n_train,
            "seconds": round(self.seconds, 3),
            "note": self.note,
        }


@dataclass(frozen=True, eq=False)
class DataBaselines:
    """The baselines of one data set, with the `notes` and `findings` of its reading."""

    data: str
    baselines: tuple[Baseline, ...]
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """One JSON object of plain values; all figures are of the test split."""
        return {
            "data": self.data,
            "split": "test",
            "baselines": [entry.to_json() for entry in self.baselines],
            "notes": list(self.notes),
            "findings": [finding.to_json() for finding in self.findings],
        }
