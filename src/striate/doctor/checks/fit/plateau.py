"""`fit.plateau`: does the loss stay where it was, though weights change?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.checks.fit.fitting import flat, longer, need_predictions, trial_with_adam
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.clock import OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import Predictions
from striate.doctor.evidence.rates import at_rate, rates_are_users, warms_up
from striate.records import Finding, Remedy
from striate.wording import percent, several

_FALLEN = 0.03
_FEWEST = 60
_BETTER = 0.7
_HIGH = 0.05
_STEADY = 0.75
_RIGHT = 0.97


def _find_plateau(evidence: Evidence) -> Iterator[Finding]:
    need_predictions(evidence, as_loaded=False)
    trial = evidence.trial
    if trial.error is not None or len(trial.rows) < _FEWEST or warms_up(trial):
        return
    if not _guesses(evidence.start_training):
        yield from _noisy(evidence)
        return
    if not _stuck(trial.losses):
        return
    moved = max((row.moved or 0.0) / max(row.weights or 1.0, 1e-12) for row in trial.rows if row.moved is not None)
    predictions = (evidence.after_training, evidence.after)
    if moved < 1e-7 or not all(_guesses(one) for one in predictions):
        return
    more = longer(evidence)
    if not _stuck(more.losses) or not flat(more.losses, _FALLEN) or not _guesses(evidence.in_training(more.replica)):
        return
    text, remedy = _with_adam(evidence, len(more.rows))
    evidence.pictures["fit.plateau"] = Picture("lines", "The loss of the trial", {"loss": tuple(more.losses)})
    yield PLATEAU.finding(
        severity="warning",
        where="training",
        measured=f"the loss is {_mean(more.losses[:10]):.3g} in the first 10 steps and {more.level():.3g} after "
        f"{several(len(more.rows), 'step')}. The weights change (by {moved:.1g} of their norm in a step), but the "
        f"predictions are no better than a guess{text}",
        limit=f"in {_FEWEST} steps or more the loss falls by less than {percent(_FALLEN, 0)}, and predictions are no "
        "better than a guess before and after",
        why="Training stagnates where the gradient is nearly zero, or points nowhere.",
        remedy=remedy,
    )


def _noisy(evidence: Evidence) -> Iterator[Finding]:
    """A trained network whose loss stays constant at its learning rate, and falls at a tenth of it."""
    known = evidence.start_training.quality
    trial = evidence.trial
    half = len(trial.losses) // 2
    own = _mean(trial.losses[half:])
    if known is None or not rates_are_users(evidence) or known.loss < _HIGH * known.constant:
        return
    if (known.accuracy or 0.0) > _RIGHT or own < _STEADY * _mean(trial.losses[:half]):
        return
    slower = at_rate(evidence, 0.1)
    low = _mean(slower.losses[-len(slower.losses) // 4 :])
    if slower.error is not None or not slower.losses or not low < _BETTER * own:
        return
    evidence.pictures["fit.plateau"] = Picture(
        "lines", "The loss of the trial", {"as it is": tuple(trial.losses), "a tenth of the rate": tuple(slower.losses)}
    )
    yield PLATEAU.finding(
        severity="warning",
        where="training",
        measured=f"the network has learned, and its loss stays at {own:.3g} over {several(len(trial.rows), 'step')}; "
        f"with a tenth of the learning rate it is {low:.3g} after as many steps",
        limit=f"the loss is above {percent(_HIGH, 0)} of that of a guess, falls by less than {percent(1 - _STEADY, 0)} "
        f"from the first half of the trial to the second, and at a tenth of the rate falls below {percent(_BETTER, 0)} "
        "of that",
        why="At this rate the steps oscillate around the minimum: the remaining loss is their noise.",
        remedy=Remedy(
            "decay the rate: `torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)` with "
            "`scheduler.step()` once an epoch, or `ReduceLROnPlateau`",
            settings={"schedule.name": "one-cycle"},
        ),
    )


def _stuck(losses: list[float]) -> bool:
    if len(losses) < _FEWEST or not all(map(math.isfinite, losses)):
        return False
    first, last = _mean(losses[:10]), _mean(losses[-len(losses) // 4 :])
    noise = (sum((loss - first) ** 2 for loss in losses[:10]) / 9) ** 0.5 / 10**0.5
    return last > (1 - _FALLEN) * first - noise and abs(last) < 3 * abs(first) + 1e-9


def _guesses(predictions: Predictions) -> bool:
    found = predictions.quality
    return found is not None and found.guesses


def _with_adam(evidence: Evidence, steps: int) -> tuple[str, Remedy]:
    """The loss that Adam reaches, in words, and the remedy."""
    usual = Remedy(
        "put a normalization (`nn.BatchNorm2d`, `nn.LayerNorm`) before each nonlinearity, use `nn.ReLU()` and "
        "`nn.init.kaiming_normal_`, or add residual connections",
        advice="bn before each nonlinearity, relu, or res[ … ] in a layer string",
    )
    for rate in (1e-3, 1e-2):
        try:
            trial = trial_with_adam(evidence, rate, steps=steps)
        except OutOfTime:
            return "", usual
        if trial.error is None and trial.rows and trial.level() < _BETTER * evidence.trial.level():
            name = f"torch.optim.Adam(model.parameters(), lr={rate:g})"
            return (
                f"; with Adam at {rate:g} the loss is {trial.level():.3g} after as many steps",
                Remedy(f"use `{name}`, or {usual}", settings={"optim.name": "adamw", "optim.lr": rate}),
            )
    return "; Adam does no better", usual


def _mean(losses: list[float]) -> float:
    return sum(losses) / max(len(losses), 1)


PLATEAU = Check(
    codes=("fit.plateau",),
    run=_find_plateau,
    quick=False,
)
