"""`model.redundant-filters`: do features differ from each other, and do they vary?"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.step_trace import LayerRecord
from striate.doctor.evidence.units import WEIGHTED, duplicate_share, flat_share, hidden
from striate.records import Finding
from striate.wording import listed_names, percent, python_name

_MOST = 0.5
"""Share of a layer's filters that are copies or flat."""
_COSINE = 0.99
"""Cosine of two filters. Random filters of four weights or more are never so near, learned ones hardly ever."""
_STILL = 0.9
_FLAT = 1e-3
"""Standard deviation of a feature map as a share of the layer's largest."""
_FEWEST_UNITS, _FEWEST_WEIGHTS = 6, 4


def _find_redundant_filters(evidence: Evidence) -> Iterator[Finding]:
    """Layers most of whose filters are copies, or have maps that are the same everywhere, at the start and later."""
    known = []
    modules = dict(evidence.setup.model.named_modules())
    for first, later in hidden(evidence.trial):
        if first.kind not in WEIGHTED or first.units is None or len(first.units) < _FEWEST_UNITS:
            continue
        if isinstance(modules.get(first.name), nn.Embedding):  # rows of an embedding are not filters
            continue
        copies, flat = _copies(first, _COSINE), _flat(first)
        if later is not None:
            copies = min(copies, _copies(later, _STILL))
            flat_later = _flat(later)
            # In a branch that starts at zero, all maps are flat at first; later only those that a mask sets to zero.
            flat = flat_later - _unused(later) if flat == 1 and flat_later < 1 else flat
        known.append((first.name, copies, flat))
    bad = [(name, copies, flat) for name, copies, flat in known if copies + flat >= _MOST]
    if not bad:
        return
    name, copies, flat = max(bad, key=lambda item: item[1] + item[2])
    yield Finding(
        code="model.redundant-filters",
        severity="warning",
        where=listed_names([place for place, _, _ in bad]),
        measured=f"{percent(copies, 0)} of the filters of {python_name(name)} are copies of others (cosine above "
        f"{_COSINE:g}), {percent(flat, 0)} of its feature maps are the same everywhere for every sample",
        threshold=f"{percent(_MOST, 0)} of a layer's filters",
        why="Features are most useful if they are uncorrelated and vary much. A copy adds no information.",
        remedy="Initialize each filter at random: `nn.init.kaiming_normal_(layer.weight)`; if filters were pruned, "
        "make the layer narrower.",
    )
    evidence.pictures["model.redundant-filters"] = Picture(
        "bars",
        "Share of filters that are copies or flat",
        {"share": tuple(copies + flat for _, copies, flat in known)},
        tuple(place for place, _, _ in known),
    )


def _copies(layer: LayerRecord, cosine: float) -> float:
    if layer.weight is None or layer.weight.shape[1] < _FEWEST_WEIGHTS:
        return 0.0
    return duplicate_share(layer.weight, cosine)


def _flat(layer: LayerRecord) -> float:
    output = layer.output
    pooled = output is not None and output.ndim > 2 and output[0, 0].numel() == 1
    if layer.units is None or layer.units.shape[1] < 2 or pooled:  # means over maps differ little, as in a gate
        return 0.0
    return flat_share(layer.units, _FLAT)


def _unused(layer: LayerRecord) -> float:
    """The share of rows of weights that are zero."""
    return 0.0 if layer.weight is None else float((layer.weight == 0).flatten(1).all(1).double().mean())


REDUNDANT_FILTERS = Check(
    codes=("model.redundant-filters",),
    run=_find_redundant_filters,
    explains="fit.*",
)
