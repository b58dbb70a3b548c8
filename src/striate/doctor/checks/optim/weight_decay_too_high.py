"""`optim.weight-decay-too-high`: does weight decay shrink the weights faster than they can learn?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
from striate.observe.gradients import on_gradient
from striate.observe.interventions import change_gradient
from striate.records import Finding, Remedy
from striate.wording import percent, several

SHRUNK = 0.8
"""Share of the weights' norm that is left after a trial. Healthy decay removes a few percent, and learning adds
more."""
LITTLE, SOME = 0.15, 0.6
GAIN = 0.2
ALONG = 0.3
"""Cosine of gradient and weights; for a loss without a penalty it is a few hundredths."""
PULLED = 0.015
"""Share of the weights that each step of SGD or AdamW removes. The usual 5e-4 at a rate of 0.1 with momentum removes
0.0005."""
_FEW = 0.2
"""Share of the optimizer's values; a strong decay of only these is intended if the network learns."""
_ALIKE = 1e-3
"""Tolerance between factors of weights."""
GUESS, LEARNED = 0.1, 0.5
"""Skill, from 0 at chance to 1 for right predictions: at most with the decay, and at least without it."""
_ADDED = "a penalty added to the loss"
_LESS = Remedy("Multiply the penalty on weights that is added to the loss by a thousandth, e.g. 1e-4 · Σ w².")
_WHY = "Every step pulls the weights toward zero by more than the data pull them elsewhere."
_USUAL, _ADAMWS = 1e-3, 1.0
"""Decays of SGD and AdamW up to which the learning rate is too high rather than the decay; usual for AdamW are 0.01 to
0.1."""
ADAMS_DECAY = 0.05
MOMENTUMS, DECAYS = 0.5, 0.01
"""For SGD: a weight decay from MOMENTUMS on is a momentum, and a momentum up to DECAYS is a weight decay."""


@dataclass(frozen=True)
class _Attempt:
    """A trial without something that may shrink the weights."""

    what: str
    """What may shrink the weights."""
    how: str
    """What the trial does without it, for the message: `without it`."""
    where: str
    """Where it is, for the finding."""
    name: str
    """Name of the trial."""
    change: Change
    remedy: Remedy


def run(evidence: Evidence) -> Iterator[Finding]:
    """Where weights shrink and little is learned, tries training without what shrinks them."""
    trial = evidence.trial
    if evidence.setup.own_optimizer and evidence.setup.own_step:
        return
    if exchanged := list(exchanged_with_momentum(trial.replica.optimizer)):
        yield from exchanged
        return
    own, shrunk = _progress(evidence, trial), _shrunk(trial)
    pulled = shrunk < SHRUNK and _pulled(evidence)
    if pulled and (finding := _penalty(evidence, shrunk)):
        yield finding
        return
    if (own is not None and own.share > SOME) or not shrunk < SHRUNK:
        yield from _decay(evidence, shrunk)
        return
    for attempt in _attempts(evidence, pulled):
        other = _progress(evidence, evidence.variant(attempt.name, attempt.change))
        if own is None or other is None:
            finding = _by_predictions(evidence, shrunk, attempt)
        else:
            finding = _by_loss(evidence, shrunk, attempt, own, other)
        if finding is not None:
            yield finding
            return
    yield from _decay(evidence, shrunk)


def _progress(evidence: Evidence, trial: Trial) -> Progress | None:
    """The progress of a trial; None where the loss has no known minimum, as one that may fall below zero."""
    try:
        return evidence.progress_of(trial)
    except NoEvidence:
        if trial.error is not None or evidence.setup.rivals:
            raise
    return None


def _by_loss(evidence: Evidence, shrunk: float, attempt: _Attempt, own: Progress, other: Progress) -> Finding | None:
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
    """The finding for a loss that consists mostly of a penalty: with only the gradient through the outputs, the network
    learns."""
    how, name = "with only the gradient through the outputs", "gradient through the outputs alone"
    attempt = _Attempt(_ADDED, how, "the loss", name, Change(prepare=use_output_gradients), _LESS)
    return _by_predictions(evidence, shrunk, attempt)


