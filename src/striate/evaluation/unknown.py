"""How well a network detects samples unlike those that it was trained on (out-of-distribution detection)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.dataset import Split
from striate.data.loader import batches
from striate.errors import one_line
from striate.evaluation.similarity.nearest import search_exactly
from striate.evaluation.similarity.vectors import Vectors, compute_vectors
from striate.statistics.conformal import Conformal, UnknownDetection, calibrate, fewest_for, measure_detection
from striate.training.trained import Trained
from striate.visualize.inside.passes import batches as batches_of
from striate.visualize.inside.passes import evenly_spaced, layer_outputs
from striate.wording import filled, percent, several

BANK = 5_000
"""Largest number of training samples, evenly spaced, that features are compared with."""
_NEIGHBOR = 10
_BATCH = 256
_LAYERS, _UNITS = 8, 128
"""Numbers of layers whose outputs are summarized, and of units of each layer, both evenly spaced."""
SCORES = {
    "all": "the lowest of the others, each as the share of validation samples with a lower score",
    "probability": "the probability of the most probable class",
    "features": f"the cosine similarity to the {_NEIGHBOR}th nearest training sample, by the features",
    "layers": f"minus the distance to the {_NEIGHBOR}th nearest, by mean and standard deviation of maps at all depths",
}


@dataclass(frozen=True, eq=False)
class Signals:
    """What the scores of known and unknown samples are computed from."""

    features: Vectors
    """(N, F) features of length 1."""
    layers: Vectors
    """(N, L) means and standard deviations of the outputs of layers."""
    probabilities: NDArray[np.float32] | None
    """(N, K) probabilities of classes; None where the task has none."""


def signals_of(trained: Trained, inputs: Iterable[NDArray[Any]]) -> Signals:
    """The signals of batches of raw inputs (B, …)."""
    features, layers, decoded = [], [], []
    for raw in inputs:
        features.append(compute_vectors(trained, raw)[0])
        layers.append(_of_layers(trained, raw))
        if not trained.task.gives_vector:
            decoded.append(trained.decode(torch.from_numpy(raw)).numpy())
    vectors = np.concatenate(features), np.concatenate(layers)
    found = np.concatenate(decoded) if decoded else None
    return Signals(*vectors, found if found is not None and trained.task.predicted(found) is not None else None)


def _of_layers(trained: Trained, inputs: NDArray[Any]) -> Vectors:
    """(N, L) outputs of the layers of the network in few numbers: of maps, mean and standard deviation over positions.

    Source of the use of all depths: K. Lee et al., "A simple unified framework for detecting out-of-distribution
    samples", NeurIPS 2018.
    """
    raw = torch.from_numpy(inputs)
    x = trained.normalization.on(trained.device, raw.ndim)(raw.to(trained.device))
    parts = []
    for part in batches_of(x):
        given = layer_outputs(trained.module, part, part=_summed_up)[:-1]
        chosen = (
            [given[place].values for place in evenly_spaced(len(given), _LAYERS)]
            if given
            else [torch.zeros(len(part), 1)]
        )
        parts.append(torch.cat(chosen, 1))
    return torch.cat(parts).cpu().numpy()


def _summed_up(values: torch.Tensor) -> torch.Tensor:
    """(B, at most 2 · 128) numbers of outputs (B, C, …)."""
    some = values[:, evenly_spaced(values.shape[1], _UNITS).to(values.device)].float()
    if some.ndim == 2:
        return some
    flat = some.flatten(2)
    return torch.cat([flat.mean(2), flat.std(2, correction=0)], 1)


def inputs_of(split: Split, most: int | None = None) -> Iterator[NDArray[Any]]:
    """Batches of raw inputs of a split; of at most `most` samples, evenly spaced."""
    if most is not None and len(split) > most:
        split = split.take(torch.arange(most) * len(split) // most)
    for part in batches(split, _BATCH):
        yield part.inputs.numpy()


@dataclass(frozen=True, eq=False)
class KnownSamples:
    """The samples that a network was trained and validated on, which new samples are compared with."""

    bank: Signals
    """Signals of training samples."""
    val: Signals
    """Signals of validation samples."""
    calibration: Mapping[str, NDArray[np.float64]]
    """By score: its values for the validation samples, in rising order."""

    @staticmethod
    def of(trained: Trained, train: Split, val: Split) -> KnownSamples:
        """The known samples of the run's own splits."""
        bank = signals_of(trained, inputs_of(train, BANK))
        signals = signals_of(trained, inputs_of(val))
        scores = raw_scores(bank, signals)
        return KnownSamples(bank, signals, {name: np.sort(values) for name, values in scores.items()})

    def scores(self, signals: Signals) -> dict[str, NDArray[np.float64]]:
        """(N,) values of each score that can be computed, by the names of `SCORES`; higher for known samples."""
        found = raw_scores(self.bank, signals)
        shares = [
            (np.searchsorted(self.calibration[name], values, "right") + values * 1e-9) / len(self.calibration[name])
            for name, values in found.items()
        ]
        return {"all": np.min(shares, 0), **found}


