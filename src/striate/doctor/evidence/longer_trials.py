"""Longer trials: a network that has not learned yet may do so a little later."""

from __future__ import annotations

from dataclasses import replace

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import Progress
from striate.doctor.evidence.trial import Change, Trial, run_trial

_FEW = 30
"""Fewest parameter updates: a trial that accumulates gradients makes fewer."""
_TIMES, _SHARE = 4, 0.25
"""How many times as many steps as the trial; share of the budget."""


def few_updates(trial: Trial) -> bool:
    """Whether a trial made few parameter updates, since it accumulates gradients."""
    return 0 < _updates(trial) < _FEW


def share_after_more_updates(evidence: Evidence) -> float:
    """`Progress.share` of a trial with few updates, after as many updates as other trials make."""
    trial = evidence.trial
    return _after(evidence, len(trial.rows) * 2 * _FEW // _updates(trial))


def share_after_more_steps(evidence: Evidence) -> float:
    """`Progress.share` after four times as many steps: a high learning rate that is lowered later starts slowly."""
    return _after(evidence, _TIMES * len(evidence.trial.rows))


def progress_of_both_after_more_steps(evidence: Evidence, change: Change) -> tuple[Progress, Progress]:
    """Progress of the setup as it is, and with a change, after four times as many steps; both after the same number."""
    steps, found = _TIMES * len(evidence.trial.rows), list[Trial]()
    for one in (None, change):
        until = evidence.clock.until(_SHARE)
        found.append(run_trial(evidence.setup, evidence.train.raw, steps, until, one, close=False))
    fewest = min(len(trial.rows) for trial in found)
    for trial in found:
        del trial.rows[fewest:]
    return evidence.progress_of(found[0]), evidence.progress_of(found[1])


def share_with_own_batches(evidence: Evidence) -> float:
    """`Progress.share` after as many steps, where each of several parts of a step draws its own batch, as in the
    script; other trials pass one batch to all parts. 0 where the step has no such parts."""
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
