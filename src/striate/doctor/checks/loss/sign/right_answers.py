"""What right answers cost beside one answer for all samples: no loss of a task asks more for the first."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from striate.doctor.evidence.calls import StepCalls
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import form_of
from striate.doctor.evidence.substituted_outputs import calls_with, loss_of
from striate.doctor.setup.batch import altered, leaves, main_tensor, parts

SURE, SURER, DEARER = 0.9, 0.99, 1.2
"""Probabilities of the right answers: the surer ones alone cost much where targets are smoothed."""

BESIDE = 0.05
"""Of what right answers spare in torch's losses: by as much a part beside them grows with right answers."""
_LIKELIHOODS = ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits")


def right_cost_more(evidence: Evidence) -> str | None:
    """A loss that is higher for right answers than for the classes' shares, given for every sample alike."""
    outputs, labels = main_tensor(evidence.first.outputs), main_tensor(parts(evidence.train.raw[0])[1])
    if outputs is None or labels is None or evidence.first.blended or not predicts_targets(evidence):
        return None
    if evidence.trial.maximizes or evidence.calls.moved_back:
        return None
    likelihoods = [call for call in evidence.calls.losses if call.name in _LIKELIHOODS]
    if not any(_equal(call.target, labels) and call.input.numel() == outputs.numel() for call in likelihoods):
        return None  # of other outputs, smoothed, blended, a teacher's; what else losses ask for is not known here
    if not all(_equal(call.target, labels) for call in likelihoods):
        return None  # those of other samples have a share in it
    beside = [
        call for call in evidence.calls.losses if call.name not in _LIKELIHOODS and call.input.shape == outputs.shape
    ]
    if any(call.target.is_floating_point() and float(call.target.abs().max()) > 1 for call in beside):
        return None  # outputs are held to a teacher's, too, which right ones need not be like
    answers = _of_classes(outputs, labels.cpu()) or _of_yes_or_no(outputs, labels.cpu())
    surer = _of_classes(outputs, labels.cpu(), SURER) or _of_yes_or_no(outputs, labels.cpu(), SURER)
    if answers is None or surer is None:
        return None
    if (told := _score_beside(evidence, outputs, labels, answers[0], surer[0])) is not None:
        return told
    form = _as_they_are if _are_probabilities(outputs) else _logits
    backward, returned = evidence.calls.backward, evidence.first.loss or 0.0
    sign = -1.0 if backward and backward[0] * returned < 0 else 1.0  # what goes backward is what is learned from
    try:
        right, alike, surely = (sign * _cost(evidence, form(answer)) for answer in (*answers, surer[0]))
    except NoEvidence:  # a step that takes no other outputs than its network's
        return None
    if right <= alike + 1e-3 or surely <= alike + (DEARER - 1) * abs(alike) + 1e-3:
        return None
    if surely < right:  # a loss that hardly weighs one of the classes asks for the other one surely
        return None
    return (
        f"the loss of the first batch is {right:.3g} with right predictions of probability {SURE:g} in place of the "
        f"outputs, {surely:.3g} with probability {SURER:g}, and {alike:.3g} with the class frequencies for every sample"
    )


def _score_beside(
    evidence: Evidence, outputs: torch.Tensor, labels: torch.Tensor, right: torch.Tensor, surer: torch.Tensor
) -> str | None:
    """A part of the loss beside those of torch that is higher for the same answers if they are right: by the labels of
    the batch, and by others. What does not ask for labels, as a penalty or a teacher, is the same for both."""
    batch, form = evidence.train.raw[0], _as_they_are if _are_probabilities(outputs) else _logits
    place = next((path for path, tensor in leaves(batch) if tensor is labels), None)
    if place is None or len(evidence.calls.backward) != 1:
        return None
    classes = 2 if outputs.numel() == labels.numel() else outputs.shape[1]
    others = altered(batch, place, lambda y: torch.where((y >= 0) & (y < classes), (y + 1) % classes, y))
    given = [form(answer) for answer in (right, surer)]
    try:
        seen = [[_calls_for(evidence, answer, one) for answer in given] for one in (batch, others)]
    except NoEvidence:
        return None
    if any(len(calls.backward) != 1 or not _are_proportional(*pair) for pair in seen for calls in pair):
        return None
    known = [[sum(call.share for call in calls.losses) for calls in pair] for pair in seen]
    rest = [[calls.backward[0] - k for calls, k in zip(*pair, strict=True)] for pair in zip(seen, known, strict=True)]
    (own, sure), (other, wrong) = rest
    spared = known[1][0] - known[0][0]
    if spared <= 0 or min(own, sure) - max(other, wrong) < BESIDE * spared or sure < own - BESIDE * abs(own):
        return None
    return (
        f"what is added to {' and '.join(dict.fromkeys(f'`{call.name}`' for call in seen[0][0].losses))} in the loss "
        f"of the first batch is {own:.3g} for outputs that are right with probability {SURE:g}, {sure:.3g} with "
        f"probability {SURER:g}, and {other:.3g} for the same outputs if the labels are others"
    )


