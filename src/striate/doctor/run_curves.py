"""Findings from the training curves of a finished or interrupted run."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from typing import Any

from striate.data.config import DataConfig
from striate.doctor.unlabeled_curves import unlabeled_findings
from striate.errors import RunError
from striate.records import Finding, Remedy
from striate.runs.directory import RunDirectory, read_metrics
from striate.runs.events import read_events
from striate.runs.verified_files import read_verified
from striate.training.code_fields import how_to_train_longer
from striate.training.config_file import config_from_yaml
from striate.wording import percent, several, short_number

WORSE = 1.25
"""The last validation loss over the lowest, both smoothed over three epochs: a run above this, and with the accuracy
gap below, overfits. The noise of a few hundred samples is less than a tenth."""
GAP = 0.10
"""Training accuracy minus validation accuracy."""
STUCK = 0.98
"""Share of the loss of guessing, ln K: a run whose training loss ends above it has learned nothing."""
WAITING = 0.25
"""Share of the training time in which steps waited for data."""
FALLING = 0.05
"""Share by which the training loss still fell: over the last quarter of the epochs where the learning rate was still
high, over the second half where it was lowered."""
FEW_PASSES = 3
"""A run with fewer passes over the training samples says little about its data or its network."""
FEW_STEPS = 100
"""So does a run with fewer steps, and fewer passes than `_ENOUGH`."""
MANY_PASSES = 30
"""After this many passes, a loss that falls with the learning rate does not show that the run was too short."""
UNLEARNED = 1 / 3
"""Share of the first epoch's loss: a training loss below it counts as learned."""
AS_LOW = 1.02
"""The last validation loss over the lowest: up to this, validation is still at its best."""
TOO_SHORT = "fit.too-short"
_SMALLER = 128  # pixels
_ENOUGH, _LONGER = 10, 3
"""The remedy for a run that was too short: at least this many passes, and at least this many times as many."""


@dataclass(frozen=True)
class Curves:
    """The curves of a run, from its metrics.csv and events."""

    columns: Mapping[str, tuple[float, ...]]
    """Columns of metrics.csv by name."""
    events: tuple[dict[str, Any], ...]
    classes: int
    """Number of classes where guessing has the loss ln(classes) (`Task.guessed_classes`); else 0."""
    run: RunDirectory | None = None
    """The run of these curves."""
    passes: float | None = None
    """Passes over the training samples, a fraction where the budget ended within a pass; None while the run goes on."""

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.columns.get("epoch", ()))


def read_curves(run: RunDirectory, classes: int, passes: float | None = None) -> Curves:
    """The curves of a run, which may be unfinished. `passes`: needed where there is no metrics.json yet. Raises
    RunError where a file cannot be read."""
    try:
        table = (read_verified(run.metrics_csv) or b"").decode()
        rows = list(csv.DictReader(StringIO(table, newline="")))
    except RunError:
        raise
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(str(run.metrics_csv), str(error), "the table that training wrote", "train again") from None
    names = rows[0].keys() if rows else ()
    columns = {name: tuple(_number(row.get(name)) for row in rows) for name in names}
    if passes is None:
        with suppress(RunError):  # the run is not finished
            passes = read_metrics(run).get("epochs")
    return Curves(columns, tuple(read_events(run)), classes, run, passes)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def curve_findings(curves: Curves) -> tuple[Finding, ...]:
    """At most one finding each about a run that was too short, stopped at NaN or Inf, learned nothing, overfitted, or
    waited for its data; and `unlabeled_findings`."""
    found = (too_short(curves), _broken(curves), _stuck(curves), _overfit(curves), _waiting(curves))
    rates = curves.columns.get("lr", ())
    of_unlabeled = unlabeled_findings(curves.columns, max(rates) if rates else None)
    return (*(finding for finding in found if finding is not None), *of_unlabeled)


