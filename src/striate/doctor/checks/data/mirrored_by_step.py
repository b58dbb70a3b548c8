"""Inputs that the training step mirrors, and targets with a place that it leaves where they were."""

from __future__ import annotations

from contextlib import suppress

import torch

from striate.doctor.checks.data.mirrored_numbers import turns_round
from striate.doctor.evidence.calls import watch_calls
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import main_tensor, parts
from striate.wording import several

_DRAWS, _FEWEST, _OFTEN = 8, 8, 0.9


def left_by_step(evidence: Evidence) -> str | None:
    """Words for the samples that some steps mirror while they leave maps of their size, or numbers that turn round with
    pictures, as they were; None where targets move along, or nothing is mirrored."""
    left, mirrored, mapped = 0, 0, False
    for number in range(_DRAWS):
        batch = evidence.train.raw[number % len(evidence.train.raw)]
        inputs, wanted = (main_tensor(part) for part in parts(batch))
        if inputs is None or wanted is None or inputs.ndim != 4 or len(wanted) != len(inputs) or wanted.ndim < 2:
            return None
        calls = evidence.calls if number == 0 else watch_calls(evidence.setup, batch, evidence.clock.until(0.02))
        shown = None if calls.shown is None else calls.shown.cpu()
        given = next((call.target.cpu() for call in calls.losses if call.target.numel() == wanted.numel()), None)
        if shown is None or given is None or shown.shape != inputs.shape:
            return None
        inputs, wanted = inputs.detach().cpu(), wanted.detach().cpu()
        turned = _same(shown, inputs.flip(-1)) & ~_same(shown, inputs)
        mapped = wanted.shape[-2:] == inputs.shape[-2:]
        if mapped:
            turned &= ~_same(wanted, wanted.flip(-1))
        mirrored += int(turned.sum())
        left += int((turned & _same(given.reshape(wanted.shape), wanted)).sum())
    if left < max(_FEWEST, _OFTEN * mirrored):
        return None
    told = f"of {several(mirrored, 'sample')} that {_DRAWS} steps mirror, {left:,} have"
    if mapped:
        return f"{told} the same map as before for a target"
    with suppress(NoEvidence):
        found = turns_round(evidence.val_samples)
        if found is not None:
            return (
                f"{told} the same numbers as before for a target; what a ridge regression says of new pictures "
                f"correlates by {found[1]:.2f} with one of them, of mirrored ones by {found[2]:.2f}"
            )
    return None


def _same(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one == other).flatten(1).all(1)
