"""Whether new samples are like those that a network was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.evaluation.similarity.vectors import Vectors
from striate.models.preserved_state import same_random_state
from striate.records import Finding, Interval
from striate.statistics.intervals import auc_interval
from striate.wording import percent, several

MOST = 2_000
"""At most this number of new and of held-out samples are compared, evenly spaced."""
_FOLDS = 5
_CORRECTED = _FOLDS * (1 / _FOLDS + 1 / (_FOLDS - 1))
"""Factor by which the variance of a mean over folds exceeds that of independent samples, since the folds share training
samples. Source: C. Nadeau and Y. Bengio, "Inference for the generalization error", Machine Learning 2003."""
_SLIGHT, _GRAVE = 0.6, 0.8
_LEVEL = 0.01
_SHOWN = 10
QUANTITIES = ("brightness", "contrast", "sharpness")


@dataclass(frozen=True)
class Shift:
    """How one quantity of pictures differs between the run's data and the new data."""

    quantity: str
    """`brightness`, `contrast` or `sharpness`."""
    before: float
    """Its median in the run's data."""
    now: float
    """Its median in the new data."""
    p_value: float
    """The p-value of the Kolmogorov–Smirnov test, corrected for the number of quantities."""

    @property
    def differs(self) -> bool:
        """Whether the medians differ by more than chance explains."""
        return self.p_value < _LEVEL


@dataclass(frozen=True)
class Drift:
    """How new samples differ from held-out samples of a run."""

    run: str
    """Name of the run."""
    data: str
    """Name of the new data."""
    n_before: int
    """Number of held-out samples."""
    n_now: int
    """Number of new samples."""
    same: int
    """Number of new samples whose content equals that of a held-out sample."""
    auc: float
    """How well a linear classifier separates new from held-out samples that it was not fitted to, by the network's
    features and, of pictures, brightness, contrast and sharpness: 0.5 where both are alike."""
    auc_interval: Interval
    """95 % interval of `auc`."""
    shifts: tuple[Shift, ...]
    """A row for each quantity of pictures; empty for other samples."""
    unlike: tuple[str, ...]
    """Paths of the new samples with the highest scores of that classifier, at most ten."""

    @property
    def drifts(self) -> bool:
        """Whether the AUC is significantly above chance, and high enough for a warning."""
        return self.auc_interval.low > 0.5 and self.auc >= _SLIGHT

    @property
    def findings(self) -> tuple[Finding, ...]:
        """`data.drift`, where the new samples differ."""
        if not self.drifts:
            return ()
        changed = [f"{one.quantity} {one.before:.3g} → {one.now:.3g}" for one in self.shifts if one.differs]
        measured = f"a classifier tells new samples from those of the run with an AUC of {percent(self.auc)}"
        return (
            Finding(
                code="data.drift",
                severity="error" if self.auc >= _GRAVE else "warning",
                where=self.data,
                measured=measured + (f"; {', '.join(changed)}" if changed else ""),
                threshold=f"an AUC of {percent(_SLIGHT)} is a warning, of {percent(_GRAVE)} an error",
                why="The metrics of the run hold for samples like its own; on these they may be worse.",
                remedy="Look at those that differ most; label some of them, and measure: striate eval RUN DATA.",
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "run": self.run,
            "data": self.data,
            "n_before": self.n_before,
            "n_now": self.n_now,
            "same": self.same,
            "auc": self.auc,
            "auc_interval": [self.auc_interval.low, self.auc_interval.high],
            "drifts": self.drifts,
            "shifts": [vars(one) | {"differs": one.differs} for one in self.shifts],
            "unlike": list(self.unlike),
            "findings": [finding.to_json() for finding in self.findings],
        }

    def lines(self) -> list[str]:
        """Lines of up to 80 columns."""
        low, high = self.auc_interval.low, self.auc_interval.high
        found = [
            f"{several(self.n_now, 'new sample')} of {self.data}, against {self.n_before:,} held-out of {self.run}",
            f"  separable with an AUC of {percent(self.auc)} ({100 * low:.1f} – {percent(high)}; 50 %: not at all)",
        ]
        if self.same:
            line = several(self.same, "new sample is also a held-out one", "new samples are also held-out ones")
            found.insert(1, f"  {line} of the run")
        for one in self.shifts:
            verdict = "differs" if one.differs else "not significant"
            found.append(
                f"  {one.quantity:<12} median {one.before:8.2f} → {one.now:8.2f}   p {one.p_value:.2g}: {verdict}"
            )
        if self.drifts:
            found += ["  least like the run's:", *(f"    {path}" for path in self.unlike)]
        return found


def picture_quantities(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """(N, 3) brightness (mean), contrast (standard deviation) and sharpness (mean step between neighbors over the
    contrast) of (N, C, H, W) bytes, 0 to 255."""
    gray = pixels.astype(np.float64).mean(1)
    contrast = gray.std((1, 2))
    steps = (np.abs(np.diff(gray, axis=1)).mean((1, 2)) + np.abs(np.diff(gray, axis=2)).mean((1, 2))) / 2
    return np.stack([gray.mean((1, 2)), contrast, steps / np.maximum(contrast, 1e-9)], axis=1)


@same_random_state()
def measure_drift(
    before: Vectors,
    now: Vectors,
    quantities: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    paths: tuple[str, ...],
    *,
    contents: tuple[Sequence[bytes], Sequence[bytes]] | None = None,
    run: str,
    data: str,
) -> Drift:
    """Compare the features of held-out samples (`before`) and new ones (`now`), and of pictures `picture_quantities`.

    Samples of equal `contents` are in one fold. Source: D. Lopez-Paz and M. Oquab, "Revisiting classifier two-sample
    tests", 2017.
    """
    from scipy.stats import false_discovery_control, ks_2samp
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seen = (
        [before, now]
        if quantities is None
        else [np.hstack(both) for both in zip((before, now), quantities, strict=True)]
    )
    x, y = np.concatenate(seen), np.repeat([0, 1], [len(before), len(now)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500))
    # If the same content were in two folds, the classifier would predict the data set that it was trained on.
    groups = np.arange(len(y)) if contents is None else np.unique([*contents[0], *contents[1]], return_inverse=True)[1]
    folds = list(StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0).split(x, y, groups))
    scores = cross_val_predict(model, x, y, cv=folds, method="decision_function")
    # Scores of two classifiers have no common scale: they are ranked within their fold.
    auc = float(np.mean([roc_auc_score(y[part], scores[part]) for _, part in folds if np.ptp(y[part])]))
    shifts: tuple[Shift, ...] = ()
    if quantities is not None:
        tests = [float(ks_2samp(a, b).pvalue) for a, b in zip(*(part.T for part in quantities), strict=True)]
        corrected = false_discovery_control(tests)
        medians = (np.median(part, axis=0) for part in quantities)
        shifts = tuple(
            Shift(name, float(a), float(b), float(p))
            for name, a, b, p in zip(QUANTITIES, *medians, corrected, strict=True)
        )
    order = np.argsort(-scores[len(before) :], kind="stable")[:_SHOWN]
    interval = auc_interval(auc, len(now) / _CORRECTED, len(before) / _CORRECTED)
    same = int(np.isin(groups[len(before) :], groups[: len(before)]).sum())
    return Drift(run, data, len(before), len(now), same, auc, interval, shifts, tuple(paths[k] for k in order))
