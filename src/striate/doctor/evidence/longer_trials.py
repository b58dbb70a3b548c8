"""What a longer trial comes to: what has not learned yet may do so a little later; and one with all of its batches."""

from __future__ import annotations

from dataclasses import replace

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import Progress
from striate.doctor.evidence.trial import Change, Trial, run_trial

_FEW = 30
"""Updates: where gradients of several batches are added up, a trial makes as few."""
_TIMES, _SHARE = 4, 0.25
"""Times the steps of the trial, and of the budget that is left."""


def few_updates(trial: Trial) -> bool:
    """Whether a trial made few updates, since gradients of several batches are added up."""
    return 0 < _updates(trial) < _FEW


def recovered(evidence: Evidence) -> float:
    """The share of the way from chance to a loss of 0 after as many updates as other trials make, of one that made
    few."""
    trial = evidence.trial
    return _after(evidence, len(trial.rows) * 2 * _FEW // _updates(trial))


def share_after_more_steps(evidence: Evidence) -> float:
    """The same after four times the steps: rates that are lowered later begin so."""
    return _after(evidence, _TIMES * len(evidence.trial.rows))


def progress_of_both_after_more_steps(evidence: Evidence, change: Change) -> tuple[Progress, Progress]:
    """How far the setup comes in four times the steps as it is, and with a change, in as many steps of each."""
    steps, found = _TIMES * len(evidence.trial.rows), list[Trial]()
    for one in (None, change):
        until = evidence.clock.until(_SHARE)
        found.append(run_trial(evidence.setup, evidence.train.raw, steps, until, one, close=False))
    fewest = min(len(trial.rows) for trial in found)
    for trial in found:
        del trial.rows[fewest:]
    return evidence.progress_of(found[0]), evidence.progress_of(found[1])


def as_written(evidence: Evidence) -> float:
    """The same after as many steps, where each of several parts of a step draws a batch of its own, as the script says:
    trials give all parts one batch. Nothing where no step has such parts."""
    step = getattr(evidence.setup.train, "as_written", None)
    if step is None:
        return 0.0
    until, steps = evidence.clock.until(_SHARE), len(evidence.trial.rows)
    return evidence.progress_of(run_trial(replace(evidence.setup, step=step), evidence.train.raw, steps, until)).share


def _updates(trial: Trial) -> int:
    return sum(bool(row.rates) for row in trial.rows)


def _after(evidence: Evidence, steps: int) -> float:
    longer = run_trial(evidence.setup, evidence.train.raw, steps, evidence.clock.until(_SHARE), close=False)
    return evidence.progress_of(longer).share
