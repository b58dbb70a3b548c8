"""Invariance of the layers of a network: how far features move when an image is shifted, scaled or rotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from striate.errors import one_line
from striate.evaluation.robustness.robustness import strength_text
from striate.wording import filled, percent, several

Mean = tuple[float, float, float]
"""A mean over images, and the ends of its 95 % interval (bootstrap)."""
_WIDTH, _LABEL, _CELL = 80, 24, 6
_MOST_COLUMNS = (_WIDTH - _LABEL) // _CELL


@dataclass(frozen=True)
class InvarianceLevel:
    """How far the features move at one strength of a change."""

    strength: float
    """Strength of the change, in the unit of the curve."""
    distances: tuple[Mean, ...]
    """For each layer the distance from the features of the original image; 1 is as far as another image's."""
    probability: Mean | None
    """Probability of the true class; None where the run predicts no classes."""

    def to_json(self, layers: Sequence[str]) -> dict[str, Any]:
        """Plain values: `distances` by layer, each `{"mean", "interval"}`."""
        found = {name: _plain(mean) for name, mean in zip(layers, self.distances, strict=True)}
        probability = None if self.probability is None else _plain(self.probability)
        return {"strength": self.strength, "distances": found, "probability": probability}


def _plain(mean: Mean) -> dict[str, Any]:
    return {"mean": mean[0], "interval": list(mean[1:])}


@dataclass(frozen=True)
class InvarianceCurve:
    """The distances for one kind of change."""

    name: str
    """Name of the kind."""
    unit: str
    """What follows a strength in words."""
    identity: float
    """The strength that changes nothing, where all distances are 0."""
    levels: tuple[InvarianceLevel, ...]
    """The distances at each strength."""


@dataclass(frozen=True)
class Invariance:
    """How far the features of each layer move when images are changed.

    A distance is Euclidean, relative to the mean distance between the features of two different images in the same
    layer, so that layers can be compared. After M. Zeiler and R. Fergus, "Visualizing and understanding convolutional
    networks", ECCV 2014, figure 5.
    """

    data: str
    """Name of the data set."""
    split: str
    """Name of the split."""
    n: int
    """Number of images that are measured."""
    of: int
    """Number of images of the split."""
    seed: int
    """All randomness follows from it, the kind of change and the sample's id."""
    layers: tuple[str, ...]
    """Names of the layers, from the first to the last."""
    curves: tuple[InvarianceCurve, ...]
    """A curve for each kind of change."""
    probability: Mean | None
    """Probability of the true class for the original images; None where the run predicts no classes."""

    def to_json(self) -> dict[str, Any]:
        """The content of invariance.json."""
        curves = [
            {"name": curve.name, "unit": curve.unit, "identity": curve.identity,
             "levels": [level.to_json(self.layers) for level in curve.levels]}
            for curve in self.curves
        ]  # fmt: skip
        return {
            "data": self.data, "split": self.split, "n": self.n, "of": self.of, "seed": self.seed,
            "layers": list(self.layers), "distance": "Euclidean, relative to that between two images",
            "probability": None if self.probability is None else _plain(self.probability), "curves": curves,
        }  # fmt: skip

    @property
    def summary(self) -> str:
        """For each kind, at one of its larger strengths, how far the first and the last layer move."""
        return " ".join(_sentence(self, curve) for curve in self.curves)

    def __str__(self) -> str:
        return render(self)


def _sentence(found: Invariance, curve: InvarianceCurve) -> str:
    level = curve.levels[3 * len(curve.levels) // 4]
    first, last = level.distances[0][0], level.distances[-1][0]
    moved = f"A {curve.name} of {strength_text(level.strength, curve.unit)} moves the features of {found.layers[0]} by "
    moved += f"{first:.2f} times the distance to another image"
    return f"{moved}, those of {found.layers[-1]} by {last:.2f} times." if len(found.layers) > 1 else f"{moved}."


def render(found: Invariance) -> str:
    """A table for each kind: the distance of each layer, and the probability of the true class, at each strength."""
    count = several(found.n, "image") if found.n == found.of else f"{found.n:,} of {several(found.of, 'image')}"
    title = (
        f"{one_line(found.data)}, {found.split} split: {count}. Distance of features from those of the original image; "
        "1: as far as those of another image."
    )
    lines = [filled(title, _WIDTH), ""]
    for curve in found.curves:
        shown = _shown(curve.levels)
        lines.append(_row(f"{curve.name}, {curve.unit}", [f"{level.strength:g}" for level in shown]))
        for place, layer in enumerate(found.layers):
            lines.append(_row(f"  {layer}"[: _LABEL - 1], [f"{level.distances[place][0]:.2f}" for level in shown]))
        if found.probability is not None:
            cells = ["–" if level.probability is None else percent(level.probability[0], 0) for level in shown]
            lines.append(_row("  p of the true class", cells))
        lines.append("")
    widest = max((high - low) / 2 for c in found.curves for level in c.levels for _, low, high in level.distances)
    note = f"95 % intervals of distances (bootstrap over images) reach at most {widest:.2f} either way."
    if found.probability is not None:
        note += f" The probability of the true class is {percent(found.probability[0])} for the original images."
    return "\n".join([*lines, filled(found.summary, _WIDTH), filled(note, _WIDTH)])


def _shown(levels: Sequence[InvarianceLevel]) -> list[InvarianceLevel]:
    """As many levels as fit on a line, evenly spaced, with both ends."""
    count = min(_MOST_COLUMNS, len(levels))
    return [levels[round(k * (len(levels) - 1) / max(1, count - 1))] for k in range(count)]


def _row(label: str, cells: Sequence[str]) -> str:
    return f"{label:<{_LABEL}}" + "".join(f"{cell:>{_CELL}}" for cell in cells)
