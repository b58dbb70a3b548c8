"""What the signal through a fresh network says about whether it can learn."""

from __future__ import annotations

import math
from collections.abc import Sequence

from striate.account.signal.trace import SATURATED, SignalRow
from striate.records import Finding

MOST_SATURATED = 0.5
"""Share of a layer's outputs: where more than half are saturated, the gradient loses most of its strength."""
MOST_DEAD = 0.75
"""Share of a layer's units. Deep below many ReLU layers all samples look alike, and about half of the units are off for
all of them at a sound start; three quarters are not by chance."""
RANGE = 1000.0
"""Inputs have a standard deviation of 1. Layers whose signals or gradients differ by more than this factor need
learning rates that differ as much: no single one fits."""


def signal_findings(rows: Sequence[SignalRow], *, steps_follow_gradients: bool = True) -> tuple[Finding, ...]:
    """At most one finding each of saturation, dead units and a signal that vanishes or explodes, each a warning that
    names the first layer concerned; nothing for a sound start. `rows`: of the network before its first step.
    `steps_follow_gradients`: whether weights are moved the further the stronger their gradient is; where they are not,
    gradients of layers may differ by any factor."""
    found = (
        _saturated(rows),
        _dead(rows),
        _exploding(rows, steps_follow_gradients) or _vanishing(rows, steps_follow_gradients),
    )
    return tuple(finding for finding in found if finding is not None)


def _saturated(rows: Sequence[SignalRow]) -> Finding | None:
    bad = [row for row in rows if row.saturated is not None and row.saturated > MOST_SATURATED]
    if not bad:
        return None
    share = bad[0].saturated or 0.0
    return Finding(
        "model.saturated",
        "warning",
        _where(bad),
        f"{share:.0%} of the outputs of {bad[0].kind} are saturated before the first step",
        f"{MOST_SATURATED:.0%} of the outputs beyond {SATURATED} of the limit",
        "Their slope is nearly zero, so the layers before get almost no gradient.",
        _remedy("glorot-normal", "normalization before it (bn)"),
    )


def _dead(rows: Sequence[SignalRow]) -> Finding | None:
    bad = [row for row in rows if row.dead is not None and row.dead > MOST_DEAD]
    if not bad:
        return None
    return Finding(
        "model.dead-units",
        "warning",
        _where(bad),
        f"{bad[0].dead or 0.0:.0%} of the units are zero for every sample before the first step",
        f"{MOST_DEAD:.0%}",
        "A unit that is always off gets no gradient and never learns.",
        _remedy("he-normal", "biases of zero, leaky instead of relu"),
    )


def _exploding(rows: Sequence[SignalRow], compare: bool) -> Finding | None:
    hidden = _hidden(rows)
    bad = [row for row in hidden if not math.isfinite(row.std) or row.std > RANGE]
    if bad:
        measured = f"a standard deviation of {bad[0].std:.2g} before the first step"
        return _strength("exploding", bad, measured, f"{RANGE:g}")
    first, last, other = _ends(hidden)
    if compare and not first <= RANGE * last:
        measured = f"a gradient {first / last:.2g} times that of {other} before the first step"
        return _strength("exploding", hidden[:1], measured, f"{RANGE:g} times")
    return None


def _vanishing(rows: Sequence[SignalRow], compare: bool) -> Finding | None:
    hidden = _hidden(rows)
    bad = [row for row in hidden if row.std < 1 / RANGE]
    if bad:
        measured = f"a standard deviation of {bad[0].std:.2g} before the first step"
        return _strength("vanishing", bad, measured, f"{1 / RANGE:g}")
    first, last, other = _ends(hidden)
    if compare and first < last / RANGE:
        measured = f"a gradient {first / last:.2g} times that of {other} before the first step"
        return _strength("vanishing", hidden[:1], measured, f"{1 / RANGE:g} times")
    return None


def _strength(what: str, bad: Sequence[SignalRow], measured: str, threshold: str) -> Finding:
    return Finding(
        f"model.{what}-gradient",
        "warning",
        _where(bad),
        measured,
        threshold,
        "No single learning rate fits layers this different; the weakest hardly learn.",
        _remedy("he-normal", "normalization (bn), residual blocks (res[ … ])"),
    )


def _hidden(rows: Sequence[SignalRow]) -> list[SignalRow]:
    """Layers with weights but for the last one, whose small outputs at first are meant, and sums."""
    weighted = [row for row in rows if row.kind == "weights"]
    return [row for row in rows if row.kind == "sum" or (row.kind == "weights" and row is not weighted[-1])]


def _ends(hidden: Sequence[SignalRow]) -> tuple[float, float, str]:
    """Norm of the gradient at the first and at the last hidden layer, and the latter's name; equal where there are not
    two. Layers without any are passed over: a branch whose last scale begins at zero gets none in the first step."""
    known = [(row.gradient_norm, row.name) for row in hidden if row.gradient_norm]
    if len(known) < 2 or hidden[0].gradient_norm is None:
        return 1.0, 1.0, ""
    return hidden[0].gradient_norm, known[-1][0] or 0.0, known[-1][1]


def _where(bad: Sequence[SignalRow]) -> str:
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return f"{bad[0].name}{more}"


def _remedy(way: str, otherwise: str) -> str:
    return f"Layer strings: --model.init auto. Your own networks: --model.init {way}, {otherwise}."