def raw_scores(bank: Signals, signals: Signals) -> dict[str, NDArray[np.float64]]:
    """The scores `probability` (where there are classes), `features` and `layers`."""
    count = min(_NEIGHBOR, len(bank.features))
    near = search_exactly(bank.features, signals.features, count)[1][:, -1].astype(np.float64)
    found = {"features": near, "layers": -_distances(bank.layers, signals.layers, count)}
    if signals.probabilities is None:
        return found
    return {"probability": signals.probabilities.max(1).astype(np.float64), **found}


def _distances(bank: Vectors, vectors: Vectors, count: int) -> NDArray[np.float64]:
    """(N,) distance of each vector to the `count`-th nearest of `bank`, in units of the bank's standard deviations."""
    mean, deviation = bank.mean(0), bank.std(0)
    deviation = np.where(deviation > 0, deviation, 1)
    known, new = (bank - mean) / deviation, (vectors - mean) / deviation
    # ‖new − known‖² = ‖new‖² − 2 (new · known − ‖known‖² / 2): the nearest has the largest product.
    known = np.column_stack([known, np.square(known).sum(1)])
    products = search_exactly(known, np.column_stack([new, np.full(len(new), -0.5, np.float32)]), count)[1][:, -1]
    squared = np.maximum(np.square(new).sum(1) - 2 * products, 0)
    return np.asarray(np.sqrt(squared), np.float64)


@dataclass(frozen=True)
class SetsMeasured:
    """How sets of classes that promise an error rate hold for known and unknown samples. Shares are from 0 to 1."""

    rate: float
    """Promised error rate."""
    coverage: float
    """Share of the known samples whose set holds the true class."""
    size: float
    """Mean number of classes in the set of a known sample."""
    single: float
    """Share of the known samples whose set has exactly one class."""
    wrong: float
    """Share of those whose one class is wrong."""
    unknown_turned_down: float
    """Share of the unknown samples whose set does not have exactly one class."""


