"""Do all units of a layer begin alike, and stay so?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial_variants import with_fresh_weights
from striate.doctor.evidence.units import WEIGHTED, hidden
from striate.records import Finding, Remedy
from striate.wording import listed

ALIKE = 1e-4
"""Largest difference between units, as a share of the largest weight: rounding makes a thousandth of that."""
FEWEST_STEPS, FEWEST_UNITS, FEWEST_OF_CONSTANT = 5, 2, 4
WORTH = 1.3


def run(evidence: Evidence) -> Iterator[Finding]:
    """Weights of which all units are the same before the trial, and after it."""
    trial = evidence.trial
    if len(trial.rows) < FEWEST_STEPS:
        raise NoEvidence(f"fewer than {FEWEST_STEPS} training steps could be made")
    ended = dict(trial.double.model.named_parameters())
    bad = []
    for name, twin in trial.double.twins.items():
        gradient = trial.first.gradients.get(name)
        if twin.ndim < 2 or not twin.requires_grad or gradient is None or name not in ended:
            continue
        now = ended[name].detach()
        if not bool(torch.isfinite(now).all()) or (gradient > 0 and torch.equal(now, twin)):
            continue  # what could move and was never moved tells nothing
        if any(_alike(twin.detach(), axis) and _alike(now, axis) for axis in range(min(2, twin.ndim))):
            bad.append(name)
    if not bad:
        yield from _slow_to_part(evidence)
        return
    weights = trial.double.twins[bad[0]].detach()
    yield Finding(
        code="model.symmetric-init",
        severity="error",
        where=listed(bad),
        measured=f"all {weights.shape[0]} units of {bad[0]} begin with the same weights (from "
        f"{float(weights.min()):.3g} to "
        f"{float(weights.max()):.3g}), and after {len(trial.rows)} steps they are still the same",
        threshold=f"a difference below {ALIKE:g} of the largest weight, before the trial and after it",
        why="Units that begin alike get the same gradient and stay alike: the layer is worth a single unit.",
        remedy=Remedy(
            f"Draw the weights at random: `nn.init.kaiming_normal_(model.{bad[0]})`; only biases, scales and the "
            "last layer "
            "of a branch may begin at zero.",
            settings={"model.init": "auto"},
        ),
    )


def _slow_to_part(evidence: Evidence) -> Iterator[Finding]:
    """Hidden layers of one constant, which random layers behind them, or dropout, drive apart: it costs time."""
    layers = [layer for layer, _ in hidden(evidence.trial) if layer.kind in WEIGHTED and layer.weight is not None]
    bad = [
        layer.name
        for layer in layers
        if layer.weight is not None
        and min(layer.weight.shape) >= FEWEST_OF_CONSTANT
        and float(layer.weight.abs().max()) > 0
        and _alike(layer.weight, 0)
    ]
    fresh = with_fresh_weights(evidence, "he") if bad else None
    if fresh is None or not fresh.beats(evidence.progress, WORTH):
        return
    yield Finding(
        code="model.symmetric-init",
        severity="warning",
        where=listed(bad),
        measured=f"all units of {bad[0]} begin with the same weights; with he-normal ones the loss after "
        f"{fresh.steps} steps is {fresh} instead of {evidence.progress}",
        threshold=f"the same weights in all units, and a loss {WORTH:g} times lower without",
        why="Units that begin alike can only be told apart by what comes behind them, and stay near each other for "
        "long.",
        remedy=Remedy(
            f"Draw the weights at random: `nn.init.kaiming_normal_(model.{bad[0]}.weight)`.",
            settings={"model.init": "auto"},
        ),
    )


def _alike(weight: torch.Tensor, axis: int) -> bool:
    if weight.shape[axis] < FEWEST_UNITS or weight.numel() == weight.shape[axis]:
        return False
    if axis == 1 and weight.ndim > 2:
        return False
    rows = weight.transpose(0, axis).flatten(1).double()
    return float((rows - rows[:1]).abs().max()) <= ALIKE * float(rows.abs().max())


CHECK = Check(
    codes=("model.symmetric-init",),
    question="Do all units of a layer begin alike and stay alike?",
    threshold=f"Weights that differ by less than {ALIKE:g} of the largest, from unit to unit, before the trial and "
    "after it. "
    "Last layers and branches that begin at zero are no longer alike after a step. A warning where a hidden layer of "
    f"one constant comes apart in the trial, but random weights make the loss {WORTH:g} times lower.",
    run=run,
    explains=(
        "model.collapsed model.dead-units model.redundant-filters model.vanishing-gradient optim.lr-too-low fit.*"
    ),
)
