"""Losses that fall without bound for equal outputs, or that are zero whatever the outputs are."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.nn import functional

from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.partial_likelihood import columns_not_shown
from striate.doctor.evidence.quality import form_of
from striate.doctor.evidence.substituted_outputs import Substitute, loss_of, step_outputs
from striate.doctor.evidence.token_targets import class_losses
from striate.doctor.setup.batch import main_tensor, parts, size_of
from striate.wording import percent, several

_SIZES = (10.0, 100.0, 1000.0)
_FASTER = 5.0
"""For each tenfold output, the fall of the loss grows by this factor at least: about linearly in the output."""
_FAR = 1e4
"""How many times its first absolute value the loss is below zero; logarithms of densities do not fall that far."""
_COLUMNS, _DRAWN = 4, 4
_SIGNS = (1.0, -1.0)
_NOTHING, _SURE = 1e-5, 12.0
_GRID = tuple(number / 8 for number in range(-16, 17))
_CLEARLY, _ROUNDED = 0.2, 1e-3
_MASKED, _SHARE, _ALIKE = -1e4, 0.05, 0.01
"""The highest score that counts as masked; the share of targets with such a score, below which samples may be left out
on purpose; and the relative range within which scores count as equal."""


def falls_without_bound(evidence: Evidence) -> str | None:
    """What was measured, where the loss falls below any bound if an output is one large number for all samples, or fell
    that far in the trial; None elsewhere."""
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
                losses = [loss_of(evidence, _constant(number, column, sign * size)) for size in _SIZES]
            except OutOfTime:
                raise
            except NoEvidence:  # a loss of probabilities raises an exception
                continue
            if not _fall_without_bound(losses):
                continue
            text = ", ".join(f"{loss:.3g} for {sign * size:g}" for size, loss in zip(_SIZES, losses, strict=True))
            return f"the loss falls without end if {words} is one number for all samples: {text}"
    return None


def _fall_without_bound(losses: list[float]) -> bool:
    """Whether losses for outputs of `_SIZES` fall below zero, and about linearly in the outputs."""
    if not all(map(math.isfinite, losses)) or not losses[2] < losses[1] < min(losses[0], 0.0):
        return False
    return losses[1] - losses[2] >= _FASTER * (losses[0] - losses[1])


def falls_in_all_directions(evidence: Evidence) -> str | None:
    """What was measured, of a loss that is never above zero and falls without bound in whichever direction the outputs
    grow, as a log-likelihood without a minus does; None for other losses.

    None also where samples hold numbers below zero, such as returns, which may have changed the sign of the loss.
    """
    losses = evidence.trial.losses
    if evidence.setup.rivals or evidence.trial.maximizes or not losses or not losses[-1] < losses[0] < 0:
        return None
    if max(losses) >= 0 or _reconstructs(evidence) or not evidence.targets_matter:
        return None
    if any(bool((column.of(evidence.train.raw[0]) < 0).any()) for column in columns_not_shown(evidence)):
        return None
    texts = list[str]()
    for draw in range(_DRAWN):
        for sign in _SIGNS:
            values = [loss_of(evidence, _drawn(draw, sign * size)) for size in _SIZES]
            if not _fall_without_bound(values):
                return None
            texts = [f"{loss:.3g}" for loss in values]
    return (
        f"with random outputs of standard deviation {', '.join(f'{size:g}' for size in _SIZES)} the loss is "
        f"{', '.join(texts)}, and it falls as far in each of {several(2 * _DRAWN, 'direction')}"
    )


def _drawn(draw: int, size: float) -> Substitute:
    def output(number: int, tensor: torch.Tensor) -> torch.Tensor:
        return size * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(10 * draw + number))

    return output


def _heads(evidence: Evidence) -> Iterator[tuple[int, int | None, str, tuple[float, ...]]]:
    """Outputs with one number per sample, which are tensors or columns of a tensor, where one output has as many
    numbers as the targets; where there are no such targets and the loss fell far below zero, outputs of several
    numbers.

    Yields the number of the tensor, the column (None: all of it), its name, and the signs that it may have: an output
    other than the predictions, such as a variance or a penalty, may be positive by its formula."""
    targets = main_tensor(parts(evidence.train.raw[0])[1])
    supervised = (
        targets is not None and targets.is_floating_point() and targets.ndim > 0 and not _reconstructs(evidence)
    )
    losses = [loss for loss in evidence.trial.losses if math.isfinite(loss)]
    fell = bool(losses) and losses[-1] < -max(abs(losses[0]), 1.0)
    if not supervised and not fell:
        return
    rows, tensors = size_of(evidence.train.raw[0]), step_outputs(evidence)
    fitting = [(number, t) for number, t in enumerate(tensors) if t.ndim and len(t) == rows]
    if any(call.name == "log_softmax" for call in evidence.graph.calls):
        fitting = [(number, t) for number, t in fitting if not _are_logarithms_of_shares(t)]
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
            other = tensor[0].numel() != targets[0].numel()
            yield number, None, words, tuple(s for s in _SIGNS if not other or bool((s * tensor > 0).any()))
        elif tensor.ndim == 2 and tensor.shape[1] <= _COLUMNS:
            for column in range(tensor.shape[1]):
                yield number, column, f"column {column} of {words}", _SIGNS


def _are_logarithms_of_shares(outputs: torch.Tensor) -> bool:
    """Whether the outputs for each sample are logarithms of numbers that sum to 1, and so are bounded."""
    return outputs.ndim > 1 and bool(((outputs.double().exp().sum(-1) - 1).abs() < _ROUNDED).all())


def _reconstructs(evidence: Evidence) -> bool:
    """Whether the batch is a single tensor, which the network reconstructs."""
    inputs, targets = parts(evidence.train.raw[0])
    return inputs is targets


def _constant(replaced: int, column: int | None, value: float) -> Substitute:
    def output(number: int, tensor: torch.Tensor) -> torch.Tensor:
        if number != replaced:
            return tensor
        changed = tensor.clone()
        changed[... if column is None else (slice(None), column)] = value
        return changed

    return output


def right_class_masked(evidence: Evidence) -> str | None:
    """A cross entropy in which a mask replaces the score of the right class, so that no step can raise it."""
    for call in class_losses(evidence):
        if call.input.ndim < 2:
            continue
        scores, target = call.input.movedim(1, -1).flatten(0, -2), call.target.flatten()
        known = (target != call.ignored) & (target >= 0) & (target < scores.shape[1])
        right = scores[known].gather(1, target[known, None].long())[:, 0]
        masked = right[right <= _MASKED]
        share = len(masked) / max(len(right), 1)
        if share >= _SHARE and _are_mask_scores(masked):
            return (
                f"for {percent(share, 0)} of the targets of {call.name} the right class has the score of a mask, "
                f"{float(right.min()):.1g}"
            )
    return None


def _are_mask_scores(scores: torch.Tensor) -> bool:
    """Whether scores are equal, as those of a mask are, unlike those of a network whose outputs explode."""
    low, high = float(scores.min()), float(scores.max())
    return low == high or abs(high - low) < _ALIKE * abs(low)


def lower_for_equal_outputs(evidence: Evidence) -> str | None:
    """What was measured, of a classification loss that the script computes and that is lower if all outputs are one
    number than for right predictions, be they probabilities, log probabilities or scores; None for other losses.

    An example is a soft Dice loss of scores without a softmax, which may be negative.
    """
    outputs, labels = main_tensor(evidence.first.outputs), main_tensor(parts(evidence.train.raw[0])[1])
    if outputs is None or labels is None or evidence.calls.losses or labels.is_floating_point() or labels.ndim == 0:
        return None
    if outputs.ndim != labels.ndim + 1 or (outputs.shape[0], *outputs.shape[2:]) != labels.shape or labels.min() < 0:
        return None
    if int(labels.max()) >= outputs.shape[1]:
        return None
    sure = functional.one_hot(labels.long(), outputs.shape[1]).movedim(-1, 1).to(outputs)
    right = [_loss_with(evidence, form) for form in (sure, _SURE * (2 * sure - 1), (_SURE * sure).log_softmax(1))]
    alike = {size: _loss_with(evidence, torch.full_like(sure, size)) for size in _GRID}
    size = min(alike, key=lambda size: alike[size])
    if not min(right) < math.inf or alike[size] > min(right) - _CLEARLY * max(1.0, abs(min(right))):
        return None
    return (
        f"the loss of the first batch is {alike[size]:.3g} if all outputs are {size:g}, and {min(right):.3g} for right "
        "predictions, whether as probabilities, log probabilities or scores"
    )


def _loss_with(evidence: Evidence, outputs: torch.Tensor) -> float:
    try:
        loss = loss_of(evidence, lambda _, tensor: outputs if tensor.shape == outputs.shape else tensor)
    except OutOfTime:
        raise
    except NoEvidence:
        return math.inf
    return loss if math.isfinite(loss) else math.inf


def always_zero(evidence: Evidence) -> str | None:
    """A loss of zero from the first step on while predictions are at chance, and also for right and wrong predictions
    where these can be tried."""
    trial = evidence.trial
    if max(map(abs, trial.losses)) > _NOTHING or 0 < evidence.calls.largest_loss_weight < 0.1:
        return None
    known = evidence.after_training.quality
    if known is None or not known.guesses:
        return None
    text = ""
    labels = evidence.train.y
    outputs = main_tensor(evidence.first.outputs)
    if evidence.setup.classifies and outputs is not None and labels is not None and outputs.ndim == 2:
        numbers = (labels.argmax(1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.flatten())[: len(outputs)]
        right, wrong = (_size_for(evidence, outputs, (numbers.long() + shift) % outputs.shape[1]) for shift in (0, 1))
        if right < 0.5 * wrong:
            return None  # the loss is small because it is multiplied by a small number
        text = f"; it is {right:.1g} with right predictions in place of the outputs, and {wrong:.1g} with wrong ones"
    return (
        f"the loss is at most {max(map(abs, trial.losses)):.1g} in all {several(len(trial.rows), 'step')}, while the "
        f"predictions are no better than chance{text}"
    )


def _size_for(evidence: Evidence, outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """The absolute loss of confident predictions of these labels, in the form of the outputs (logits, probabilities or
    log probabilities)."""
    scores = _SURE * functional.one_hot(labels, outputs.shape[1]).float()
    form = form_of(outputs)
    if form != "logits":
        scores = scores.softmax(1) if form == "probabilities" else scores.log_softmax(1)
    return abs(loss_of(evidence, lambda _, tensor: scores if tensor.shape == scores.shape else tensor))
