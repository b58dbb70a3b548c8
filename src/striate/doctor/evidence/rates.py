"""Trials at other learning rates, with the user's step: a factor multiplies any rate that the step sets."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise, takewhile
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.batch import batches_of
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.training_setup import TrainingSetup
from striate.records import Remedy
from striate.wording import percent, several

_FEWEST_FACTORS, _FALLEN, _EXACT = 4, 0.25, 0.01
"""Fewest changes of a rate; share of the first rate that it must fall to; relative tolerance for rounding."""

COMPOUNDED = (
    f"at least {_FEWEST_FACTORS} changes that multiply the rate by the values of one schedule in their order (powers, "
    f"a line or a cosine, within {percent(_EXACT, 0)}), down to {_FALLEN:g} of it or less"
)
COMPOUNDED_WHY = "A factor that is meant for the first rate multiplies one that earlier factors have made smaller."
COMPOUNDED_REMEDY = (
    "multiply the initial rate: `group['lr'] = base_lr * factor(epoch)`; for such a factor use `LambdaLR`, not "
    "`MultiplicativeLR`"
)


def rates_are_users(evidence: Evidence) -> bool:
    """Whether the learning rate was chosen by the user: not with the doctor's own optimizer."""
    setup = evidence.setup
    return not setup.own_optimizer or (not setup.own_step and not any(r.steps for r in evidence.trial.rows))


