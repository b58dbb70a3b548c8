"""`model.saturated`: are most outputs of bounded activations at their limits?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.account.signal.findings import MOST_SATURATED
from striate.doctor.checks.check import Check
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.step_trace import LayerRecord
from striate.doctor.evidence.trial_variants import with_fresh_weights
from striate.doctor.evidence.units import hidden
from striate.records import Finding, Remedy
from striate.wording import listed_names, percent, python_name, several

_RANGES = {
    "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
}
_NEAR = 0.015
"""Distance from a limit, as a share of the range: there, tanh and sigmoid have a slope below a sixteenth of the
steepest."""
_LEARNED, _LITTLE = 0.5, 0.15
_WORTH = 1.15
"""How many times lower the loss is with other weights; trials differ by some percent by chance."""


def _find_saturated(evidence: Evidence) -> Iterator[Finding]:
    """Layers most of whose outputs are at a limit, at the start and at a later step."""
    known = []
    for first, later in hidden(evidence.trial):
        share = _saturated(first)
        after = _saturated(later) if later is not None else share
        if share is not None and after is not None:
            known.append((first.name, min(share, after)))
    bad = [(name, share) for name, share in known if share > MOST_SATURATED]
    if not bad:
        return
    own = evidence.progress
    fresh = with_fresh_weights(evidence, "glorot")
    helps = fresh is not None and fresh.beats(own, _WORTH)
    if own.share > _LEARNED and not helps:
        return
    name, share = max(bad, key=lambda item: item[1])
    gain = (
        f"; with glorot-normal weights and biases of zero the loss after {several(fresh.steps, 'step')} is {fresh} "
        f"instead of {own}"
        if fresh is not None and helps
        else ""
    )
    yield Finding(
        code="model.saturated",
        severity="error" if own.share < _LITTLE else "warning",
        where=listed_names([name for name, _ in bad]),
        measured=f"{percent(share, 0)} of the outputs of {python_name(name)} are at a limit, before the first step and "
        f"later{gain}",
        threshold=f"{percent(MOST_SATURATED, 0)} of the outputs within {percent(_NEAR)} of the range from a limit",
        why="At a limit the slope is nearly zero, so the layers before get almost no gradient.",
        remedy=Remedy(
            "Start with `nn.init.xavier_normal_(layer.weight)`, standardize the inputs, or put `nn.BatchNorm2d` "
            "(`nn.BatchNorm1d` after linear layers) before the activation.",
            settings={"model.init": "auto"},
            advice="bn before the activation, in a layer string",
        ),
    )
    evidence.pictures["model.saturated"] = Picture(
        "bars", "Share of outputs at a limit", {"saturated": tuple(s for _, s in known)}, tuple(n for n, _ in known)
    )


def _saturated(layer: LayerRecord) -> float | None:
    if layer.kind not in _RANGES or layer.output is None or layer.output.numel() < 32:
        return None
    low, high = _RANGES[layer.kind]
    middle, reach = (low + high) / 2, (high - low) / 2
    return float(((layer.output - middle).abs() > (1 - 2 * _NEAR) * reach).to(torch.float32).mean())


SATURATED = Check(
    codes=("model.saturated",),
    run=_find_saturated,
    quick=False,
    explains="loss.initial-off model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*",
)
