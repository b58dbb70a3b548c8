"""Shifts, scales and rotates images, and measures how far the features of each layer move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.dataset import Dataset
from striate.errors import DataError, ModelError
from striate.evaluation.robustness import changes
from striate.evaluation.robustness.changes import Draws
from striate.evaluation.robustness.invariance import Invariance, InvarianceCurve, InvarianceLevel, Mean
from striate.evaluation.robustness.kinds import Change, shifts
from striate.evaluation.robustness.measure_robustness import refuse_no_images
from striate.statistics.intervals import percentile_interval, resampled_means
from striate.training.trained import Trained
from striate.visualize.inside.passes import batches, evenly_spaced, layer_outputs
from striate.wording import several

MOST, LAYERS = 200, 5
"""Default numbers of images and of layers that are measured."""
_ANGLES = (10, 20, 30, 45, 60, 75, 90, 105, 120, 135, 150, 165, 180)
_SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.25, 1.5, 1.75, 2.0)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Kind:
    name: str
    unit: str
    identity: float
    strengths: tuple[float, ...]
    change: Change


def _kinds(height: int, width: int) -> tuple[_Kind, ...]:
    return (
        _Kind("shift", "pixels", 0, shifts(min(height, width)), changes.shift),
        _Kind("scale", "×", 1, _SCALES, changes.scale),
        _Kind("rotation", "°", 0, _ANGLES, changes.rotate),
    )


@dataclass
class _Sums:
    """The measurements of all images so far, a list entry for each batch."""

    moved: dict[tuple[str, float], list[Floats]] = field(default_factory=dict)
    """By kind and strength: (B, layers) distances of the features of changed images from those of the originals."""
    probable: dict[tuple[str, float], list[Floats]] = field(default_factory=dict)
    """By kind and strength: (B,) probabilities of the true class of changed images."""
    others: list[Floats] = field(default_factory=list)
    """(B, layers) distances between the features of an image and the one before it."""
    last: list[torch.Tensor] = field(default_factory=list)
    """For each layer the features of the last image."""
    plain: list[Floats] = field(default_factory=list)
    """(B,) probabilities of the true class of original images."""


def measure_invariance(
    trained: Trained,
    data: Dataset,
    split: str,
    *,
    samples: int = MOST,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Invariance:
    """How far the features of up to 5 layers, the first and the last among them, move when `samples` images of a split
    are shifted (in one of four random directions), scaled about the center, or rotated in a random direction.

    Layers are activations and the output layer. Images are changed as bytes; pixels from outside repeat the edge. The
    network does not change. Raises DataError for other media than images, and for fewer than two images.
    """
    refuse_no_images(data, split, "invariance")
    held = data.splits[split]
    count = min(samples, len(held))
    if count < 2:
        raise DataError(f"invariance on the {split} split of {data.name}", "1 image", "2 or more", "add images")
    rows = evenly_spaced(len(held), count)
    pool, ids = held.inputs[rows].cpu().contiguous(), held.ids.cpu()[rows].numpy()
    labels = held.targets.cpu()[rows] if _has_classes(trained, data) else None
    layers = _layers(trained, pool[:1])
    sums, kinds, start = _Sums(), _kinds(*data.input_shape[1:]), 0
    for part in batches(pool):
        at = slice(start, start + len(part))
        truth = None if labels is None else labels[at]
        draws = {kind.name: Draws(seed, kind.name, ids[at], np.arange(count)[at], pool) for kind in kinds}
        _measure(trained, part, truth, layers, kinds, draws, sums)
        start = at.stop
        progress(f"{start:,} of {several(count, 'image')}")
    between = np.concatenate(sums.others).mean(0)
    curves = tuple(_curve(kind, sums, np.where(between > 0, between, 1)) for kind in kinds)
    plain = _mean(np.concatenate(sums.plain)[:, None])[0] if sums.plain else None
    return Invariance(data.name, split, count, len(held), seed, layers, curves, plain)


def _has_classes(trained: Trained, data: Dataset) -> bool:
    """Whether predictions are a probability for each class, and each sample has one."""
    targets = data.splits["train"].targets
    numbers = isinstance(targets, torch.Tensor) and targets.ndim == 1 and not targets.is_floating_point()
    return numbers and len(data.classes) > 1 and trained.task.outputs == len(data.classes)


def _layers(trained: Trained, raw: torch.Tensor) -> tuple[str, ...]:
    """Names of up to 5 layers, evenly spaced: activations and the last layer. Raises ModelError where none is known."""
    found = layer_outputs(trained.module, _normalized(trained, raw))
    names = [each.name for each in found if each.activation]
    names += [each.name for each in found[-1:] if each.name not in names]
    if not names:
        raise ModelError("network", "no layers whose outputs are known", "one with layers", "another network")
    return tuple(names[int(k)] for k in evenly_spaced(len(names), LAYERS))


def _normalized(trained: Trained, raw: torch.Tensor) -> torch.Tensor:
    return trained.normalization.on(trained.device, raw.ndim)(raw.to(trained.device))


def _features(trained: Trained, raw: torch.Tensor, layers: Sequence[str]) -> list[torch.Tensor]:
    """The features (N, F) float32 of each layer."""
    outputs = layer_outputs(trained.module, _normalized(trained, raw), layers)
    known = {output.name: output.values.flatten(1) for output in outputs}
    return [known[name] for name in layers]


def _measure(
    trained: Trained,
    part: torch.Tensor,
    truth: torch.Tensor | None,
    layers: Sequence[str],
    kinds: Sequence[_Kind],
    draws: Mapping[str, Draws],
    sums: _Sums,
) -> None:
    """Add the measurements of a batch."""
    before = _features(trained, part, layers)
    if sums.last:  # a batch of large images may have a single one
        sums.others.append(_distances([each[:1] for each in before], sums.last))
    sums.others.append(_distances([each[1:] for each in before], [each[:-1] for each in before]))
    sums.last = [each[-1:].clone() for each in before]
    if truth is not None:
        sums.plain.append(_probability(trained, part, truth))
    for kind in kinds:
        drawn = draws[kind.name]
        for strength in kind.strengths:
            changed = kind.change(part, strength, drawn)
            moved = _distances(before, _features(trained, changed, layers))
            sums.moved.setdefault((kind.name, strength), []).append(moved)
            if truth is not None:
                probable = _probability(trained, changed, truth)
                sums.probable.setdefault((kind.name, strength), []).append(probable)


def _distances(one: Sequence[torch.Tensor], two: Sequence[torch.Tensor]) -> Floats:
    """(N, layers) Euclidean distances of features."""
    columns = [(a - b).double().square().sum(1).sqrt().cpu().numpy() for a, b in zip(one, two, strict=True)]
    return np.stack(columns, 1)


def _probability(trained: Trained, raw: torch.Tensor, truth: torch.Tensor) -> Floats:
    """(N,) probability of the true class."""
    decoded = trained.decode(raw)
    return decoded[torch.arange(len(truth)), truth].double().numpy()


def _curve(kind: _Kind, sums: _Sums, between: Floats) -> InvarianceCurve:
    levels = []
    for strength in kind.strengths:
        moved = _mean(np.concatenate(sums.moved[kind.name, strength]) / between)
        probable = sums.probable.get((kind.name, strength))
        share = None if probable is None else _mean(np.concatenate(probable)[:, None])[0]
        levels.append(InvarianceLevel(float(strength), tuple(moved), share))
    return InvarianceCurve(kind.name, kind.unit, kind.identity, tuple(levels))


def _mean(values: Floats) -> list[Mean]:
    """The mean of each column of (N, M) over images, with its interval."""
    drawn = resampled_means(values)
    spans = [percentile_interval(column) for column in drawn.T]
    return [(float(mean), span.low, span.high) for mean, span in zip(values.mean(0), spans, strict=True)]