def movement(trial: Trial) -> float | None:
    """The norm of a step's update over the norm of the parameters: the median over the first steps with an update; 0
    where there is none; None where no update was measured."""
    known = [row.moved / row.weights for row in trial.rows if row.moved is not None and row.weights]
    moved = sorted(value for value in known if math.isfinite(value) and value > 0)
    if not known:
        return None
    return moved[len(moved) // 2] if moved else 0.0


def first_movement(trial: Trial) -> float | None:
    """The norm of the first update over the norm of the parameters; None where there is none."""
    known = [row.moved / row.weights for row in trial.rows if row.moved and row.weights]
    return known[0] if known else None


def at_rate(evidence: Evidence, factor: float) -> Trial:
    """A trial with every learning rate times `factor`, over as many steps as the trial made."""
    return evidence.variant(f"rate x{factor:g}", at_factor(evidence, factor))


def at_factor(evidence: Evidence, factor: float) -> Change:
    """The change that multiplies every learning rate by `factor`."""
    by_optimizer = any(row.rates for row in evidence.trial.rows)
    if by_optimizer:
        return Change(prepare=lambda replica: _scale(replica, factor))
    return Change(around=lambda model, *_: _scaled_step(model, factor))


def at_held_rates(evidence: Evidence, rates: Sequence[float]) -> Trial:
    """A trial with a constant learning rate for each parameter group, whatever a schedule sets."""
    return evidence.variant("rates held at " + " ".join(f"{rate:g}" for rate in rates), held_at(rates))


def held_at(rates: Sequence[float]) -> Change:
    """The change that keeps the learning rate of each parameter group constant."""
    return Change(prepare=lambda replica: _hold(replica, rates))


def rates_given(evidence: Evidence) -> tuple[float, ...]:
    """The present learning rates of the optimizer, by parameter group."""
    return tuple(float(group["lr"]) for group in evidence.fresh.optimizer.param_groups)


def rate_text(rates: Sequence[float]) -> str:
    """`0.1`, or `0.1 to 0.5` for several parameter groups."""
    low, high = min(rates), max(rates)
    return _three(low) if low == high else f"{_three(low)} to {_three(high)}"


def optimizer_line(optimizer: Optimizer, rates: Sequence[float], **others: float) -> str:
    """The line of Python that makes such an optimizer of all parameters at other rates, with the user's options except
    `others`; for groups with different rates, the lines that set them."""
    if len(set(rates)) > 1 or not rates:
        return "; ".join(f'optimizer.param_groups[{n}]["lr"] = {_three(rate)}' for n, rate in enumerate(rates))
    kind, group = type(optimizer), optimizer.param_groups[0]
    name = f"torch.optim.{kind.__name__}" if kind.__module__.startswith("torch.optim") else kind.__name__
    options = [f"lr={_three(rates[0])}"]
    for key, parameter in inspect.signature(kind).parameters.items():
        value = others.get(key, group.get(key))
        if key not in ("params", "lr") and value != parameter.default and isinstance(value, int | float | tuple):
            options.append(f"{key}={value!r}")
    return f"optimizer = {name}(model.parameters(), {', '.join(options)})"


def rate_remedy(text: str, rate: float) -> Remedy:
    """A remedy that sets another learning rate."""
    return Remedy(text, settings={"optim.lr": float(f"{rate:.3g}")}, command=("lr-find", "DATA"))


def _three(value: float) -> str:
    """A number in three digits, without an exponent where none is needed."""
    return f"{float(f'{value:.3g}'):g}"


def highest_rates(trial: Trial) -> tuple[float, ...]:
    """The highest rate of each parameter group, which a warm-up ends at; empty where the optimizer made no step."""
    known = [row.rates for row in trial.rows if row.rates]
    return tuple(max(values) for values in zip(*known, strict=False))


def compounded_rates(rates: Sequence[float]) -> list[float] | None:
    """The distinct values of a rate, from the highest on, where each change multiplies the present rate by a factor
    that is meant for the first rate: `lr *= 0.9 ** epoch` multiplies by 0.9, 0.9², 0.9³. None elsewhere. No intended
    schedule falls like this: not a cosine, nor half of a Gaussian, whose factors are the first, third and fifth
    powers."""
    different = [rate for number, rate in enumerate(rates) if not number or abs(rate - rates[number - 1]) > 1e-9 * rate]
    different = (
        list(takewhile(lambda rate: rate > 0, different[different.index(max(different)) :])) if different else []
    )
    factors = [after / before for before, after in pairwise(different)]
    if len(factors) < _FEWEST_FACTORS or max(factors) >= 1 or different[-1] > _FALLEN * different[0]:
        return None
    for measured in (lambda q: -math.log(q), lambda q: 1 - q, lambda q: math.acos(max(-1.0, 2 * q - 1))):
        runs = list[list[float]]()  # `lr *= 0.5 ** (epoch // 2)` multiplies by each power twice
        for value in map(measured, factors):
            if runs and abs(value - runs[-1][0]) <= _EXACT * value:
                runs[-1].append(value)
            else:
                runs.append([value])
        lengths = [len(run) for run in runs[:-1]]
        if len(runs) < _FEWEST_FACTORS - (max(lengths, default=0) > 1) or len(set(lengths)) > 1:
            continue
        for first in (1, 2):
            unit = runs[0][0] / first
            if all(abs(run[0] - n * unit) <= _EXACT * n * unit for n, run in enumerate(runs, first)):
                return different
    return None


def compounding_text(different: Sequence[float]) -> str:
    """The finding about compounded rates, in words."""
    factors = [f"{after / before:.3g}" for before, after in pairwise(different[:5])]
    return (
        f"the changes of the rate multiply it by {', '.join(factors)}, …: from {different[0]:.3g} to "
        f"{different[-1]:.3g} in {several(len(different) - 1, 'change')}"
    )


def warms_up(trial: Trial) -> bool:
    """Whether the learning rate is still rising at the end of the trial."""
    rates = [row.rates[0] for row in trial.rows if row.rates]
    return len(rates) > 4 and rates[-1] > 1.05 * rates[-len(rates) // 4]


def steps_an_epoch(evidence: Evidence) -> int:
    """The number of batches of an epoch: the length of the training loader, the number that the script's loop takes, or
    the number that was read."""
    known, source = batches_of(evidence.setup.train), evidence.setup.source
    if known is not None:
        return max(1, known)
    return (source.steps if source is not None else None) or len(evidence.train.raw)


def passes_planned(evidence: Evidence) -> float:
    """The number of batches that the script's loops take in all epochs; 0 where unknown."""
    return passes_of(evidence.setup)


def passes_of(setup: TrainingSetup) -> float:
    """The number of batches that the loops of a setup's script take in all epochs; 0 where unknown."""
    source = setup.source
    epochs = source.epochs if source is not None else None
    drawn = getattr(setup.train, "passes", None) or (source.steps if source is not None else None)
    return float((epochs or 1) * drawn if drawn else (epochs or 0) * (batches_of(setup.train) or 0))


def _scale(replica: Replica, factor: float) -> None:
    rates: list[Any] = []

    def before(optimizer: Optimizer, _: Any, __: Any) -> None:
        rates[:] = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor

    def after(optimizer: Optimizer, _: Any, __: Any) -> None:
        for group, rate in zip(optimizer.param_groups, rates, strict=False):
            group["lr"] = rate

    replica.optimizer.register_step_pre_hook(before)
    replica.optimizer.register_step_post_hook(after)


def _hold(replica: Replica, rates: Sequence[float]) -> None:
    def before(optimizer: Optimizer, _: Any, __: Any) -> None:
        for group, rate in zip(optimizer.param_groups, rates, strict=False):
            group["lr"] = rate

    replica.optimizer.register_step_pre_hook(before)


@contextmanager
def _scaled_step(model: nn.Module, factor: float) -> Iterator[None]:
    """Let a step that writes parameters without an optimizer change them by `factor` times as much."""
    before = [(p, p.detach().clone()) for p in model.parameters()]
    yield
    with torch.no_grad():
        for parameter, value in before:
            parameter.copy_(value + factor * (parameter - value))
