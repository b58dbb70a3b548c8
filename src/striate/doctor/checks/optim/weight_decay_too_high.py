"""Does weight decay shrink the weights faster than they can learn?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import Progress
from striate.doctor.evidence.rates import optimizer_line
from striate.doctor.evidence.skill import skill, skill_in_words
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.evidence.trial_variants import LossGradient, use_output_gradients
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.training_setup import Step
from striate.observe.gradients import on_gradient
from striate.observe.interventions import change_gradient
from striate.records import Finding, Remedy
from striate.wording import several

SHRUNK = 0.8
"""Healthy decay takes a few percent of the weights' norm in a trial, and learning gives more."""
LITTLE, SOME = 0.15, 0.6
GAIN = 0.2
ALONG = 0.3
"""Cosine of gradient and weights. Of a loss alone it is a few hundredths."""
PULLED = 0.015
"""Of the weights, in each step of SGD or AdamW. The usual 5e-4 at a rate of 0.1 with momentum takes 0.0005."""
_FEW = 0.2
"""Of the optimizer's numbers: a strong decay of these alone is meant, where the network learns."""
_ALIKE = 1e-3
"""Between numbers that weights are multiplied by."""
GUESS, LEARNED = 0.1, 0.5
"""Of the way from a guess to right predictions, with a penalty that the loss consists of, and without its gradient."""
_ADDED = "a penalty added to the loss"
_LESS = Remedy("Multiply the penalty on weights that is added to the loss by a thousandth, e.g. 1e-4 · Σ w².")
_WHY = "Every step pulls the weights toward zero by more than the data pull them elsewhere."
_USUAL, _ADAMWS = 1e-3, 1.0
"""Up to here the rate is what is too large: of SGD, and of AdamW, whose usual decays are 0.01 to 0.1."""
ADAMS_DECAY = 0.05
MOMENTUMS, DECAYS = 0.5, 0.01
"""Of SGD: what is a momentum rather than a decay, and the other way round."""


@dataclass(frozen=True)
class _Try:
    """What may shrink weights, how it is taken away, and what is to be written instead."""

    what: str
    how: str
    where: str
    name: str
    change: Change
    remedy: Remedy


def run(evidence: Evidence) -> Iterator[Finding]:
    """Where weights shrink and little is learned: train without what shrinks them."""
    trial = evidence.trial
    if evidence.setup.own_optimizer and evidence.setup.own_step:
        return
    if exchanged := list(exchanged_with_momentum(trial.replica.optimizer)):
        yield from exchanged
        return
    own, shrunk = _progress(evidence, trial), _shrunk(trial)
    pulled = shrunk < SHRUNK and _pulled(evidence)
    if pulled and (found := _penalty(evidence, shrunk)):
        yield found
        return
    if (own is not None and own.share > SOME) or not shrunk < SHRUNK:
        yield from _decay(evidence, shrunk)
        return
    for attempt in _tries(evidence, pulled):
        other = _progress(evidence, evidence.variant(attempt.name, attempt.change))
        if own is None or other is None:
            found = _by_predictions(evidence, shrunk, attempt)
        else:
            found = _by_loss(evidence, shrunk, attempt, own, other)
        if found is not None:
            yield found
            return
    yield from _decay(evidence, shrunk)


def _progress(evidence: Evidence, trial: Trial) -> Progress | None:
    """None where the loss has no end to count from, as one that may fall below zero."""
    try:
        return evidence.progress_of(trial)
    except NoEvidence:
        if trial.error is not None or evidence.setup.rivals:
            raise
    return None


def _by_loss(evidence: Evidence, shrunk: float, attempt: _Try, own: Progress, other: Progress) -> Finding | None:
    needed = 1.5 if own.share < LITTLE else 2.0
    if not other.beats(own, needed) or other.share < max(own.share, 0.0) + GAIN:
        return None
    return WEIGHT_DECAY_TOO_HIGH.finding(
        severity="error" if own.share < LITTLE else "warning",
        where=attempt.where,
        measured=f"{attempt.what} shrinks the weights to {shrunk:.2g} of their norm in "
        f"{several(len(evidence.trial.rows), 'step')}; {attempt.how} the loss is {other} instead of {own}",
        limit=f"less than {SHRUNK:g} of the norm is left after the trial, and without decay the loss is 1.5 times "
        "lower",
        why=_WHY,
        remedy=attempt.remedy,
    )


