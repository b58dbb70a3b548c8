"""What the curves of a finished or broken run say."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from striate.errors import RunError
from striate.records import Finding, Remedy
from striate.runs.directory import RunDirectory
from striate.runs.events import read_events

WORSE = 1.25
"""The validation loss at the end over its lowest: beyond this, and with the gap below, learning by heart has begun to
cost. Smoothed over three epochs; noise of a few hundred samples stays within a tenth."""
GAP = 0.10
"""Accuracy on training samples minus that on validation."""
STUCK = 0.98
"""Of the loss of guessing, ln K: a run that ends above has learned nothing."""
WAITING = 0.25
"""Share of the time of training in which steps waited for data."""
FALLING = 0.05
"""Share by which the training loss still fell in the last quarter of the epochs, at a rate not yet brought down."""


@dataclass(frozen=True)
class Curves:
    """Rows of metrics.csv as numbers, by column, and events. `classes`: how many, 0 for other tasks."""

    columns: Mapping[str, tuple[float, ...]]
    events: tuple[dict[str, Any], ...]
    classes: int

    @property
    def epochs(self) -> int:
        """How many epochs were finished."""
        return len(self.columns.get("epoch", ()))


def read_curves(run: RunDirectory, classes: int) -> Curves:
    """The curves of a run, also of one that broke off. Raises RunError where a file cannot be read."""
    rows: list[dict[str, str]] = []
    if run.metrics_csv.exists():
        try:
            with run.metrics_csv.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise RunError(str(run.metrics_csv), str(error), "the table that training wrote", "train again") from None
    names = rows[0].keys() if rows else ()
    columns = {name: tuple(_number(row.get(name)) for row in rows) for name in names}
    return Curves(columns, tuple(read_events(run)) if run.events.exists() else (), classes)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def curve_findings(curves: Curves) -> tuple[Finding, ...]:
    """At most one finding each of a run that broke off, learned nothing, learned by heart, or waited for its data."""
    found = (_broken(curves), _stuck(curves), _overfit(curves), _underfit(curves), _waiting(curves))
    return tuple(finding for finding in found if finding is not None)


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
        why="From there on nothing can be learned; the run stopped and kept its last good checkpoint.",
        remedy=str(event.get("remedy", "a lower learning rate")),
    )


def _stuck(curves: Curves) -> Finding | None:
    loss = curves.columns.get("train_loss", ())
    if curves.classes < 2 or len(loss) < 3:
        return None
    chance = math.log(curves.classes)
    if not min(loss[-3:]) > STUCK * chance:
        return None
    return Finding(
        code="fit.plateau",
        severity="error",
        where="metrics.csv",
        measured=f"a training loss of {loss[-1]:.3f} after {curves.epochs} epochs; guessing gives ln {curves.classes} "
        f"= {chance:.3f}",
        threshold=f"below {STUCK:g} of that of guessing",
        why="The network predicts as if it had not looked at the inputs.",
        remedy=Remedy("See the other findings; if there are none, another learning rate.", command=("lr-find", "DATA")),
    )


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
        why="The network learns its training samples by heart. A run with --keep best predicts as well as it did "
        "before.",
        remedy=Remedy(
            "More data or augmentation, dropout, a smaller network, or fewer epochs.",
            settings={"keep": "best"},
            advice="more data or augmentation, dropout(0.5), a smaller network, or fewer epochs",
        ),
    )


def _underfit(curves: Curves) -> Finding | None:
    loss, rate = curves.columns.get("train_loss", ()), curves.columns.get("lr", ())
    quarter = max(1, len(loss) // 4)
    if len(loss) < 8 or not rate:
        return None
    fell = 1 - loss[-1] / loss[-1 - quarter] if loss[-1 - quarter] > 0 else 0.0
    gap = _gap(curves)
    constant = rate[-1] > 0.5 * max(rate)
    if fell < FALLING or not constant or (gap is not None and gap > GAP):
        return None
    return Finding(
        code="fit.underfit",
        severity="note",
        where="metrics.csv",
        measured=f"the training loss still fell by {100 * fell:.0f} % in the last {quarter} epochs",
        threshold=f"{100 * FALLING:.0f} %",
        why="Training ended before it was over: validation has no lead yet either.",
        remedy=Remedy(
            "More epochs, with a schedule that brings the rate down.",
            settings={"schedule.name": "one-cycle"},
            advice="more epochs",
        ),
    )


def _waiting(curves: Curves) -> Finding | None:
    waits = [share for share in curves.columns.get("data_wait", ())[1:] if math.isfinite(share)]
    if not waits or sorted(waits)[len(waits) // 2] < WAITING:
        return None
    return Finding(
        code="speed.input-bound",
        severity="warning",
        where="metrics.csv",
        measured=f"steps waited for data during {sorted(waits)[len(waits) // 2]:.0%} of the time",
        threshold=f"{WAITING:.0%}",
        why="The network could be trained faster than the samples come.",
        remedy=Remedy(
            "Decode all images once, or take smaller ones.",
            command=("data", "pack", "DATA"),
            advice="smaller images, which decode faster",
        ),
    )


def _gap(curves: Curves) -> float | None:
    train, val = curves.columns.get("train_accuracy", ()), curves.columns.get("val_accuracy", ())
    return train[-1] - val[-1] if train and val and math.isfinite(train[-1]) else None


def _smooth(values: Sequence[float]) -> list[float]:
    return [sum(values[i : i + 3]) / 3 for i in range(len(values) - 2)]
