"""The inputs of networks in a script's own run, their mode in training, and losses that are NaN or infinite."""

from __future__ import annotations

import math
from collections.abc import Iterator

from striate.doctor.checks.own_run.called_networks import (
    FEW_STEPS,
    comparable_calls,
    mean_and_deviation,
    networks_learning,
)
from striate.doctor.checks.own_run.check import OwnRunCheck
from striate.doctor.evidence.own_run import NetworkCall, OwnRun
from striate.wording import several

_FAR, _WIDER = 3.0, 3.0


def differing_inputs(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Networks whose inputs in evaluation are far from all inputs in training, by mean or deviation."""
    for network in networks_learning(run):
        learned, evaluated = comparable_calls(run, network)
        if len(learned) < FEW_STEPS or not evaluated:
            continue
        if any(_are_near(one, other) for one in evaluated for other in learned):
            continue
        yield (
            f"the evaluation of {network.name}",
            f"the script's own steps give {network.name} inputs with {_described(learned)}, but its own evaluation "
            f"gives it {_described(evaluated)}",
        )


def _are_near(evaluated: NetworkCall, learned: NetworkCall) -> bool:
    """Whether the means are near, and the standard deviations or the mean absolute deviations: features that are
    constant in training are divided by nearly 0, and then few values of evaluation inputs are huge."""
    gap = abs(evaluated.mean - learned.mean)
    pairs = ((evaluated.deviation, learned.deviation), (evaluated.distance, learned.distance))
    wider = min(abs(math.log(max(one, 1e-12) / max(other, 1e-12))) for one, other in pairs)
    return gap <= _FAR * max(learned.deviation, evaluated.deviation) and wider <= math.log(_WIDER)


def _described(calls: list[NetworkCall]) -> str:
    mean, deviation = mean_and_deviation(calls)
    return f"mean {mean:.3g} and standard deviation {deviation:.3g}"


INPUTS_DIFFER = OwnRunCheck(
    "data.shift",
    "error",
    f"all evaluation inputs have a standard deviation and a mean absolute deviation {_WIDER:g} times as large or small "
    f"as the inputs of any step, or a mean {_FAR:g} standard deviations away",
    "The network is evaluated on inputs unlike any that it has seen: its metrics do not show what it has learned.",
    "prepare evaluation inputs like training inputs: the same scale, mean and standard deviation",
    differing_inputs,
)


def _left_in_evaluation(run: OwnRun) -> Iterator[tuple[str, str]]:
    for network in networks_learning(run):
        learned = [call for call in network.calls if call.learns]
        first = next((call.steps for call in network.calls if not call.learns and call.steps > 1), None)
        if first is None:
            continue
        before = [call.active for call in learned if call.steps < first]
        after = [call.active for call in learned if call.steps >= first]
        steps = {call.steps for call in learned if call.steps >= first}  # an attack calls it often without a step
        if len(before) >= 2 and all(before) and len(steps) >= FEW_STEPS and not any(after):
            yield (
                network.name,
                f"up to step {first} dropout or batch norm of {network.name} is in training mode, but in the "
                f"{several(len(after), 'call')} with gradients after the first evaluation none of it is",
            )


LEFT_IN_EVALUATION = OwnRunCheck(
    "model.mode",
    "warning",
    f"{FEW_STEPS} calls with gradients after the first evaluation, and two before it",
    "Dropout and batch norm are in evaluation mode for most of the training.",
    "call `model.train()` at the beginning of each epoch, or after each evaluation",
    _left_in_evaluation,
)


def _not_finite(run: OwnRun) -> Iterator[tuple[str, str]]:
    tail = run.losses[-3:]
    if len(run.losses) >= FEW_STEPS and all(not math.isfinite(value) for value in tail):
        first = next(place for place, value in enumerate(run.losses, start=1) if not math.isfinite(value))
        yield "the loss", f"from backward pass {first} of the script on, the loss is {tail[-1]:g}"


NOT_FINITE = OwnRunCheck(
    "loss.not-finite",
    "error",
    "the last three losses of the script are NaN or infinite",
    "Nothing is learned from a loss that is NaN or infinite, and the weights become NaN too.",
    "halve the learning rate, or clip gradients: `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)` before "
    "`optimizer.step()`",
    _not_finite,
)
