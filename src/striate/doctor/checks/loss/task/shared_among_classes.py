"""The user's own cross entropy that takes the mean over classes instead of the sum."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from striate.doctor.checks.loss.task.wrong import Wrong
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.rates import at_rate, rates_are_users
from striate.doctor.evidence.skill import skill, skill_in_words
from striate.doctor.evidence.substituted_outputs import loss_of
from striate.doctor.setup.batch import main_tensor, parts
from striate.wording import percent, several

_FEWEST, _LOWEST, _HIGHEST, _EXACT = 3, 2.0, 4.0, 1e-3
"""Fewest classes; two heights of the right class's score above the others at which the loss is tried; and the relative
tolerance of a loss for rounding."""
_FARTHER = 0.1
"""Gain in skill, on a scale from 0 at chance to 1 for right predictions."""


def shared_among_classes(evidence: Evidence) -> Wrong | None:
    """A cross entropy divided by the number of classes, which makes steps of SGD shorter by that factor, so that the
    network learns less."""
    optimizer = evidence.trial.replica.optimizer
    if evidence.calls.losses or not isinstance(optimizer, torch.optim.SGD) or not rates_are_users(evidence):
        return None  # the length of Adam's steps does not depend on the scale of the loss
    try:
        classes = _divisor(evidence)
        own = skill(evidence.after_training) if classes else None
        if own is None:
            return None
        predictions = evidence.in_training(at_rate(evidence, classes).replica)
        other = skill(predictions)
    except NoEvidence:
        return None
    if other is None or other < own + _FARTHER:
        return None
    return Wrong(
        "warning",
        f"the loss is a cross entropy divided by the number of classes, {classes}: for equal outputs it is "
        f"{math.log(classes) / classes:.3g}, not {math.log(classes):.3g}. "
        f"After {several(len(evidence.trial.rows), 'step')} {skill_in_words(evidence.after_training)}; with steps "
        f"{classes} times as long {skill_in_words(predictions)}",
        "It is a mean over classes, too: gradients, and with them the steps of SGD, are that much shorter than the "
        "learning rate is made for, and a weight decay counts that much more.",
        "sum over classes before the mean over samples: `-(targets * log_probs).sum(dim=1).mean()`",
        limit=f"the loss of three known outputs is a cross entropy divided by the number of classes, and steps that "
        f"make up for it go {percent(_FARTHER, 0)} farther from chance to right predictions",
    )


def _divisor(evidence: Evidence) -> int:
    """The number of classes if the loss is a cross entropy, with or without label smoothing, divided by it; else 0."""
    outputs, labels = main_tensor(evidence.first.outputs), main_tensor(parts(evidence.train.raw[0])[1])
    if not evidence.setup.classifies or outputs is None or labels is None or labels.is_floating_point():
        return 0
    classes = outputs.shape[1] if outputs.ndim > 1 else 0
    if classes < _FEWEST or outputs.shape[2:] != labels.shape[1:] or not predicts_targets(evidence):
        return 0
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        return 0
    right = functional.one_hot(labels.long(), classes).movedim(-1, 1).double().cpu()

    def loss_at(height: float) -> float:
        outputs = (height * right).log_softmax(1)
        return classes * loss_of(evidence, lambda _, own: outputs if own.shape == outputs.shape else own)

    def share_at(height: float) -> float:
        """The right class's share in the targets, in which the cross entropy is linear."""
        return (math.log(math.exp(height) + classes - 1) - loss_at(height)) / height

    if not math.isclose(loss_at(0.0), math.log(classes), rel_tol=_EXACT):
        return 0
    low, high = share_at(_LOWEST), share_at(_HIGHEST)
    return classes if 0.5 < low < 1 + _EXACT and abs(low - high) < _EXACT else 0