def _penalty(evidence: Evidence, shrunk: float) -> Finding | None:
    """Of a loss that falls as its penalty does: with what comes back through the outputs alone the network learns."""
    how, name = "with only the gradient through the outputs", "gradient through the outputs alone"
    attempt = _Try(_ADDED, how, "the loss", name, Change(prepare=use_output_gradients), _LESS)
    return _by_predictions(evidence, shrunk, attempt)


def _by_predictions(evidence: Evidence, shrunk: float, attempt: _Try) -> Finding | None:
    """Where predictions stay a guess, whatever the loss says, and the network learns without what shrinks weights."""
    with suppress(NoEvidence):
        known = evidence.after_training
        own = skill(known, as_they_are=True)
        if own is None or own > GUESS:
            return None
        trial = evidence.variant(attempt.name, attempt.change)
        other = evidence.in_training(trial.replica)
        if trial.error is not None or (skill(other, as_they_are=True) or 0.0) < LEARNED:
            return None
        return WEIGHT_DECAY_TOO_HIGH.finding(
            severity="error",
            where=attempt.where,
            measured=f"{attempt.what} shrinks the weights to {shrunk:.2g} of their norm in "
            f"{several(len(trial.rows), 'step')}, and {skill_in_words(known, as_they_are=True)}; {attempt.how} "
            f"{skill_in_words(other, as_they_are=True)}",
            limit=f"less than {SHRUNK:g} of the norm is left, predictions get at most {GUESS:.0%} of the way from a "
            f"guess to right ones, and {LEARNED:.0%} without what shrinks the weights",
            why=_WHY,
            remedy=attempt.remedy,
        )
    return None


def _decay(evidence: Evidence, shrunk: float) -> Iterator[Finding]:
    optimizer = evidence.trial.replica.optimizer
    if _of_few(optimizer) and (skill(evidence.after_training) or 0.0) >= LEARNED:
        return
    found = list(decay_of_optimizer(optimizer))
    yield from found
    if not found and shrunk < 1 and not evidence.setup.own_step:
        yield from _by_hand(evidence)


def _of_few(optimizer: Optimizer) -> bool:
    """Whether a decay that strong is that of few numbers beside others, as of the weights of a margin."""
    if not isinstance(optimizer, torch.optim.SGD | torch.optim.AdamW):
        return False
    groups = optimizer.param_groups
    strong, every = (
        sum(p.numel() for group in groups if _pull(group) > limit for p in group["params"]) for limit in (PULLED, -1.0)
    )
    return bool(0 < strong < _FEW * every)


def _pull(group: dict[str, Any]) -> float:
    """Which part of weights each step of SGD or AdamW takes."""
    return float(group["lr"] * group["weight_decay"] / (1 - min(group.get("momentum", 0.0), 0.99)))


def _by_hand(evidence: Evidence) -> Iterator[Finding]:
    """A step that multiplies weights by one number below 1, also where no gradient and no optimizer moves them."""
    shares: list[set[float]] = []
    change = Change(prepare=_without_gradient, wrap_step=lambda step: _noting_shares(step, shares), notes=shares)
    trial = evidence.variant("no gradient and no weight decay", change, steps=2)
    shares = trial.notes
    found = set[float]().union(*shares)
    # A limit on norms shrinks them once.
    if trial.error is not None or len(shares) < 2 or not all(shares) or max(found) - min(found) > _ALIKE:
        return
    if 1 - max(found) > PULLED:
        yield WEIGHT_DECAY_TOO_HIGH.finding(
            severity="warning",
            where="the training step",
            measured=f"with no gradient, each step multiplies the weights by {max(found):.4g}: it removes "
            f"{1 - max(found):.0%} of them",
            limit=f"{PULLED:.1%} of the weights in a step",
            why=_WHY,
            remedy="Multiply the decay by the learning rate, as AdamW does: `p.mul_(1 - lr * weight_decay)`.",
        )


def _without_gradient(replica: Replica) -> None:
    _without(replica)
    for parameter in replica.model.parameters():
        if parameter.requires_grad:
            change_gradient(parameter, torch.zeros_like)


def _noting_shares(step: Step, shares: list[set[float]]) -> Step:
    """Notes of each step by which numbers it multiplies weights that it makes smaller."""

    def noted(model: nn.Module, batch: Any, optimizer: Optimizer, loss: Any) -> Any:
        before = [(p, p.detach().clone()) for p in model.parameters() if p.ndim > 1 and p.requires_grad]
        result = step(model, batch, optimizer, loss)
        shares.append(set())
        for parameter, old in before:
            share = float(parameter.detach().norm() / old.norm())
            if 0 < share < 1 - _ALIKE and torch.allclose(parameter.detach(), share * old, rtol=_ALIKE):
                shares[-1].add(share)
        return result

    return noted


