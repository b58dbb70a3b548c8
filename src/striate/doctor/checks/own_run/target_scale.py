"""Evaluations whose targets have another unit than those of training."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from striate.doctor.checks.own_run.check import OwnRunCheck
from striate.doctor.evidence.own_run import OwnRun
from striate.wording import several

_FEW_STEPS, _OTHER, _ALIKE = 10, 5.0, 2.0
"""Steps of training; ratios of standard deviations from which on units differ, and up to which they are alike."""


def _targets_differ(run: OwnRun) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys(one.name for one in run.numbers):
        own_numbers = [one for one in run.numbers if one.name == name and one.targets > 0]
        trained = [one.targets for one in own_numbers if one.learns]
        evaluated = [one for one in own_numbers if not one.learns and one.steps >= _FEW_STEPS and one.outputs > 0]
        if len(trained) < _FEW_STEPS or not evaluated:
            continue
        own = median(trained)
        ratios = [one.targets / own for one in evaluated]
        outputs = [one.outputs / own for one in evaluated]
        if all(not 1 / _OTHER < ratio < _OTHER for ratio in ratios) and max(outputs) < _ALIKE:
            yield (
                f"the evaluation of {name}",
                f"the loss of training compares the outputs of {name} with targets of standard deviation {own:.3g}, "
                f"the evaluation after {several(evaluated[-1].steps, 'step')} compares outputs of "
                f"{evaluated[-1].outputs:.3g} with targets of {evaluated[-1].targets:.3g}",
            )


TARGET_SCALE = OwnRunCheck(
    "data.shift",
    "error",
    f"in all evaluations the targets have a standard deviation {_OTHER:g} times as large or small as in training, and "
    f"the outputs one of at most {_ALIKE:g} times that of the targets in training",
    "The errors that are reported are those of another unit: they do not show what the network has learned.",
    "bring the outputs to the unit of the targets before the error is computed: `output * scale + offset`, with the "
    "numbers that the targets of training were scaled by",
    _targets_differ,
)
