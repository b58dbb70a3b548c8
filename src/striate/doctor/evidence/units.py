"""The units of layers at the first step and at a later one."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.doctor.evidence.step_trace import LayerRecord
from striate.doctor.evidence.trial import Trial

WEIGHTED = ("weights", "product")


def hidden(trial: Trial) -> Iterator[tuple[LayerRecord, LayerRecord | None]]:
    """The calls of layers before the last layer with weights, each with the same call at the later step, or None."""
    layers, later = trial.first.layers, trial.later.layers
    weighted = [i for i, layer in enumerate(layers) if layer.kind in WEIGHTED]
    same = len(layers) == len(later) and all(a.name == b.name for a, b in zip(layers, later, strict=True))
    for i, layer in enumerate(layers[: weighted[-1]] if weighted else []):
        yield layer, later[i] if same else None


def flat_share(units: torch.Tensor, least: float) -> float:
    """The share of units (units, values) whose standard deviation is at most `least` times the largest; 1 where all are
    constant."""
    deviation = units.std(1, correction=0)
    largest = float(deviation.max())
    return float((deviation <= least * largest).float().mean())


def duplicate_share(rows: torch.Tensor, cosine: float) -> float:
    """The share of rows (units, weights) whose cosine with an earlier row exceeds `cosine`."""
    norms = rows.norm(dim=1, keepdim=True)
    unit = rows / norms.clamp_min(1e-30)
    alike = (unit @ unit.t()).tril(-1) > cosine
    return float((alike.any(1) & (norms[:, 0] > 0)).float().mean())