def decay_of_optimizer(optimizer: Optimizer) -> Iterator[Finding]:
    """A decay of the size that AdamW takes, which SGD and Adam add to the gradient, or a hundred times that of AdamW:
    where normalization follows, and of few steps, the loss of a trial does not tell."""
    if type(optimizer) is torch.optim.Adam:
        yield from _of_adam(optimizer)
    decoupled = isinstance(optimizer, torch.optim.AdamW)
    if not decoupled and not isinstance(optimizer, torch.optim.SGD):
        return
    groups = optimizer.param_groups
    pull, group = max(((_pull(group), group) for group in groups), key=lambda pair: pair[0])
    decay = float(group["weight_decay"])
    of_rate = decay <= _ADAMWS if decoupled else decay <= _USUAL and group["lr"] >= 1
    if pull > PULLED and not of_rate:
        with_momentum = f" and momentum={group['momentum']:g}" if group.get("momentum") else ""
        yield Finding(
            code="optim.weight-decay-too-high",
            severity="warning",
            where="the optimizer",
            measured=f"weight_decay={decay:g} with lr={float(group['lr']):g}{with_momentum} takes "
            f"{pull:.0%} of the weights in each step",
            threshold=f"{PULLED:.1%} of the weights in a step",
            why=f"AdamW's steps are about as long as the rate: weights above 1 / {decay:g} shrink, whatever the "
            "gradient."
            if decoupled
            else "SGD multiplies the decay by the learning rate, and momentum adds several steps up. AdamW usually "
            "has decays of 0.05, but rates that are a hundred times smaller.",
            remedy=Remedy(_weaker(optimizer), settings={"optim.weight_decay": 0.01 if decoupled else 1e-4}),
        )


def exchanged_with_momentum(optimizer: Optimizer) -> Iterator[Finding]:
    """A momentum as small as a decay is, beside a decay as large as a momentum: whatever the loss says."""
    for group in optimizer.param_groups if isinstance(optimizer, torch.optim.SGD) else ():
        decay, momentum = float(group["weight_decay"]), float(group["momentum"])
        if decay >= MOMENTUMS and 0 < momentum <= DECAYS:
            yield WEIGHT_DECAY_TOO_HIGH.finding(
                severity="warning",
                where="the optimizer",
                measured=f"SGD has weight_decay={decay:g} and momentum={momentum:g}: each has a value that is usual "
                "for the other",
                limit=f"a decay of {MOMENTUMS:g} or more with a momentum above 0 and of {DECAYS:g} at most",
                why=_WHY,
                remedy=Remedy(
                    f"`weight_decay={momentum:g}, momentum={decay:g}`: the two are swapped.",
                    settings={"optim.weight_decay": momentum},
                ),
            )
            return


def _of_adam(optimizer: torch.optim.Adam) -> Iterator[Finding]:
    coupled = [g["weight_decay"] for g in optimizer.param_groups if not g.get("decoupled_weight_decay")]
    decay = float(max(coupled, default=0.0))
    if decay >= ADAMS_DECAY:
        yield Finding(
            code="optim.weight-decay-too-high",
            severity="warning",
            where="the optimizer",
            measured=f"Adam adds weight_decay={decay:g} times the weights to their gradient. Where the gradient is "
            "smaller than that, it steps toward zero by about the learning rate",
            threshold=f"below {ADAMS_DECAY:g} for Adam",
            why="A decay of this size is meant for AdamW, which shrinks each weight by the rate times the decay.",
            remedy=Remedy(
                f"`torch.optim.AdamW(model.parameters(), lr={float(optimizer.param_groups[0]['lr']):g}, "
                f"weight_decay={decay:g})`",
                settings={"optim.weight_decay": 1e-4},
            ),
        )


def _weaker(optimizer: Optimizer) -> str:
    """The line that makes the optimizer with a usual decay."""
    usual = 0.01 if isinstance(optimizer, torch.optim.AdamW) else 1e-4
    if len(optimizer.param_groups) > 1:
        return f"`for group in optimizer.param_groups: group['weight_decay'] = {usual:g}`, or no decay."
    rate = float(optimizer.param_groups[0]["lr"])
    return f"`{optimizer_line(optimizer, [rate], weight_decay=usual)}`, or no decay."