def _broken(curves: Curves) -> Finding | None:
    event = next((event for event in curves.events if event.get("event") == "non-finite"), None)
    if event is None:
        return None
    step = f"step {event['step']:,}" if isinstance(event.get("step"), int) else "a step"
    layer = f", first in {event['layer']}" if event.get("layer") else ""
    return Finding(
        code="loss.not-finite",
        severity="error",
        where=str(event.get("where", "the run")),
        measured=f"{event.get('got', 'NaN or Inf')} in {step}{layer}",
        threshold="all numbers finite",
        why="Nothing can be learned after that. The run stopped and kept its last good checkpoint.",
        remedy=str(event.get("remedy", "a lower learning rate")),
    )


def _stuck(curves: Curves) -> Finding | None:
    loss = curves.columns.get("train_loss", ())
    if curves.classes < 2 or len(loss) < 3:
        return None
    chance = math.log(curves.classes)
    if not min(loss[-3:]) > STUCK * chance or _learns_without_labels(curves):
        return None
    return Finding(
        code="fit.plateau",
        severity="error",
        where="metrics.csv",
        measured=f"a training loss of {loss[-1]:.3f} after {several(curves.epochs, 'epoch')}; guessing gives ln "
        f"{curves.classes} = {chance:.3f}",
        threshold=f"below {STUCK:g} times the loss of guessing",
        why="The network predicts as if it had not looked at the inputs.",
        remedy=Remedy(
            "See the other findings. If there are none, try another learning rate.", command=("lr-find", "DATA")
        ),
    )


def _learns_without_labels(curves: Curves) -> bool:
    """Whether the run learns without labels, so that its predictions of labels cannot be better than guesses."""
    return curves.run is not None and not config_from_yaml(curves.run.config).auxiliary.task


def _overfit(curves: Curves) -> Finding | None:
    val, train = curves.columns.get("val_loss", ()), curves.columns.get("train_loss", ())
    if len(val) < 6:
        return None
    smooth = _smooth(val)
    lowest = min(smooth)
    place = smooth.index(lowest) + 2  # the epoch in the middle, from 1
    gap = _gap(curves)
    if lowest <= 0 or smooth[-1] < WORSE * lowest or train[-1] > 0.5 * val[-1] or (gap is not None and gap < GAP):
        return None
    apart = "" if gap is None else f", accuracy {100 * gap:.0f} points below that on training samples"
    return Finding(
        code="fit.overfit",
        severity="warning",
        where="metrics.csv",
        measured=f"validation loss {smooth[-1]:.3f} at the end, {lowest:.3f} around epoch {place}{apart}",
        threshold=f"{WORSE:g} times the lowest, and {100 * GAP:.0f} points",
        why="The network memorizes its training samples. A run with --keep best uses the weights of the best epoch.",
        remedy=Remedy(
            "More data or augmentation, dropout, a smaller network, or fewer epochs.",
            settings={"keep": "best"},
            advice="more data or augmentation, dropout(0.5), a smaller network, or fewer epochs",
        ),
    )


def too_short(curves: Curves) -> Finding | None:
    """The finding about a run that hardly trained: few passes over its data, or a training loss that still fell clearly
    at its end. None for other runs, and for a run that ended early by patience or target."""
    steps = _steps(curves)
    passes = math.inf if curves.passes is None else curves.passes
    few, fell = passes < FEW_PASSES or (passes < _ENOUGH and steps < FEW_STEPS), _still_fell(curves)
    if not (few or fell) or ended_early(curves):
        return None
    if few:
        made = f"{short_number(passes)} {'epoch' if passes == 1 else 'epochs'}"
        measured = f"{made}, in {several(steps, 'step')}"
        threshold = f"{FEW_PASSES} epochs, and {FEW_STEPS} steps or {_ENOUGH} epochs"
        why = "The network hardly trained, so its result says little about these data or this network."
    else:
        measured, threshold = fell, percent(FALLING, 0)
        why = (
            "The training loss was still falling at the end: a longer training would very likely give a better network."
        )
    return Finding(TOO_SHORT, "warning" if few else "note", "training", measured, threshold, why, _longer(curves))


