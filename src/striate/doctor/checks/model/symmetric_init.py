"""`model.symmetric-init`: do all units of a layer start alike and stay alike?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.heads import python_path
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial_variants import with_fresh_weights
from striate.doctor.evidence.units import WEIGHTED, hidden
from striate.records import Finding, Remedy
from striate.wording import listed_names, several

_ALIKE = 1e-4
"""Largest difference between units, as a share of the largest weight; rounding causes a thousandth of that."""
_FEWEST_STEPS, _FEWEST_UNITS, _FEWEST_OF_CONSTANT = 5, 2, 4
_WORTH = 1.3


def _find_symmetric_init(evidence: Evidence) -> Iterator[Finding]:
    """Layers whose units all have the same weights before and after the trial."""
    trial = evidence.trial
    if len(trial.rows) < _FEWEST_STEPS:
        raise NoEvidence(f"fewer than {_FEWEST_STEPS} training steps could be made")
    ended = dict(trial.replica.model.named_parameters())
    bad = []
    for name, original in trial.replica.originals.items():
        gradient = trial.first.gradients.get(name)
        if original.ndim < 2 or not original.requires_grad or gradient is None or name not in ended:
            continue
        now = ended[name].detach()
        if not bool(torch.isfinite(now).all()) or (gradient > 0 and torch.equal(now, original)):
            continue  # weights that no step changed show nothing
        if any(_alike(original.detach(), axis) and _alike(now, axis) for axis in range(min(2, original.ndim))):
            bad.append(name)
    if not bad:
        yield from _slow_to_differ(evidence)
        return
    weights = trial.replica.originals[bad[0]].detach()
    commands = "; ".join(f"nn.init.kaiming_normal_({python_path(name, 'model')})" for name in bad)
    yield Finding(
        code="model.symmetric-init",
        severity="error",
        where=listed_names(bad),
        measured=f"all {several(weights.shape[0], 'unit')} of {bad[0]} start with the same weights (from "
        f"{float(weights.min()):.3g} to {float(weights.max()):.3g}), and after {several(len(trial.rows), 'step')} they "
        "are still the same",
        threshold=f"a difference below {_ALIKE:g} of the largest weight, before the trial and after it",
        why="Units that start alike get the same gradient and stay alike: the layer is worth a single unit.",
        remedy=Remedy(
            f"Initialize the weights at random: `{commands}`; only biases, scales and the last layer of a branch may "
            "start at zero.",
            settings={"model.init": "auto"},
        ),
    )


def _slow_to_differ(evidence: Evidence) -> Iterator[Finding]:
    """Hidden layers with the same weights in all units, which become different only slowly, through random layers after
    them or dropout."""
    layers = [layer for layer, _ in hidden(evidence.trial) if layer.kind in WEIGHTED and layer.weight is not None]
    all_zero = all(layer.weight is not None and not bool(layer.weight.any()) for layer in layers)
    bad = [
        layer.name
        for layer in layers
        if layer.weight is not None
        and min(layer.weight.shape) >= _FEWEST_OF_CONSTANT
        and (all_zero or bool(layer.weight.any()))  # a branch may start at zero
        and _alike(layer.weight, 0)
    ]
    fresh = with_fresh_weights(evidence, "he") if bad else None
    if fresh is None or not fresh.beats(evidence.progress, _WORTH):
        return
    yield Finding(
        code="model.symmetric-init",
        severity="warning",
        where=listed_names(bad),
        measured=f"all units of {bad[0]} start with the same weights; with he-normal weights the loss after "
        f"{several(fresh.steps, 'step')} is {fresh} instead of {evidence.progress}",
        threshold=f"the same weights in all units, and a loss {_WORTH:g} times lower with random weights",
        why="Units that start alike can become different only through later layers, and stay similar for long.",
        remedy=Remedy(
            f"Initialize the weights at random: `nn.init.kaiming_normal_({python_path(bad[0], 'model')}.weight)`.",
            settings={"model.init": "auto"},
        ),
    )


def _alike(weight: torch.Tensor, axis: int) -> bool:
    if weight.shape[axis] < _FEWEST_UNITS or weight.numel() == weight.shape[axis]:
        return False
    if axis == 1 and weight.ndim > 2:
        return False
    rows = weight.transpose(0, axis).flatten(1).double()
    return float((rows - rows[:1]).abs().max()) <= _ALIKE * float(rows.abs().max())


SYMMETRIC_INIT = Check(
    codes=("model.symmetric-init",),
    run=_find_symmetric_init,
    explains=(
        "loss.pairs-swapped model.collapsed model.dead-units model.redundant-filters model.vanishing-gradient "
        "optim.lr-too-low fit.*"
    ),
)
