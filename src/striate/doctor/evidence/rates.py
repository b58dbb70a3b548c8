"""Trials at other learning rates, with the user's own step: factors work on whatever rate it sets."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.training_setup import Step, TrainingSetup
from striate.records import Remedy
from striate.wording import several

_FEWEST_FACTORS, _FALLEN, _EXACT = 4, 0.25, 0.01
"""Factors that tell how a rate falls, and how far it has to fall; what rounding may change of a factor's measure."""

COMPOUNDED = (
    f"at least {_FEWEST_FACTORS} changes that multiply the rate by the values of one schedule in their order (powers, "
    f"a line or a cosine, within {_EXACT:.0%}), down to {_FALLEN:g} of it or less"
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
    """By which part of their norm the parameters move in a step: the median of the first steps that moved them at all,
    0 where none did; None where none was looked at."""
    known = [row.moved / row.weights for row in trial.rows if row.moved is not None and row.weights]
    moved = sorted(value for value in known if math.isfinite(value) and value > 0)
    if not known:
        return None
    return moved[len(moved) // 2] if moved else 0.0


def first_movement(trial: Trial) -> float | None:
    """The same of the first step that moved them."""
    known = [row.moved / row.weights for row in trial.rows if row.moved and row.weights]
    return known[0] if known else None


def at_rate(evidence: Evidence, factor: float) -> Trial:
    """The user's own setup with every learning rate times `factor`, over as many steps as the trial made."""
    return evidence.variant(f"rate x{factor:g}", at_factor(evidence, factor))


def at_factor(evidence: Evidence, factor: float) -> Change:
    """What a trial with every learning rate times `factor` does otherwise."""
    by_optimizer = any(row.rates for row in evidence.trial.rows)
    return Change(prepare=lambda replica: _scale(replica, factor)) if by_optimizer else Change(wrap=_farther(factor))


def at_held_rates(evidence: Evidence, rates: Sequence[float]) -> Trial:
    """The user's own setup with each group's rate held, whatever a schedule sets."""
    return evidence.variant("rates held at " + " ".join(f"{rate:g}" for rate in rates), held_at(rates))


def held_at(rates: Sequence[float]) -> Change:
    """What a trial does otherwise in which each group's rate is held."""
    return Change(prepare=lambda replica: _hold(replica, rates))


def rates_given(evidence: Evidence) -> tuple[float, ...]:
    """The learning rates that the optimizer has now, by group."""
    return tuple(float(group["lr"]) for group in evidence.fresh.optimizer.param_groups)


def rate_text(rates: Sequence[float]) -> str:
    """`0.1`, or `0.1 to 0.5` of several groups."""
    low, high = min(rates), max(rates)
    return _three(low) if low == high else f"{_three(low)} to {_three(high)}"


def optimizer_line(optimizer: Optimizer, rates: Sequence[float], **others: float) -> str:
    """The line of Python that makes such an optimizer of all parameters at other rates, with the user's own options but
    for `others`; of several groups at several rates, the lines that set them."""
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
    """A remedy that gives the optimizer another learning rate."""
    return Remedy(text, settings={"optim.lr": float(f"{rate:.3g}")}, command=("lr-find", "DATA"))


def _three(value: float) -> str:
    """Three digits, without an exponent where there is no need of one."""
    return f"{float(f'{value:.3g}'):g}"


def highest_rates(trial: Trial) -> tuple[float, ...]:
    """The highest rate of each group, which a warm-up leads to; empty where the optimizer made no step."""
    known = [row.rates for row in trial.rows if row.rates]
    return tuple(max(values) for values in zip(*known, strict=False))


def compounds(rates: Sequence[float]) -> list[float] | None:
    """The different values of a rate, from the highest on, where each change multiplies it by the next factor of a
    schedule that is itself meant to be multiplied with the first rate: `lr *= 0.9 ** epoch` gives 0.9, 0.9², 0.9³.
    None elsewhere: no schedule that is meant falls so, neither a cosine nor the half of a bell, whose factors are the
    first, third and fifth powers."""
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


def told_compounded(different: Sequence[float]) -> str:
    """What is said of such values."""
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
    """How many batches the training loader yields, or a loop asks one without an end for: as it says itself, as is
    counted, or as were read."""
    try:
        return max(1, len(evidence.setup.train))  # type: ignore[arg-type]
    except TypeError:
        source = evidence.setup.source
        return (source.steps if source is not None else None) or len(evidence.train.raw)


def passes_planned(evidence: Evidence) -> float:
    """How often the script's loops pass through a batch in all; 0 where that is not known."""
    return passes_of(evidence.setup)


def passes_of(setup: TrainingSetup) -> float:
    """The same of a setup."""
    source = setup.source
    epochs = source.epochs if source is not None else None
    drawn = getattr(setup.train, "passes", None) or (source.steps if source is not None else None)
    try:
        return float((epochs or 1) * drawn if drawn else (epochs or 0) * len(setup.train))  # type: ignore[arg-type]
    except TypeError:
        return 0.0


def _scale(replica: Replica, factor: float) -> None:
    kept: list[Any] = []

    def before(optimizer: Optimizer, _: Any, __: Any) -> None:
        kept[:] = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor

    def after(optimizer: Optimizer, _: Any, __: Any) -> None:
        for group, rate in zip(optimizer.param_groups, kept, strict=False):
            group["lr"] = rate

    replica.optimizer.register_step_pre_hook(before)
    replica.optimizer.register_step_post_hook(after)


def _hold(replica: Replica, rates: Sequence[float]) -> None:
    def before(optimizer: Optimizer, _: Any, __: Any) -> None:
        for group, rate in zip(optimizer.param_groups, rates, strict=False):
            group["lr"] = rate

    replica.optimizer.register_step_pre_hook(before)


def _farther(factor: float) -> Any:
    """Steps that write the parameters by hand go `factor` times as far."""

    def wrap(step: Step) -> Step:
        def farther(model: nn.Module, batch: Any, optimizer: Optimizer, loss: Any) -> Any:
            before = [(p, p.detach().clone()) for p in model.parameters()]
            result = step(model, batch, optimizer, loss)
            with torch.no_grad():
                for parameter, value in before:
                    parameter.copy_(value + factor * (parameter - value))
            return result

        return farther

    return wrap
