"""The loss of right predictions compared with that of one prediction for all samples: no loss of a task is higher for
the first."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

from striate.doctor.evidence.calls import StepCalls
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import are_read_as_probabilities, predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.substituted_outputs import calls_with, loss_of
from striate.doctor.setup.batch import altered, is_binary, leaves, main_tensor, parts

SURE, SURER, DEARER = 0.9, 0.99, 1.2
"""Probabilities of the right class, and by what factor the loss is higher at the second; with smoothed targets, only
the second is costly."""

ADDED = 0.05
"""By how much right predictions raise the part of the loss that is added to torch's losses, relative to what they
spare in these."""
_LIKELIHOODS = ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits")


def higher_if_right(evidence: Evidence) -> str | None:
    """What was measured, of a loss that is higher for right predictions than for the class frequencies as prediction
    for every sample; None for other losses."""
    outputs, labels = main_tensor(evidence.first.outputs), main_tensor(parts(evidence.train.raw[0])[1])
    if outputs is None or labels is None or evidence.first.blended or not predicts_targets(evidence):
        return None
    if evidence.trial.maximizes or evidence.calls.moved_back:
        return None
    likelihoods = [call for call in evidence.calls.losses if call.name in _LIKELIHOODS]
    if not any(_equal(call.target, labels) and call.input.numel() == outputs.numel() for call in likelihoods):
        return None  # targets of other outputs, smoothed or blended targets, or a teacher's outputs
    if not all(_equal(call.target, labels) for call in likelihoods):
        return None  # labels of other samples have a share in the loss
    others = [
        call for call in evidence.calls.losses if call.name not in _LIKELIHOODS and call.input.shape == outputs.shape
    ]
    if any(call.name == "kl_div" or _are_logits(call.target) for call in others):
        return None  # outputs are compared with a teacher's, too, which may differ from right predictions
    predictions = _of_classes(outputs, labels.cpu()) or _of_yes_or_no(outputs, labels.cpu())
    surer = _of_classes(outputs, labels.cpu(), SURER) or _of_yes_or_no(outputs, labels.cpu(), SURER)
    if predictions is None or surer is None:
        return None
    if (text := _added_score(evidence, outputs, labels, predictions[0], surer[0])) is not None:
        return text
    form = _unchanged if are_read_as_probabilities(evidence, outputs) else _logits
    backward, returned = evidence.calls.backward, evidence.first.loss or 0.0
    sign = -1.0 if backward and backward[0] * returned < 0 else 1.0  # the value that goes backward is minimized
    try:
        right, alike, sure = (sign * _loss_with(evidence, form(p)) for p in (*predictions, surer[0]))
    except NoEvidence:  # the step's outputs cannot be replaced
        return None
    if not all(map(math.isfinite, (right, alike, sure))):
        return None
    if right <= alike + 1e-3 or sure <= alike + (DEARER - 1) * abs(alike) + 1e-3:
        return None
    if sure < right:  # a loss that hardly weighs one of the classes favors confident predictions of the other
        return None
    return (
        f"the loss of the first batch is {right:.3g} with right predictions of probability {SURE:g} in place of the "
        f"outputs, {sure:.3g} with probability {SURER:g}, and {alike:.3g} with the class frequencies for every sample"
    )


def _are_logits(target: torch.Tensor) -> bool:
    return target.is_floating_point() and float(target.abs().max()) > 1


def _added_score(
    evidence: Evidence, outputs: torch.Tensor, labels: torch.Tensor, right: torch.Tensor, surer: torch.Tensor
) -> str | None:
    """What was measured, of a part of the loss, added to those of torch, that is higher if the outputs are right; None
    where there is no such part.

    The same outputs are tried with the batch's labels and with other labels. A part that does not depend on labels, as
    a penalty or the loss of a teacher, is the same for both.
    """
    batch, form = evidence.train.raw[0], _unchanged if are_read_as_probabilities(evidence, outputs) else _logits
    place = next((path for path, tensor in leaves(batch) if tensor is labels), None)
    if place is None or len(evidence.calls.backward) != 1:
        return None
    classes = 2 if outputs.numel() == labels.numel() else outputs.shape[1]
    others = altered(batch, place, lambda y: torch.where((y >= 0) & (y < classes), (y + 1) % classes, y))
    tried = [form(probabilities) for probabilities in (right, surer)]
    try:
        runs = [[_calls_for(evidence, output, one) for output in tried] for one in (batch, others)]
    except NoEvidence:
        return None
    if any(len(calls.backward) != 1 or not _are_proportional(*pair) for pair in runs for calls in pair):
        return None
    known = [[sum(call.share for call in calls.losses) for calls in pair] for pair in runs]
    rest = [[calls.backward[0] - k for calls, k in zip(*pair, strict=True)] for pair in zip(runs, known, strict=True)]
    (own, sure), (other, wrong) = rest
    spared = known[1][0] - known[0][0]
    if spared <= 0 or min(own, sure) - max(other, wrong) < ADDED * spared or sure < own - ADDED * abs(own):
        return None
    return (
        f"the term that is added to {' and '.join(dict.fromkeys(f'`{call.name}`' for call in runs[0][0].losses))} is "
        f"higher for right outputs than for wrong ones: {own:.3g} if they are right with probability {SURE:g}, "
        f"{sure:.3g} with {SURER:g}, and {other:.3g} if they are wrong with probability {SURE:g} (first batch)"
    )


def _calls_for(evidence: Evidence, outputs: torch.Tensor, batch: Any) -> StepCalls:
    return calls_with(evidence, lambda _, tensor: outputs if tensor.shape == outputs.shape else tensor, batch)


def _are_proportional(one: StepCalls, other: StepCalls) -> bool:
    """Whether the derivatives of the total loss with respect to each of torch's losses are the same in both steps;
    where they are not, as in a focal loss, the rest of the total cannot be computed."""
    pairs = list(zip(one.losses, other.losses, strict=False))
    return len(one.losses) == len(other.losses) and all(
        torch.allclose(torch.tensor(a.gradients), torch.tensor(b.gradients), rtol=1e-3)
        and all(torch.allclose(p, q, rtol=1e-3) for p, q in zip(a.entry_gradients, b.entry_gradients, strict=False))
        for a, b in pairs
    )


def _loss_with(evidence: Evidence, outputs: torch.Tensor) -> float:
    return loss_of(evidence, lambda _, tensor: outputs if tensor.shape == outputs.shape else tensor)


def _unchanged(probabilities: torch.Tensor) -> torch.Tensor:
    return probabilities


def _logits(probabilities: torch.Tensor) -> torch.Tensor:
    """Logarithms of probabilities of several classes, which are logits as well; log odds of a single class."""
    several_classes = probabilities.ndim > 1 and torch.allclose(probabilities.sum(1), probabilities.new_ones(()))
    return probabilities.log() if several_classes else probabilities.logit()


def _equal(target: torch.Tensor, labels: torch.Tensor) -> bool:
    return target.numel() == labels.numel() and torch.equal(
        target.detach().cpu().double().flatten(), labels.detach().cpu().double().flatten()
    )


def _of_classes(
    outputs: torch.Tensor, labels: torch.Tensor, sure: float = SURE
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Probabilities of classes that are right with probability `sure`, and the class frequencies for every sample, both
    of the shape of the outputs; None where outputs and labels are not of that form."""
    classes = outputs.shape[1] if outputs.ndim == labels.ndim + 1 else 0
    fits = not labels.is_floating_point() and classes > 1 and outputs.shape[2:] == labels.shape[1:]
    known = (labels >= 0) & (labels < classes)
    if not fits or len(outputs) != len(labels) or len(labels[known].unique()) < 2:
        return None
    one_hot = functional.one_hot(labels.long().clamp(0, classes - 1), classes).double().movedim(-1, 1)
    right = sure * one_hot + (1 - sure) / (classes - 1) * (1 - one_hot)
    shares = functional.one_hot(labels[known].long(), classes).double().mean(0).clamp_min(1e-2)
    alike = (shares / shares.sum()).reshape(1, classes, *[1] * (outputs.ndim - 2)).expand_as(right)
    return right, alike


def _of_yes_or_no(
    outputs: torch.Tensor, labels: torch.Tensor, sure: float = SURE
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The same for labels 0 and 1, with one output each."""
    if outputs.numel() != labels.numel() or not is_binary(labels):
        return None
    positive = labels.double().reshape(outputs.shape)
    share = float(positive.mean())
    if not 0 < share < 1:
        return None
    return sure * positive + (1 - sure) * (1 - positive), torch.full_like(positive, share)
