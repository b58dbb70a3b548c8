"""The user's own loss with which the network learns nothing, though it learns with the gradient of a usual loss."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
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
from striate.doctor.setup.batch import is_binary, main_tensor, parts
from striate.doctor.setup.replicas import Replica
from striate.observe.interventions import change_gradient, change_output
from striate.wording import percent, several

OPPOSITE = -0.9
"""The cosine below which two gradients count as opposite."""
_GUESS, _TAUGHT = 0.1, 0.5
"""Skill, from 0 at chance to 1 for right predictions: at most with the user's loss, and at least with a usual one."""


def teaches_nothing(evidence: Evidence) -> Wrong | None:
    """A loss with which predictions stay at chance, though they improve in as many steps if the outputs get the
    gradient of a usual loss."""
    try:
        own = skill(evidence.after_training)
        if own is None or own > _GUESS or not _is_own_loss(evidence):
            return None
        usual = _UsualGradient(evidence)
        trial = evidence.variant("gradient of a usual loss", Change(around=usual.around, prepare=usual.prepare))
        predictions = evidence.in_training(trial.replica)
        learned = skill(predictions)
        if learned is None or learned < _TAUGHT or not usual.fits or not _fails_at_scaled_rate(evidence, usual.times):
            return None
        if usual.cosine < OPPOSITE:
            return None  # `loss.sign` reports a wrong sign
    except NoEvidence:
        return None
    return Wrong(
        "error",
        f"after {several(len(evidence.trial.rows), 'step')} {skill_in_words(evidence.after_training)}; if the outputs "
        f"get the gradient of `{usual.name}` instead, {skill_in_words(predictions)}",
        "The network learns what the gradient of the loss asks for, and this one does not ask for right predictions.",
        f"use `{usual.name}` on the network's outputs, with the loader's targets",
        limit=f"at most {percent(_GUESS, 0)} of the way from chance to right predictions, if the gradient of a usual "
        f"loss goes {percent(_TAUGHT, 0)} in as many steps",
    )


def _is_own_loss(evidence: Evidence) -> bool:
    """Whether the loss is the user's own, without any of torch's, and outputs predict the loader's targets."""
    trial = evidence.trial
    if trial.error is not None or len(trial.rows) < FEWEST_STEPS or evidence.calls.losses or evidence.setup.rivals:
        return False
    return predicts_targets(evidence) and not evidence.first.blended and not blends(evidence)


class _UsualGradient:
    """Replaces the gradient of the network's outputs by that of a usual loss; a Change has `around` and `prepare`."""

    def __init__(self, evidence: Evidence) -> None:
        self.scale = evidence.target_scale
        self.targets: torch.Tensor | None = None
        self.name = ""
        """Of the usual loss."""
        self.fits = True
        """Whether outputs and targets fit a usual loss in all steps."""
        self.times: float | None = None
        """Ratio of the norms of the usual and of the replaced gradient in the first step; 0 if the latter is zero or
        not finite, None before that step."""
        self.cosine = 0.0
        """Cosine between the two gradients in the first step."""

    def around(self, _: Any, batch: Any, *__: Any) -> AbstractContextManager[None]:
        """Store the targets of a batch before its step."""
        self.targets = main_tensor(parts(batch)[1])
        if self.targets is not None and self.scale is not None:
            self.targets = self.scale.of(self.targets.cpu())
        return nullcontext()

    def prepare(self, replica: Replica) -> None:
        """Replace the gradients of a replica, before its first step."""
        change_output(replica.model, lambda _, outputs: self._watch(main_tensor(outputs)))

    def _watch(self, outputs: torch.Tensor | None) -> None:
        if outputs is None or self.targets is None or not outputs.requires_grad:
            return
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            self.name, value = _usual_loss(leaf, self.targets.to(leaf.device))
            if value is None:
                self.fits = False
                return
            (usual,) = torch.autograd.grad(value, leaf)

        def instead(own: torch.Tensor) -> torch.Tensor:
            if self.times is None:
                size = float(own.norm())
                self.times = float(usual.norm()) / size if size > 0 and math.isfinite(size) else 0.0
                self.cosine = float(functional.cosine_similarity(own.flatten(), usual.to(own).flatten(), dim=0))
            return usual.to(own)

        change_gradient(outputs, instead)


def _usual_loss(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[str, torch.Tensor | None]:
    """The name and value of a usual loss: cross entropy for class numbers, binary cross entropy for targets 0 and 1,
    the squared error for other numbers; an empty name and None where shapes fit none of them."""
    if not targets.ndim or len(outputs) != len(targets):
        return "", None
    if outputs.ndim == targets.ndim + 1 and outputs.shape[1] > 1 and not targets.is_floating_point():
        if outputs.shape[2:] != targets.shape[1:] or int(targets.max()) >= outputs.shape[1]:
            return "", None
        numbers = torch.where(targets < 0, -100, targets.long())
        return "nn.CrossEntropyLoss()", functional.nll_loss(log_probabilities(outputs), numbers)
    if outputs.numel() != targets.numel():
        return "", None
    numbers = targets.reshape(outputs.shape).double()
    if is_binary(targets):
        if bool(((outputs >= 0) & (outputs <= 1)).all()):
            return "nn.BCELoss()", functional.binary_cross_entropy(outputs.double(), numbers)
        return "nn.BCEWithLogitsLoss()", functional.binary_cross_entropy_with_logits(outputs.double(), numbers)
    return "nn.MSELoss()", functional.mse_loss(outputs.double(), numbers)


def _fails_at_scaled_rate(evidence: Evidence, times: float | None) -> bool:
    """Whether predictions stay at chance with the user's loss also at a learning rate that makes up for the length of
    its gradient."""
    if times is None:
        return False
    power = round(math.log10(times)) if times > 0 else 0
    if not power or not rates_are_users(evidence):
        return True
    learned = skill(evidence.in_training(at_rate(evidence, 10.0**power).replica))
    return learned is not None and learned <= _GUESS