def _calls_for(evidence: Evidence, answer: torch.Tensor, batch: Any) -> StepCalls:
    return calls_with(evidence, lambda _, tensor: answer if tensor.shape == answer.shape else tensor, batch)


def _are_proportional(one: StepCalls, other: StepCalls) -> bool:
    """Whether what goes backward goes along with each of torch's losses in the same proportion, whatever its value: of
    a power of it, as of focal losses, the rest is not known."""
    pairs = list(zip(one.losses, other.losses, strict=False))
    return len(one.losses) == len(other.losses) and all(
        torch.allclose(torch.tensor(a.gradients), torch.tensor(b.gradients), rtol=1e-3)
        and all(torch.allclose(p, q, rtol=1e-3) for p, q in zip(a.entry_gradients, b.entry_gradients, strict=False))
        for a, b in pairs
    )


def _cost(evidence: Evidence, answer: torch.Tensor) -> float:
    return loss_of(evidence, lambda _, tensor: answer if tensor.shape == answer.shape else tensor)


def _are_probabilities(outputs: torch.Tensor) -> bool:
    within = bool(((outputs >= 0) & (outputs <= 1)).all())
    return within and (outputs.ndim < 2 or outputs.shape[1] == 1 or form_of(outputs) == "probabilities")


def _as_they_are(probabilities: torch.Tensor) -> torch.Tensor:
    return probabilities


def _logits(probabilities: torch.Tensor) -> torch.Tensor:
    """Of classes their logarithms, which are logits as well; of yes or no the log odds."""
    several_classes = probabilities.ndim > 1 and torch.allclose(probabilities.sum(1), probabilities.new_ones(()))
    return probabilities.log() if several_classes else probabilities.logit()


def _equal(target: torch.Tensor, labels: torch.Tensor) -> bool:
    return target.numel() == labels.numel() and torch.equal(
        target.detach().cpu().double().flatten(), labels.detach().cpu().double().flatten()
    )


def _of_classes(
    outputs: torch.Tensor, labels: torch.Tensor, sure: float = SURE
) -> tuple[torch.Tensor, torch.Tensor] | None:
    classes = outputs.shape[1] if outputs.ndim == labels.ndim + 1 else 0
    whole = not labels.is_floating_point() and classes > 1 and outputs.shape[2:] == labels.shape[1:]
    known = (labels >= 0) & (labels < classes)
    if not whole or len(outputs) != len(labels) or len(labels[known].unique()) < 2:
        return None
    wanted = functional.one_hot(labels.long().clamp(0, classes - 1), classes).double().movedim(-1, 1)
    right = sure * wanted + (1 - sure) / (classes - 1) * (1 - wanted)
    shares = functional.one_hot(labels[known].long(), classes).double().mean(0).clamp_min(1e-2)
    alike = (shares / shares.sum()).reshape(1, classes, *[1] * (outputs.ndim - 2)).expand_as(right)
    return right, alike


def _of_yes_or_no(
    outputs: torch.Tensor, labels: torch.Tensor, sure: float = SURE
) -> tuple[torch.Tensor, torch.Tensor] | None:
    if outputs.numel() != labels.numel() or not bool(((labels == 0) | (labels == 1)).all()):
        return None
    wanted = labels.double().reshape(outputs.shape)
    share = float(wanted.mean())
    if not 0 < share < 1:
        return None
    return sure * wanted + (1 - sure) * (1 - wanted), torch.full_like(wanted, share)
