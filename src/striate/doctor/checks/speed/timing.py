"""How long steps take, measured in turns, so that what else the machine does meets all alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change, Trial, go_on, run_trial
from striate.doctor.patient.patient import Step

_ROUNDS = 6
_WARM = 2


def seconds_of_steps(
    evidence: Evidence, ways: Mapping[str, tuple[Change, Sequence[Any]]], share: float = 0.1
) -> dict[str, Trial]:
    """Trials of each way, a few steps in turns, within `share` of the budget; the first steps are for warming up.

    Raises NoEvidence where there was no time for two rounds after these.
    """
    until = evidence.clock.until(share)
    trials = {
        name: run_trial(evidence.patient, batches, _WARM, until, _waiting(evidence, change), close=False)
        for name, (change, batches) in ways.items()
    }
    for _ in range(_ROUNDS):
        for name, (_, batches) in ways.items():
            if trials[name].error is None:
                go_on(trials[name], batches, 1, until)
    if min(len(trial.rows) for trial in trials.values() if trial.error is None or trial.rows) < _WARM + 2:
        raise NoEvidence("steps take too long to be timed in several ways")
    return trials


def best(trial: Trial) -> float:
    """The seconds of its fastest step after the first ones: what else the machine does only adds to it."""
    return min(row.seconds for row in trial.rows[_WARM:])


def _waiting(evidence: Evidence, change: Change) -> Change:
    """The same change, with steps that are over when the accelerator is."""
    if evidence.patient.device.type != "cuda":
        return change

    def wrap(step: Step) -> Step:
        inner = change.wrap(step) if change.wrap is not None else step

        def waits(*args: Any) -> Any:
            returned = inner(*args)
            torch.cuda.synchronize()
            return returned

        return waits

    return replace(change, wrap=wrap)
