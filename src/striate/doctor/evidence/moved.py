"""Which parameters a trial moved, and which its optimizer holds."""

from __future__ import annotations

import torch

from striate.doctor.evidence.trial import Trial


def unmoved(trial: Trial) -> list[str]:
    """Names of parameters that are, after the trial, what the network was given with."""
    ended = dict(trial.double.model.named_parameters())
    return [name for name, twin in trial.double.twins.items() if name in ended and torch.equal(ended[name], twin)]


def optimized(trial: Trial) -> list[str]:
    """Names of parameters of the network that the optimizer holds, whatever their rate."""
    held = {id(p) for group in trial.double.optimizer.param_groups for p in group["params"]}
    return [name for name, p in trial.double.model.named_parameters(remove_duplicate=False) if id(p) in held]
