"""Findings from the training curves of networks that learn without labels: Boltzmann machines and sparse codes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from striate.records import Finding, Remedy
from striate.wording import several

Columns = Mapping[str, tuple[float, ...]]

WORSE = 1.25
"""The reconstruction error at the end over its lowest."""
GAP_NATS = 10.0
"""Free energy of validation minus that of training samples: a validation sample is e¹⁰ times less probable."""
WIDENED = 1.5
"""That gap at the end over the gap after half of the epochs."""
OFF, ON = 5e-4, 0.9
"""Mean activity of hidden units; below and above, they carry no information about an image."""
_FEWEST = 3  # epochs


def unlabeled_findings(columns: Columns, rate: float | None) -> tuple[Finding, ...]:
    """At most one finding each about weights that grew too far, hidden units that are all on or all off, and memorized
    images. `columns`: those of metrics.csv; without a column of hidden activity there is no finding. `rate`: the
    learning rate, if known."""
    if "val_hidden_activity" not in columns:
        return ()
    found = (_diverged(columns, rate), _idle(columns, rate), _gap(columns))
    return tuple(finding for finding in found if finding is not None)


def _diverged(columns: Columns, rate: float | None) -> Finding | None:
    errors = columns.get("val_mse", ())
    if len(errors) < _FEWEST or not errors[-1] > WORSE * min(errors):
        return None
    epoch = errors.index(min(errors)) + 1
    return Finding(
        code="optim.reconstruction-grows",
        severity="warning",
        where="metrics.csv",
        measured=f"a mean squared error of {errors[-1]:.4g} at the end, {min(errors):.4g} in epoch {epoch}",
        threshold=f"{WORSE:g} times the lowest",
        why="Weights that change too fast grow until hidden units are on or off whatever the image is. The "
        "reconstruction error shows this first.",
        remedy=_lower(rate),
    )


def _idle(columns: Columns, rate: float | None) -> Finding | None:
    activity = columns["val_hidden_activity"]
    if not activity or not math.isfinite(activity[-1]) or OFF <= activity[-1] <= ON:
        return None
    state = "off" if activity[-1] < OFF else "on"
    return Finding(
        code="model.hidden-units-idle",
        severity="warning",
        where="metrics.csv",
        measured=f"hidden units are on with a mean probability of {activity[-1]:.2g}",
        threshold=f"{OFF:g} to {ON:g}",
        why=f"Units that are {state} for every image carry no information: the reconstruction is the same for all.",
        remedy=_lower(rate),
    )


def _gap(columns: Columns) -> Finding | None:
    train, val = columns.get("train_free_energy", ()), columns.get("val_free_energy", ())
    gaps = [b - a for a, b in zip(train, val, strict=False)]
    if len(gaps) < 2 * _FEWEST:
        return None
    middle, end = gaps[len(gaps) // 2 - 1], gaps[-1]
    if not (end > GAP_NATS and end > WIDENED * max(middle, 0.0)):
        return None
    return Finding(
        code="fit.free-energy-gap",
        severity="warning",
        where="metrics.csv",
        measured=f"the free energy of validation images is {end:.1f} nats above that of training images, {middle:.1f} "
        f"after half of the {several(len(gaps), 'epoch')}",
        threshold=f"{GAP_NATS:g} nats, and {WIDENED:g} times the gap after half of the epochs",
        why="Training images become probable at the cost of others: the network memorizes them. Only the difference "
        "is informative, since the partition function moves both.",
        remedy=Remedy(
            "Fewer epochs, more images, or fewer hidden units.",
            advice="fewer epochs, more images, or fewer hidden units",
        ),
    )


def _lower(rate: float | None) -> Remedy:
    if rate is None:
        return Remedy("Use a tenth of the learning rate.", advice="a tenth of the learning rate")
    return Remedy("Use a tenth of the learning rate.", settings={"optim.lr": float(f"{rate / 10:.2g}")})