def _still_fell(curves: Curves) -> str:
    """How the training loss still fell at the end, in words; empty where it shows nothing more to learn."""
    columns = curves.columns
    loss, rate, val = (columns.get(name, ()) for name in ("train_loss", "lr", "val_loss"))
    if len(loss) < 4 or not rate:
        return ""
    constant = rate[-1] > 0.5 * max(rate)
    part = max(1, len(loss) // (4 if constant else 2))
    before = loss[-1 - part]
    fell = 1 - loss[-1] / before if before > 0 else 0.0
    if not fell >= FALLING:
        return ""
    if constant:
        gap = _gap(curves)
        over = len(loss) < 8 or (gap is not None and gap > GAP)
    else:
        over = curves.passes is None or curves.passes >= MANY_PASSES or loss[-1] < UNLEARNED * loss[0]
        over = over or not val or not val[-1] <= AS_LOW * min(val)
    return "" if over else f"the training loss still fell by {percent(fell, 0)} in the last {several(part, 'epoch')}"


def _steps(curves: Curves) -> int:
    return int(curves.columns.get("step", (0,))[-1])


def ended_early(curves: Curves) -> bool:
    """Whether training ended before its planned number of steps: at its target, or without improvement."""
    planned = None if curves.run is None else config_from_yaml(curves.run.config).budget.steps
    return planned is not None and _steps(curves) < planned


def _longer(curves: Curves) -> Remedy:
    """The remedy of a longer training, as a command; without a command for data that were passed in Python."""
    plain = Remedy("Train for longer.", settings={"schedule.name": "one-cycle"}, advice="more epochs")
    if curves.run is None or curves.passes is None:
        return plain
    config = config_from_yaml(curves.run.config)
    times = max(_ENOUGH / curves.passes, _LONGER)
    if config.budget.minutes is None:
        budget = f"--epochs {math.ceil(times * curves.passes)}"
    else:
        added = (times - 1) * sum(curves.columns.get("seconds", ())) / 60
        budget = f"--minutes {_whole_minutes(config.budget.minutes + added)}"
    command = how_to_train_longer(curves.run, config, budget)
    if command is None:
        return plain
    smaller = ""
    if max(config.data.size or (0,)) > 1.5 * _SMALLER:
        smaller = f" Smaller images train faster: add --size {_SMALLER}."
    return Remedy(f"Train for longer: {command}{smaller and '.'}{smaller}")


def _whole_minutes(minutes: float) -> str:
    """Minutes rounded up to a round number: 2, 5, 10, 15, …"""
    step = next((step for step in (1, 5, 15) if minutes <= 10 * step), 60)
    return str(step * math.ceil(minutes / step))


def _waiting(curves: Curves) -> Finding | None:
    waits = [share for share in curves.columns.get("data_wait", ())[1:] if math.isfinite(share)]
    if not waits or sorted(waits)[len(waits) // 2] < WAITING:
        return None
    data = config_from_yaml(curves.run.config).data if curves.run else DataConfig()
    remedy = Remedy(
        "Decode all images once, or use smaller ones.",
        # The run would not use a pack of another image size.
        command=("data", "pack", "DATA", *(("--size", "x".join(map(str, data.size))) if data.size else ())),
        advice="smaller images, which decode faster",
    )
    if data.store in ("memory", "pack"):
        # These trainings decode nothing.
        remedy = Remedy("Augment less; or use a larger network, which costs hardly more time.")
    return Finding(
        code="speed.input-bound",
        severity="warning",
        where="metrics.csv",
        measured=f"steps waited for data during {percent(sorted(waits)[len(waits) // 2], 0)} of the time",
        threshold=percent(WAITING, 0),
        why="The network could train faster than the samples arrive.",
        remedy=remedy,
    )


def _gap(curves: Curves) -> float | None:
    train, val = curves.columns.get("train_accuracy", ()), curves.columns.get("val_accuracy", ())
    return train[-1] - val[-1] if train and val and math.isfinite(train[-1]) else None


def _smooth(values: Sequence[float]) -> list[float]:
    return [sum(values[i : i + 3]) / 3 for i in range(len(values) - 2)]
