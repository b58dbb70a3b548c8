"""Evaluations whose inputs have another scale than those of training, with which the network would predict right."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import torch

from striate.doctor.checks.own_run.called_networks import comparable_calls, mean_and_deviation, networks_learning
from striate.doctor.checks.own_run.check import OwnRunCheck
from striate.doctor.checks.own_run.inputs import differing_inputs
from striate.doctor.evidence.own_run import EvaluatedInputs, Key, NetworkCall, OwnRun
from striate.doctor.evidence.quality import classes_of
from striate.models.preserved_state import preserved, same_random_state
from striate.observe.tensors import tensors_in
from striate.wording import percent, several

_FEW_STEPS, _WIDER, _OFFSET = 10, 1.5, 0.5
"""Steps after which a network has learned something; ratio of standard deviations; deviations between means."""
_GAIN, _LEARNED, _CERTAIN = 0.2, 0.5, 4.0
"""Gain of the accuracy and the least accuracy in the scale of training; the gain in standard errors."""

_ACCURACY, _FEW_SAID, _FALL = re.compile(r"acc\w*\W{0,3}(\d+\.\d+)", re.IGNORECASE), 3, 0.1
"""The number behind a word such as `acc`, the fewest such numbers, and by how much the last one is lower."""


def _right_in_scale(run: OwnRun) -> Iterator[tuple[str, str]]:
    if any(differing_inputs(run)):
        return
    kinds = {network.name: network.kind for network in run.networks.values()}
    for trained in networks_learning(run):
        learned, evaluated = comparable_calls(run, trained)
        if len(learned) < _FEW_STEPS or any(_are_alike(one, other) for one in evaluated for other in learned):
            continue
        mean, deviation = mean_and_deviation(learned)
        for key, evaluation in run.evaluated.items():
            if kinds.get(key[0]) != trained.kind or evaluation.steps < _FEW_STEPS:
                continue
            inputs = torch.cat([x.detach().double().flatten() for x in evaluation.inputs])
            own, others = float(inputs.mean()), float(inputs.std())
            if not others > 0:
                continue
            plain = _right(evaluation, key, 1.0, 0.0)
            fixed = _right(evaluation, key, deviation / others, mean - own * deviation / others)
            if plain is None or fixed is None or len(plain) != len(fixed):
                continue
            change = fixed - plain
            error = max(float(change.std()) / len(change) ** 0.5, 0.5 / len(change))
            gain, right = float(change.mean()), float(fixed.mean())
            if gain >= max(_GAIN, _CERTAIN * error) and right >= _LEARNED:
                yield (
                    f"the evaluation of {key[0]}",
                    f"the script's own steps give {trained.name} inputs with mean {mean:.3g} and standard deviation "
                    f"{deviation:.3g}, its evaluation inputs with {own:.3g} and {others:.3g}: of "
                    f"{several(len(plain), 'sample')} it predicts {percent(float(plain.mean()), 0)} right, and "
                    f"{percent(right, 0)} if they are brought to the mean and deviation of training",
                )


def _are_alike(one: NetworkCall, other: NetworkCall) -> bool:
    gap = abs(one.mean - other.mean)
    wider = abs(math.log(one.deviation / other.deviation))
    return gap <= _OFFSET * max(one.deviation, other.deviation) and wider <= math.log(_WIDER)


def _right(evaluation: EvaluatedInputs, key: Key, factor: float, offset: float) -> torch.Tensor | None:
    """For each sample of an evaluation, 1 if the network predicts it right from the input times `factor` plus `offset`,
    else 0; None where outputs are not classes, or the network fails."""
    right, network = list[torch.Tensor](), evaluation.network
    with suppress(Exception), preserved(network), torch.no_grad(), same_random_state():  # of the user's network
        for x, targets in zip(evaluation.inputs, evaluation.targets, strict=True):
            outputs = next(islice(tensors_in(network(x * factor + offset)), key[1], None)).detach().cpu()
            classes = classes_of(outputs, targets)
            if classes is None:
                return None
            right.append((classes == targets).double())
        return torch.cat(right)
    return None


def _later_inputs_differ(run: OwnRun) -> Iterator[tuple[str, str]]:
    """Predictions after training for inputs of another scale, where earlier evaluations had that of training, and the
    accuracy that is printed last is lower."""
    said = [float(number) for _, text in run.printed for number in _ACCURACY.findall(text)]
    if len(said) < _FEW_SAID:
        return
    before, after = (number / (100 if max(said) > 1 else 1) for number in said[-2:])
    if after > before - _FALL:
        return
    for network in networks_learning(run):
        learned, evaluated = comparable_calls(run, network)
        unlike = [not any(_are_alike(call, other) for other in learned) for call in evaluated]
        later = [call for call, far in zip(evaluated, unlike, strict=True) if far and call.steps == run.steps]
        if not later or all(unlike) or len(learned) < _FEW_STEPS:
            continue
        own, others = mean_and_deviation(learned), mean_and_deviation(later)
        yield (
            f"the predictions of {network.name} after training",
            f"the script's own steps give {network.name} inputs with mean {own[0]:.3g} and standard deviation "
            f"{own[1]:.3g}, as its earlier evaluations do; after training it is given {others[0]:.3g} and "
            f"{others[1]:.3g}, and the printed accuracy falls from {percent(before, 0)} to {percent(after, 0)}",
        )


LATER_INPUTS = OwnRunCheck(
    "data.shift",
    "error",
    f"what the network is given after training has a standard deviation {_WIDER:g} times as large or small as in any "
    f"of its steps, or a mean {_OFFSET:g} deviations away, and the last accuracy that is printed is {_FALL:g} below "
    "the one before",
    "The network predicts for inputs unlike any that it has seen.",
    "prepare the inputs of all predictions in one function, with the constants of training",
    _later_inputs_differ,
)

INPUT_SCALE = OwnRunCheck(
    "data.shift",
    "error",
    f"all that the script's own evaluation gives the network has a standard deviation {_WIDER:g} times as large or "
    f"small as in any of its steps, or a mean {_OFFSET:g} deviations away, and {percent(_GAIN, 0)} more are right with "
    "the scale of training",
    "The network is evaluated on inputs unlike any that it has seen: its metrics do not show what it has learned.",
    "prepare evaluation inputs like training inputs: the same scale, mean and standard deviation",
    _right_in_scale,
)
