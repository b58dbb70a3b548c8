"""A loss of the user's own that teaches nothing: what the same steps learn by the gradient of a usual one."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

from striate.doctor.checks.fit.fitting import blends
from striate.doctor.checks.loss.task.wrong import Wrong
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import FEWEST_STEPS, Evidence
from striate.doctor.evidence.quality import log_probabilities
from striate.doctor.evidence.rates import at_rate, rates_are_users
from striate.doctor.evidence.skill import skill, skill_in_words
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import main_tensor, parts
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.training_setup import Step
from striate.observe.interventions import change_gradient, change_output
from striate.wording import several

OPPOSITE = -0.9
"""The cosine between two gradients that want the opposite of each other."""
_GUESS, _TAUGHT = 0.1, 0.5
"""Shares of the way from a guess to right predictions: what the own loss teaches at most, a usual one at least."""


def teaches_nothing(evidence: Evidence) -> Wrong | None:
    """Predictions at chance after steps that learn the task once the network is given the gradient of a usual loss."""
    try:
        own = skill(evidence.after_training)
        if own is None or own > _GUESS or not _looks_so(evidence):
            return None
        usual = _UsualGradient(evidence)
        trial = evidence.variant("gradient of a usual loss", Change(wrap_step=usual.wrap, prepare=usual.prepare))
        predictions = evidence.in_training(trial.replica)
        found = skill(predictions)
        if found is None or found < _TAUGHT or not usual.fits or not _same_at(evidence, usual.times):
            return None
        if usual.along < OPPOSITE:
            return None  # a wrong sign, which another check tells
    except NoEvidence:
        return None
    return Wrong(
        "error",
        f"after {several(len(evidence.trial.rows), 'step')} {skill_in_words(evidence.after_training)}; if the outputs "
        f"get the gradient of `{usual.name}` instead, {skill_in_words(predictions)}",
        "The network learns what the gradient of the loss asks for, and this one does not ask for right predictions.",
        f"use `{usual.name}` on the network's outputs, with the loader's targets",
        limit=f"at most {_GUESS:.0%} of the way from chance to right predictions, if the gradient of a usual loss goes "
        f"{_TAUGHT:.0%} in as many steps",
    )


def _looks_so(evidence: Evidence) -> bool:
    """Whether a loss of the user's own, without any of torch's, speaks of predictions of the loader's targets."""
    trial = evidence.trial
    if trial.error is not None or len(trial.rows) < FEWEST_STEPS or evidence.calls.losses or evidence.setup.rivals:
        return False
    return predicts_targets(evidence) and not evidence.first.blended and not blends(evidence)


class _UsualGradient:
    """Two halves of a Change. `name`: of the loss whose gradient the outputs are given; `fits`: whether outputs and
    targets were of its form in all steps. `times`: how many times longer that is than the own one of the first step, 0
    where there was none; `along`: the cosine between the two."""

    def __init__(self, evidence: Evidence) -> None:
        self.scale = evidence.target_scale
        self.targets: torch.Tensor | None = None
        self.name = ""
        self.fits = True
        self.times: float | None = None
        self.along = 0.0

    def wrap(self, step: Step) -> Step:
        """The step, which first notes the targets of its batch."""

        def noting(model: Any, batch: Any, optimizer: Any, loss: Any) -> Any:
            self.targets = main_tensor(parts(batch)[1])
            if self.targets is not None and self.scale is not None:
                self.targets = self.scale.of(self.targets.cpu())
            return step(model, batch, optimizer, loss)

        return noting

    def prepare(self, replica: Replica) -> None:
        """Of a replica before its first step."""
        change_output(replica.model, lambda _, outputs: self._watch(main_tensor(outputs)))

    def _watch(self, outputs: torch.Tensor | None) -> None:
        if outputs is None or self.targets is None or not outputs.requires_grad:
            return
        with torch.enable_grad():
            given = outputs.detach().requires_grad_()
            self.name, value = _usual_loss(given, self.targets.to(given.device))
            if value is None:
                self.fits = False
                return
            (wanted,) = torch.autograd.grad(value, given)

        def instead(own: torch.Tensor) -> torch.Tensor:
            if self.times is None:
                size = float(own.norm())
                self.times = float(wanted.norm()) / size if size > 0 and math.isfinite(size) else 0.0
                self.along = float(functional.cosine_similarity(own.flatten(), wanted.to(own).flatten(), dim=0))
            return wanted.to(own)

        change_gradient(outputs, instead)


def _usual_loss(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[str, torch.Tensor | None]:
    """Its name and value: cross entropy of classes, binary cross entropy of yes or no, the squared error of numbers;
    None where outputs and targets fit none."""
    if not targets.ndim or len(outputs) != len(targets):
        return "", None
    if outputs.ndim == targets.ndim + 1 and outputs.shape[1] > 1 and not targets.is_floating_point():
        if outputs.shape[2:] != targets.shape[1:] or int(targets.max()) >= outputs.shape[1]:
            return "", None
        wanted = torch.where(targets < 0, -100, targets.long())
        return "nn.CrossEntropyLoss()", functional.nll_loss(log_probabilities(outputs), wanted)
    if outputs.numel() != targets.numel():
        return "", None
    wanted = targets.reshape(outputs.shape).double()
    if bool(((targets == 0) | (targets == 1)).all()):
        if bool(((outputs >= 0) & (outputs <= 1)).all()):
            return "nn.BCELoss()", functional.binary_cross_entropy(outputs.double(), wanted)
        return "nn.BCEWithLogitsLoss()", functional.binary_cross_entropy_with_logits(outputs.double(), wanted)
    return "nn.MSELoss()", functional.mse_loss(outputs.double(), wanted)


def _same_at(evidence: Evidence, times: float | None) -> bool:
    """Whether the own loss teaches nothing either at a rate that makes up for the length of its gradient."""
    if times is None:
        return False
    power = round(math.log10(times)) if times > 0 else 0
    if not power or not rates_are_users(evidence):
        return True
    way = skill(evidence.in_training(at_rate(evidence, 10.0**power).replica))
    return way is not None and way <= _GUESS