def _by_predictions(evidence: Evidence, shrunk: float, attempt: _Attempt) -> Finding | None:
    """The finding for predictions that stay at chance, whatever the loss is, and improve without what shrinks the
    weights."""
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
            limit=f"less than {SHRUNK:g} of the norm is left, predictions get at most {percent(GUESS, 0)} of the way "
            f"from a guess to right ones, and {percent(LEARNED, 0)} without what shrinks the weights",
            why=_WHY,
            remedy=attempt.remedy,
        )
    return None


def _decay(evidence: Evidence, shrunk: float) -> Iterator[Finding]:
    optimizer = evidence.trial.replica.optimizer
    if _decays_few(optimizer) and (skill(evidence.after_training) or 0.0) >= LEARNED:
        return
    findings = list(decay_of_optimizer(optimizer))
    yield from findings
    if not findings and shrunk < 1 and not evidence.setup.own_step:
        yield from _by_step(evidence)


def _decays_few(optimizer: Optimizer) -> bool:
    """Whether only few of the optimizer's values have a strong decay, such as the weights of a margin."""
    if not isinstance(optimizer, torch.optim.SGD | torch.optim.AdamW):
        return False
    groups = optimizer.param_groups
    strong, every = (
        sum(p.numel() for group in groups if _pull(group) > limit for p in group["params"]) for limit in (PULLED, -1.0)
    )
    return bool(0 < strong < _FEW * every)


def _pull(group: dict[str, Any]) -> float:
    """The share of the weights that each step of SGD or AdamW removes."""
    return float(group["lr"] * group["weight_decay"] / (1 - min(group.get("momentum", 0.0), 0.99)))


def _by_step(evidence: Evidence) -> Iterator[Finding]:
    """A step that multiplies weights by a factor below 1, even without gradients and without the optimizer's decay."""
    factors: list[set[float]] = []
    change = Change(
        prepare=_without_gradient, around=lambda model, *_: _recording_factors(model, factors), notes=factors
    )
    trial = evidence.variant("no gradient and no weight decay", change, steps=2)
    factors = trial.notes
    known = set[float]().union(*factors)
    # A limit on norms shrinks weights only in one step.
    if trial.error is not None or len(factors) < 2 or not all(factors) or max(known) - min(known) > _ALIKE:
        return
    if 1 - max(known) > PULLED:
        yield WEIGHT_DECAY_TOO_HIGH.finding(
            severity="warning",
            where="the training step",
            measured=f"with no gradient, each step multiplies the weights by {max(known):.4g}: it removes "
            f"{percent(1 - max(known), 0)} of them",
            limit=f"{percent(PULLED)} of the weights in a step",
            why=_WHY,
            remedy="Multiply the decay by the learning rate, as AdamW does: `p.mul_(1 - lr * weight_decay)`.",
        )


def _without_gradient(replica: Replica) -> None:
    _without(replica)
    for parameter in replica.model.parameters():
        if parameter.requires_grad:
            change_gradient(parameter, torch.zeros_like)


@contextmanager
def _recording_factors(model: nn.Module, factors: list[set[float]]) -> Iterator[None]:
    """Append the factors below 1 by which a step multiplies weights."""
    before = [(p, p.detach().clone()) for p in model.parameters() if p.ndim > 1 and p.requires_grad]
    yield
    factors.append(set())
    for parameter, old in before:
        factor = float(parameter.detach().norm() / old.norm())
        if 0 < factor < 1 - _ALIKE and torch.allclose(parameter.detach(), factor * old, rtol=_ALIKE):
            factors[-1].add(factor)