def _tries(evidence: Evidence, pulled: bool) -> Iterator[_Try]:
    strongest = max(float(group.get("weight_decay", 0.0)) for group in evidence.trial.replica.optimizer.param_groups)
    if strongest > 0:
        yield _Try(
            f"weight_decay={strongest:g}",
            "without it",
            "the optimizer",
            "no weight decay",
            Change(prepare=_without),
            Remedy(_weaker(evidence.trial.replica.optimizer), settings={"optim.weight_decay": 0.0}),
        )
    if pulled:
        own = LossGradient()
        change = Change(prepare=own.prepare, wrap_loss=own.wrap_loss)
        yield _Try(
            _ADDED, "with the gradient of the loss alone", "the loss", "gradient of the loss alone", change, _LESS
        )
        how = "without the gradient component along the weights"
        yield _Try(_ADDED, how, "the loss", "no gradient along the weights", Change(prepare=_sideways), _LESS)
    else:
        yield _Try(
            "the step",
            "with each layer's norm held constant",
            "the training step",
            "norms of weights held",
            Change(wrap_step=_holding_norms),
            Remedy("Remove what shrinks the weights in each step, or give the optimizer weight_decay=1e-4 instead."),
        )


def _holding_norms(step: Step) -> Step:
    def held(model: nn.Module, batch: Any, optimizer: Optimizer, loss: Any) -> Any:
        before = [(p, p.detach().norm()) for p in model.parameters() if p.ndim > 1]
        result = step(model, batch, optimizer, loss)
        with torch.no_grad():
            for parameter, norm in before:
                now = parameter.norm()
                if 0 < now < norm:
                    parameter.mul_(norm / now)
        return result

    return held


def _matrices(trial: Trial) -> list[tuple[torch.Tensor, torch.Tensor]]:
    ended = dict(trial.replica.model.named_parameters())
    return [
        (original.detach(), ended[name].detach())
        for name, original in trial.replica.originals.items()
        if original.ndim > 1 and name in ended
    ]


def _shrunk(trial: Trial) -> float:
    """The norm of all matrices and kernels after the trial, as a share of that before it."""
    pairs = _matrices(trial)
    before = math.sqrt(sum(float(old.float().square().sum()) for old, _ in pairs))
    after = math.sqrt(sum(float(new.float().square().sum()) for _, new in pairs))
    if not before or not math.isfinite(after):
        raise NoEvidence("there are no weights whose norm could be followed")
    return after / before


def _without(replica: Replica) -> None:
    for group in replica.optimizer.param_groups:
        if "weight_decay" in group:
            group["weight_decay"] = 0.0


def _pulled(evidence: Evidence) -> bool:
    """Whether gradients point along the weights, as those of a penalty on their squares do."""
    along: list[float] = []

    def listen(replica: Replica) -> None:
        for parameter in replica.model.parameters():
            if parameter.ndim > 1 and parameter.requires_grad:
                on_gradient(parameter, _cosine(parameter, along))

    along = evidence.variant("gradients along the weights", Change(prepare=listen, notes=along), steps=2).notes
    return bool(along) and sorted(along)[len(along) // 2] > ALONG


def _cosine(parameter: torch.Tensor, found: list[float]) -> Any:
    def hook(gradient: torch.Tensor) -> None:
        norms = float(gradient.norm() * parameter.detach().norm())
        if norms > 0:
            found.append(float((gradient * parameter.detach()).sum()) / norms)

    return hook


def _sideways(replica: Replica) -> None:
    for parameter in replica.model.parameters():
        if parameter.ndim > 1 and parameter.requires_grad:
            change_gradient(parameter, _projection(parameter))


def _projection(parameter: torch.Tensor) -> Any:
    def hook(gradient: torch.Tensor) -> torch.Tensor:
        weights = parameter.detach()
        size = weights.square().sum()
        return gradient if not size else gradient - weights * ((gradient * weights).sum() / size)

    return hook


WEIGHT_DECAY_TOO_HIGH = Check(
    codes=("optim.weight-decay-too-high",),
    question="Do weights shrink to nothing, and does the network learn if they do not?",
    run=run,
    quick=False,
    explains="loss.degenerate model.collapsed model.dead-units model.vanishing-gradient optim.lr-too-high "
    "optim.lr-too-low fit.*",
)
