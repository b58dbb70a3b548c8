"""Do all units of a layer begin alike, and stay so?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.naming import some_names
from striate.records import Finding

ALIKE = 1e-4
"""Largest difference between units, as a share of the largest weight: rounding makes a thousandth of that."""
FEWEST_STEPS, FEWEST_UNITS = 5, 2


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
        return
    weights = trial.double.twins[bad[0]].detach()
    yield Finding(
        "model.symmetric-init",
        "error",
        some_names(bad),
        f"all {weights.shape[0]} units of {bad[0]} begin with the same weights (from {float(weights.min()):.3g} to "
        f"{float(weights.max()):.3g}), and after {len(trial.rows)} steps they are still the same",
        f"a difference below {ALIKE:g} of the largest weight, before the trial and after it",
        "Units that begin alike get the same gradient and stay alike: the layer is worth a single unit.",
        f"Draw the weights at random: `nn.init.kaiming_normal_(model.{bad[0]})`; only biases, scales and the last "
        "layer "
        "of a branch may begin at zero.",
    )


def _alike(weight: torch.Tensor, axis: int) -> bool:
    if weight.shape[axis] < FEWEST_UNITS or weight.numel() == weight.shape[axis]:
        return False
    if axis == 1 and weight.ndim > 2:
        return False
    rows = weight.transpose(0, axis).flatten(1).double()
    return float((rows - rows[:1]).abs().max()) <= ALIKE * float(rows.abs().max())


CHECK = Check(
    ("model.symmetric-init",),
    "Do all units of a layer begin alike and stay alike?",
    f"Weights that differ by less than {ALIKE:g} of the largest, from unit to unit, before the trial and after it. "
    "Last "
    "layers and branches that begin at zero are no longer alike after a step.",
    run,
)