@dataclass(frozen=True)
class UnknownMeasured:
    """How well each score separates known samples, those of the run's own held-out split, from unknown ones."""

    run: str
    """Name of the run."""
    unknown: str
    """Name of the unknown data."""
    headline: str
    """The score that is reported first, chosen beforehand."""
    scores: Mapping[str, UnknownDetection]
    """How well each score separates, by the names of `SCORES`."""
    sets: tuple[SetsMeasured, ...] = ()
    """A row for each promised error rate; empty where the task has no classes, or validation too few samples."""

    def to_json(self) -> dict[str, Any]:
        """One JSON object; `auroc` and `fpr95` are those of the headline."""
        first = self.scores[self.headline]
        found = {
            name: {
                "auroc": one.auroc,
                "auroc_interval": [one.auroc_interval.low, one.auroc_interval.high],
                "fpr95": one.fpr95,
                "score": SCORES[name],
            }
            for name, one in self.scores.items()
        }
        return {
            "run": self.run,
            "unknown": self.unknown,
            "n_known": first.known,
            "n_unknown": first.unknown,
            **found[self.headline],
            "scores": found,
            "sets": [asdict(one) for one in self.sets],
        }

    def __str__(self) -> str:
        """Text of up to 80 columns."""
        first = self.scores[self.headline]
        unknown, known = several(first.unknown, "sample"), several(first.known, "held-out sample")
        lines = filled(f"{unknown} of {one_line(self.unknown)}, against {known}", 80).split("\n")
        lines.append(f"  {'score':<14}{'AUROC':>9}   95 % interval       FPR at 95 % TPR")
        for name, one in self.scores.items():
            ends = f"{100 * one.auroc_interval.low:.2f} – {percent(one.auroc_interval.high, 2)}"
            lines.append(f"  {name:<14}{percent(one.auroc):>9}   {ends:<19} {percent(one.fpr95):>9}")
        if self.sets:
            lines.append("  sets of classes that contain the true one, calibrated on validation:")
            lines.append("    promised  coverage  classes  one class  of which wrong  unknown: not one")
        for row in self.sets:
            lines.append(
                f"    {percent(1 - row.rate):>8}  {percent(row.coverage):>8}  {row.size:>7.2f}"
                f"  {percent(row.single):>9}  {percent(row.wrong):>14}  {percent(row.unknown_turned_down):>16}"
            )
        return "\n".join(lines)


RATES = (0.01, 0.05, 0.1)


def measure_sets(
    calibrated_on: tuple[NDArray[Any], NDArray[Any]],
    known: tuple[NDArray[Any], NDArray[Any]],
    unknown: NDArray[Any],
    rates: Iterable[float] = RATES,
) -> tuple[SetsMeasured, ...]:
    """The measurements for each rate for which there are enough validation samples. Tuples hold probabilities and class
    numbers."""
    found = []
    for rate in rates:
        if len(calibrated_on[1]) < fewest_for(rate):
            continue
        found.append(_measured(calibrate(*calibrated_on, rate), known, unknown))
    return tuple(found)


def _measured(conformal: Conformal, known: tuple[NDArray[Any], NDArray[Any]], unknown: NDArray[Any]) -> SetsMeasured:
    probabilities, truth = known
    sets = conformal.sets(probabilities)
    single = sets.sum(1) == 1
    right = sets[np.arange(len(truth)), truth]
    wrong = float((~right[single]).mean()) if single.any() else 0.0
    down = float((conformal.sets(unknown).sum(1) != 1).mean())
    size, one_class = float(sets.sum(1).mean()), float(single.mean())
    return SetsMeasured(conformal.rate, float(right.mean()), size, one_class, wrong, down)


def measure_unknown(
    trained: Trained, splits: Mapping[str, Split], held_out: str, unknown: Signals, *, run: str, name: str
) -> UnknownMeasured:
    """Measure with the run's own `splits` and the signals of unknown samples."""
    reference = KnownSamples.of(trained, splits["train"], splits["val"])
    known = signals_of(trained, inputs_of(splits[held_out]))
    inside, outside = reference.scores(known), reference.scores(unknown)
    scores = {score: measure_detection(inside[score], outside[score]) for score in inside}
    sets: tuple[SetsMeasured, ...] = ()
    val = reference.val.probabilities
    if val is not None and known.probabilities is not None and unknown.probabilities is not None:
        of_val, of_known = splits["val"].targets.numpy(), splits[held_out].targets.numpy()
        sets = measure_sets((val, of_val), (known.probabilities, of_known), unknown.probabilities)
    return UnknownMeasured(run, name, next(iter(scores)), scores, sets)
