"""How well a network tells that a sample is of nothing that it was trained on."""

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
from striate.statistics.conformal import Conformal, Detected, calibrate, detection, fewest_for
from striate.training.trained import Trained
from striate.visualize.inside.passes import batches as batches_of
from striate.visualize.inside.passes import evenly_spaced, layer_outputs
from striate.wording import filled, percent, several

BANK = 5_000
"""So many training samples at most, evenly spread, that features are compared with."""
_NEIGHBOR = 10
_BATCH = 256
_LAYERS, _UNITS = 8, 128
"""Layers whose outputs are summed up, and units of each, both evenly spread."""
SCORES = {
    "all": "the lowest of the others, each as the share of validation samples with a lower score",
    "probability": "the probability of the most probable class",
    "features": f"the cosine similarity to the {_NEIGHBOR}th nearest training sample, by the features",
    "layers": f"minus the distance to the {_NEIGHBOR}th nearest, by mean and standard deviation of maps at all depths",
}


@dataclass(frozen=True, eq=False)
class Signals:
    """Of samples: their unit `features` (N, F), the mean and deviation of outputs of `layers` (N, L), and the
    `probabilities` (N, K) of classes, where the task has such."""

    features: Vectors
    layers: Vectors
    probabilities: NDArray[np.float32] | None


def signals_of(trained: Trained, inputs: Iterable[NDArray[Any]]) -> Signals:
    """Of batches of raw inputs (B, …)."""
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
    """(N, L) what the layers of the network give, in few numbers: of maps mean and standard deviation over positions.
    Source: K. Lee et al., "A simple unified framework for detecting out-of-distribution samples", NeurIPS 2018, for
    looking at all depths."""
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
    """(B, at most 2 · 128) of (B, C, …)."""
    some = values[:, evenly_spaced(values.shape[1], _UNITS).to(values.device)].float()
    if some.ndim == 2:
        return some
    flat = some.flatten(2)
    return torch.cat([flat.mean(2), flat.std(2, correction=0)], 1)


def inputs_of(split: Split, most: int | None = None) -> Iterator[NDArray[Any]]:
    """Batches of raw inputs of a split, of `most` samples at most, evenly spread."""
    if most is not None and len(split) > most:
        split = split.take(torch.arange(most) * len(split) // most)
    for part in batches(split, _BATCH):
        yield part.inputs.numpy()


@dataclass(frozen=True, eq=False)
class Familiar:
    """What a network was trained on, to be compared with: the signals of training samples (`bank`), those of
    validation samples, and their scores in rising order."""

    bank: Signals
    val: Signals
    calibration: Mapping[str, NDArray[np.float64]]

    @staticmethod
    def of(trained: Trained, train: Split, val: Split) -> Familiar:
        """From the splits of the run's own data."""
        bank = signals_of(trained, inputs_of(train, BANK))
        signals = signals_of(trained, inputs_of(val))
        scores = raw_scores(bank, signals)
        return Familiar(bank, signals, {name: np.sort(values) for name, values in scores.items()})

    def scores(self, signals: Signals) -> dict[str, NDArray[np.float64]]:
        """(N,) of each of `SCORES` that there is, higher for what is known."""
        found = raw_scores(self.bank, signals)
        shares = [
            (np.searchsorted(self.calibration[name], values, "right") + values * 1e-9) / len(self.calibration[name])
            for name, values in found.items()
        ]
        return {"all": np.min(shares, 0), **found}


def raw_scores(bank: Signals, signals: Signals) -> dict[str, NDArray[np.float64]]:
    """`probability`, where there are classes, `features` and `layers`."""
    count = min(_NEIGHBOR, len(bank.features))
    near = search_exactly(bank.features, signals.features, count)[1][:, -1].astype(np.float64)
    found = {"features": near, "layers": -_distances(bank.layers, signals.layers, count)}
    if signals.probabilities is None:
        return found
    return {"probability": signals.probabilities.max(1).astype(np.float64), **found}


def _distances(bank: Vectors, vectors: Vectors, count: int) -> NDArray[np.float64]:
    """(N,) from each to the `count`-th nearest of `bank`, in deviations of the bank's numbers."""
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
    """Sets that promise an error `rate`: the share of known samples whose set holds the true class, the mean number of
    classes in it, how many known samples get one class and how many of those a wrong one; and how many of the unknown
    samples get no single class."""

    rate: float
    coverage: float
    size: float
    answered: float
    wrong: float
    unknown_turned_down: float


@dataclass(frozen=True)
class UnknownMeasured:
    """How well each score tells known samples (of the run's own held-out split) from unknown ones. `headline` is the
    score in front, chosen beforehand; `sets` for each rate."""

    run: str
    unknown: str
    headline: str
    scores: Mapping[str, Detected]
    sets: tuple[SetsMeasured, ...] = ()

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
        """In 80 columns."""
        first = self.scores[self.headline]
        unknown, known = several(first.unknown, "sample"), several(first.known, "held-out sample")
        lines = filled(f"{unknown} of {one_line(self.unknown)}, against {known}", 80).split("\n")
        lines.append(f"  {'score':<14}{'AUROC':>9}   95 % interval       FPR at 95 % TPR")
        for name, one in self.scores.items():
            ends = f"{100 * one.auroc_interval.low:.2f} – {100 * one.auroc_interval.high:.2f} %"
            lines.append(f"  {name:<14}{percent(one.auroc):>9}   {ends:<19} {percent(one.fpr95):>9}")
        if self.sets:
            lines.append("  sets of classes that contain the true one, calibrated on validation:")
            lines.append("    promised  holds it  classes  one class  of which wrong  unknown: not one")
        for row in self.sets:
            lines.append(
                f"    {percent(1 - row.rate):>8}  {percent(row.coverage):>8}  {row.size:>7.2f}"
                f"  {percent(row.answered):>9}  {percent(row.wrong):>14}  {percent(row.unknown_turned_down):>16}"
            )
        return "\n".join(lines)


RATES = (0.01, 0.05, 0.1)


def measure_sets(
    calibrated_on: tuple[NDArray[Any], NDArray[Any]],
    known: tuple[NDArray[Any], NDArray[Any]],
    unknown: NDArray[Any],
    rates: Iterable[float] = RATES,
) -> tuple[SetsMeasured, ...]:
    """For each rate that the validation samples (probabilities, class numbers) are enough for."""
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
    size, answered = float(sets.sum(1).mean()), float(single.mean())
    return SetsMeasured(conformal.rate, float(right.mean()), size, answered, wrong, down)


def measure_unknown(
    trained: Trained, splits: Mapping[str, Split], held_out: str, unknown: Signals, *, run: str, name: str
) -> UnknownMeasured:
    """From the run's own `splits` and the signals of unknown samples."""
    familiar = Familiar.of(trained, splits["train"], splits["val"])
    known = signals_of(trained, inputs_of(splits[held_out]))
    inside, outside = familiar.scores(known), familiar.scores(unknown)
    scores = {score: detection(inside[score], outside[score]) for score in inside}
    sets: tuple[SetsMeasured, ...] = ()
    val = familiar.val.probabilities
    if val is not None and known.probabilities is not None and unknown.probabilities is not None:
        of_val, of_known = splits["val"].targets.numpy(), splits[held_out].targets.numpy()
        sets = measure_sets((val, of_val), (known.probabilities, of_known), unknown.probabilities)
    return UnknownMeasured(run, name, next(iter(scores)), scores, sets)