def decay_of_optimizer(optimizer: Optimizer) -> Iterator[Finding]:
    """A decay of a size that is usual for AdamW, which SGD and Adam add to the gradient; or a decay of AdamW that is a
    hundred times the usual one. It need not show in the loss of a trial, if layers are normalized or steps are few."""
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
            f"{percent(pull, 0)} of the weights in each step",
            threshold=f"{percent(PULLED)} of the weights in a step",
            why=f"AdamW's steps are about as long as the rate: weights above 1 / {decay:g} shrink, whatever the "
            "gradient."
            if decoupled
            else "SGD multiplies the decay by the learning rate, and momentum adds several steps up. AdamW usually "
            "has decays of 0.05, but rates that are a hundred times smaller.",
            remedy=Remedy(_weaker(optimizer), settings={"optim.weight_decay": 0.01 if decoupled else 1e-4}),
        )


def exchanged_with_momentum(optimizer: Optimizer) -> Iterator[Finding]:
    """SGD with a momentum as small as a decay and a decay as large as a momentum, whatever the loss is."""
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
    """The line of Python that creates the optimizer with a usual decay."""
    usual = 0.01 if isinstance(optimizer, torch.optim.AdamW) else 1e-4
    if len(optimizer.param_groups) > 1:
        return f"`for group in optimizer.param_groups: group['weight_decay'] = {usual:g}`, or no decay."
    rate = float(optimizer.param_groups[0]["lr"])
    return f"`{optimizer_line(optimizer, [rate], weight_decay=usual)}`, or no decay."


def _attempts(evidence: Evidence, pulled: bool) -> Iterator[_Attempt]:
    strongest = max(float(group.get("weight_decay", 0.0)) for group in evidence.trial.replica.optimizer.param_groups)
    if strongest > 0:
        yield _Attempt(
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
        yield _Attempt(
            _ADDED, "with the gradient of the loss alone", "the loss", "gradient of the loss alone", change, _LESS
        )
        how = "without the gradient component along the weights"
        change = Change(prepare=_remove_component)
        yield _Attempt(_ADDED, how, "the loss", "no gradient along the weights", change, _LESS)
    else:
        yield _Attempt(
            "the step",
            "with each layer's norm held constant",
            "the training step",
            "norms of weights held",
            Change(around=_holding_norms),
            Remedy("Remove what shrinks the weights in each step, or give the optimizer weight_decay=1e-4 instead."),
        )


@contextmanager
def _holding_norms(model: nn.Module, *_: Any) -> Iterator[None]:
    before = [(p, p.detach().norm()) for p in model.parameters() if p.ndim > 1]
    yield
    with torch.no_grad():
        for parameter, norm in before:
            now = parameter.norm()
            if 0 < now < norm:
                parameter.mul_(norm / now)


def _matrices(trial: Trial) -> list[tuple[torch.Tensor, torch.Tensor]]:
    ended = dict(trial.replica.model.named_parameters())
    return [
        (original.detach(), ended[name].detach())
        for name, original in trial.replica.originals.items()
        if original.ndim > 1 and name in ended
    ]


def _shrunk(trial: Trial) -> float:
    """The norm of all matrices and kernels after the trial, as a share of the norm before. Raises NoEvidence."""
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
    """Whether gradients point in the direction of the weights, as those of a penalty on their squares do."""
    cosines: list[float] = []

    def listen(replica: Replica) -> None:
        for parameter in replica.model.parameters():
            if parameter.ndim > 1 and parameter.requires_grad:
                on_gradient(parameter, _cosine(parameter, cosines))

    cosines = evidence.variant("gradients along the weights", Change(prepare=listen, notes=cosines), steps=2).notes
    return bool(cosines) and sorted(cosines)[len(cosines) // 2] > ALONG


def _cosine(parameter: torch.Tensor, cosines: list[float]) -> Any:
    def hook(gradient: torch.Tensor) -> None:
        norms = float(gradient.norm() * parameter.detach().norm())
        if norms > 0:
            cosines.append(float((gradient * parameter.detach()).sum()) / norms)

    return hook


def _remove_component(replica: Replica) -> None:
    """Remove the component along the weights from all gradients."""
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
    run=run,
    quick=False,
    explains="loss.degenerate model.collapsed model.dead-units model.vanishing-gradient optim.lr-too-high "
    "optim.lr-too-low fit.*",
)
