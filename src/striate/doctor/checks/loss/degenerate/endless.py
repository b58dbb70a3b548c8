"""Losses that fall without end for outputs that say nothing, or that are zero whatever the outputs are."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.nn import functional

from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.partial_likelihood import columns_not_shown
from striate.doctor.evidence.quality import form_of, quality
from striate.doctor.evidence.substituted_outputs import Substitute, loss_of, step_outputs
from striate.doctor.evidence.token_targets import class_losses
from striate.doctor.setup.batch import main_tensor, parts, size_of
from striate.wording import several

_SIZES = (10.0, 100.0, 1000.0)
_FASTER = 5.0
"""Each ten times larger output takes the loss so many times farther down: in line with it at least."""
_FAR = 1e4
"""A loss below zero by so many times its first size: logarithms of densities do not come there."""
_COLUMNS, _DRAWN = 4, 4
_SIGNS = (1.0, -1.0)
_NOTHING, _SURE = 1e-5, 12.0
_GRID = tuple(number / 8 for number in range(-16, 17))
_CLEARLY = 0.2
_HIDDEN, _SHARE, _ALIKE = -1e4, 0.05, 0.01
"""No score of a network, but that of a mask; of the targets, as those of single samples may be meant to be left out."""


def constant_without_end(evidence: Evidence) -> str | None:
    """An output that is one large number for all samples, with which the loss falls below any bound, or a loss that the
    network computes itself and that fell that far."""
    if evidence.setup.rivals or evidence.trial.maximizes:
        return None
    return _with_large_output(evidence) or _fell_far(evidence)


def _fell_far(evidence: Evidence) -> str | None:
    losses = [loss for loss in evidence.trial.losses if math.isfinite(loss)]
    if not losses or min(losses) > -_FAR * max(abs(losses[0]), 1.0) or evidence.setup.source is None:
        return None
    return f"the loss falls without end, from {losses[0]:.3g} to {min(losses):.3g} in {several(len(losses), 'step')}"


def _with_large_output(evidence: Evidence) -> str | None:
    for number, column, words, signs in _heads(evidence):
        for sign in signs:
            try:
                found = [loss_of(evidence, _constant(number, column, sign * size)) for size in _SIZES]
            except OutOfTime:
                raise
            except NoEvidence:  # of probabilities such a loss raises
                continue
            if not all(map(math.isfinite, found)) or not found[2] < found[1] < min(found[0], 0.0):
                continue
            if found[1] - found[2] >= _FASTER * (found[0] - found[1]):
                told = ", ".join(f"{loss:.3g} for {sign * size:g}" for size, loss in zip(_SIZES, found, strict=True))
                return f"the loss falls without end if {words} is one number for all samples: {told}"
    return None


def falls_all_ways(evidence: Evidence) -> str | None:
    """A loss of a batch's targets that is never above zero and falls without end whichever way the outputs grow: what
    is bounded is the other one, as a log-likelihood is by zero. None where a number of a sample below zero, as a
    return, may have turned it round."""
    losses = evidence.trial.losses
    if evidence.setup.rivals or evidence.trial.maximizes or not losses or not losses[-1] < losses[0] < 0:
        return None
    if max(losses) >= 0 or _fed_back(evidence) or not evidence.targets_matter:
        return None
    if any(bool((column.of(evidence.train.raw[0]) < 0).any()) for column in columns_not_shown(evidence)):
        return None
    told = list[str]()
    for draw in range(_DRAWN):
        for sign in _SIGNS:
            found = [loss_of(evidence, _drawn(draw, sign * size)) for size in _SIZES]
            if not all(map(math.isfinite, found)) or not found[2] < found[1] < min(found[0], 0.0):
                return None
            if found[1] - found[2] < _FASTER * (found[0] - found[1]):
                return None
            told = [f"{loss:.3g}" for loss in found]
    return (
        f"with random outputs of standard deviation {', '.join(f'{size:g}' for size in _SIZES)} the loss is "
        f"{', '.join(told)}, and it falls as far in each of {several(2 * _DRAWN, 'direction')}"
    )


def _drawn(draw: int, size: float) -> Substitute:
    def answer(number: int, tensor: torch.Tensor) -> torch.Tensor:
        return size * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(10 * draw + number))

    return answer


def _heads(evidence: Evidence) -> Iterator[tuple[int, int | None, str, tuple[float, ...]]]:
    """Outputs of one number a sample, tensors or columns of one, where one of them is as long as the targets; where
    there are no such targets and the loss fell far below zero, those of several numbers. With each the signs that it
    may have: what stands beside the predictions, as a variance or a penalty, may be above zero by its formula."""
    targets = main_tensor(parts(evidence.train.raw[0])[1])
    supervised = targets is not None and targets.is_floating_point() and targets.ndim > 0 and not _fed_back(evidence)
    losses = [loss for loss in evidence.trial.losses if math.isfinite(loss)]
    fell = bool(losses) and losses[-1] < -max(abs(losses[0]), 1.0)
    if not supervised and not fell:
        return
    rows, tensors = size_of(evidence.train.raw[0]), step_outputs(evidence)
    fitting = [(number, t) for number, t in enumerate(tensors) if t.ndim and len(t) == rows]
    for number, tensor in fitting:
        words = "the network's output" if len(tensors) == 1 else f"output {number} of the network"
        if not supervised:
            if tensor.numel() > rows:
                yield number, None, words, _SIGNS
            continue
        assert targets is not None
        if all(t[0].numel() not in (targets[0].numel(), 2 * targets[0].numel()) for _, t in fitting):
            return
        if tensor.shape == targets.shape or tensor.numel() == rows:
            aside = tensor[0].numel() != targets[0].numel()
            yield number, None, words, tuple(s for s in _SIGNS if not aside or bool((s * tensor > 0).any()))
        elif tensor.ndim == 2 and tensor.shape[1] <= _COLUMNS:
            for column in range(tensor.shape[1]):
                yield number, column, f"column {column} of {words}", _SIGNS


def _fed_back(evidence: Evidence) -> bool:
    """Whether the batch is a tensor alone, which is to be reconstructed."""
    inputs, targets = parts(evidence.train.raw[0])
    return inputs is targets


def _constant(wanted: int, column: int | None, value: float) -> Substitute:
    def answer(number: int, tensor: torch.Tensor) -> torch.Tensor:
        if number != wanted:
            return tensor
        made = tensor.clone()
        made[... if column is None else (slice(None), column)] = value
        return made

    return answer


def right_answers_masked(evidence: Evidence) -> str | None:
    """A cross entropy whose right answers are hidden by a mask: a score that no step can raise."""
    for call in class_losses(evidence):
        if call.input.ndim < 2:
            continue
        scores, target = call.input.movedim(1, -1).flatten(0, -2), call.target.flatten()
        known = (target != call.ignored) & (target >= 0) & (target < scores.shape[1])
        answers = scores[known].gather(1, target[known, None].long())[:, 0]
        hidden = answers[answers <= _HIDDEN]
        share = len(hidden) / max(len(answers), 1)
        if share >= _SHARE and _are_one_number(hidden):
            return (
                f"for {share:.0%} of the targets of {call.name} the right class has the score of a mask, "
                f"{float(answers.min()):.1g}"
            )
    return None


def _are_one_number(scores: torch.Tensor) -> bool:
    """Whether scores are those of a mask, and not of a network that explodes."""
    low, high = float(scores.min()), float(scores.max())
    return low == high or abs(high - low) < _ALIKE * abs(low)


def alike_for_less(evidence: Evidence) -> str | None:
    """A loss of classes of the script's own that asks less for one number in all outputs than for right answers, in
    whatever form it wants them: as of a soft Dice coefficient of scores, which no softmax keeps above zero."""
    outputs, labels = main_tensor(evidence.first.outputs), main_tensor(parts(evidence.train.raw[0])[1])
    if outputs is None or labels is None or evidence.calls.losses or labels.is_floating_point() or labels.ndim == 0:
        return None
    if outputs.ndim != labels.ndim + 1 or (outputs.shape[0], *outputs.shape[2:]) != labels.shape or labels.min() < 0:
        return None
    if int(labels.max()) >= outputs.shape[1]:
        return None
    sure = functional.one_hot(labels.long(), outputs.shape[1]).movedim(-1, 1).to(outputs)
    right = [_cost(evidence, form) for form in (sure, _SURE * (2 * sure - 1), (_SURE * sure).log_softmax(1))]
    alike = {size: _cost(evidence, torch.full_like(sure, size)) for size in _GRID}
    size = min(alike, key=lambda size: alike[size])
    if not min(right) < math.inf or alike[size] > min(right) - _CLEARLY * max(1.0, abs(min(right))):
        return None
    return (
        f"the loss of the first batch is {alike[size]:.3g} if all outputs are {size:g}, and {min(right):.3g} for right "
        "predictions, whether as probabilities, log probabilities or scores"
    )


def _cost(evidence: Evidence, answer: torch.Tensor) -> float:
    try:
        found = loss_of(evidence, lambda _, tensor: answer if tensor.shape == answer.shape else tensor)
    except OutOfTime:
        raise
    except NoEvidence:
        return math.inf
    return found if math.isfinite(found) else math.inf


def always_zero(evidence: Evidence) -> str | None:
    """A loss of zero from the first step on, while predictions are guesses; and also for right and wrong answers."""
    trial = evidence.trial
    if max(map(abs, trial.losses)) > _NOTHING or 0 < evidence.calls.largest_loss_weight < 0.1:
        return None
    known = quality(evidence.after_training.outputs, evidence.after_training.targets)
    if known is None or not known.guesses:
        return None
    told = ""
    labels = evidence.train.y
    outputs = main_tensor(evidence.first.outputs)
    if evidence.setup.classifies and outputs is not None and labels is not None and outputs.ndim == 2:
        wanted = (labels.argmax(1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.flatten())[: len(outputs)]
        right, wrong = (_told(evidence, outputs, (wanted.long() + away) % outputs.shape[1]) for away in (0, 1))
        if right < 0.5 * wrong:
            return None  # it is small because it is multiplied by next to nothing
        told = f"; it is {right:.1g} with right predictions in place of the outputs, and {wrong:.1g} with wrong ones"
    return (
        f"the loss is at most {max(map(abs, trial.losses)):.1g} in all {several(len(trial.rows), 'step')}, while the "
        f"predictions are no better than chance{told}"
    )


def _told(evidence: Evidence, outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """The size of the loss of sure answers, in the form that the network's have."""
    scores = _SURE * functional.one_hot(labels, outputs.shape[1]).float()
    form = form_of(outputs)
    if form != "logits":
        scores = scores.softmax(1) if form == "probabilities" else scores.log_softmax(1)
    return abs(loss_of(evidence, lambda _, tensor: scores if tensor.shape == scores.shape else tensor))
