"""Findings on whether an untrained network can learn, from signal and gradient in its layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from striate.account.signal.trace import SATURATED, SignalRow
from striate.records import Finding
from striate.wording import percent

MOST_SATURATED = 0.5
"""Share of a layer's outputs. If more than half are saturated, the gradient loses most of its strength."""
MOST_DEAD = 0.75
"""Share of a layer's units. After many ReLU layers the activations of all samples are nearly equal, and about half of
the units are zero for all samples even in a healthy network; three quarters do not happen by chance."""
RANGE = 1000.0
"""Inputs have a standard deviation of 1. Layers whose signals or gradients differ by more than this factor need
learning rates that differ by as much, so no single rate fits. In healthy networks of twenty layers gradients differ by
at most a factor of 30."""


def signal_findings(rows: Sequence[SignalRow], *, steps_follow_gradients: bool = True) -> tuple[Finding, ...]:
    """Warnings about saturation, dead units and a signal that vanishes or explodes: at most one of each, which names
    the first layer concerned; none for a healthy network.

    `rows` are those of the network before its first step. `steps_follow_gradients`: whether a larger gradient means a
    larger change of the weights; where it does not (Muon), gradients of layers may differ by any factor."""
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
        f"{percent(share, 0)} of the outputs of {bad[0].kind} are saturated before the first step",
        f"{percent(MOST_SATURATED, 0)} of the outputs beyond {SATURATED} of the limit",
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
        f"{percent(bad[0].dead or 0.0, 0)} of the units are zero for every sample before the first step",
        percent(MOST_DEAD, 0),
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
    """Sums, and layers with weights except for the last one, whose outputs are meant to be small at first."""
    weighted = [row for row in rows if row.kind == "weights"]
    return [row for row in rows if row.kind == "sum" or (row.kind == "weights" and row is not weighted[-1])]


def _ends(hidden: Sequence[SignalRow]) -> tuple[float, float, str]:
    """Norm of the gradient at the first and at the last hidden layer, and the latter's name; both norms are equal where
    there are fewer than two such layers. Layers without a gradient are skipped: a residual branch whose last scale is
    initialized with zero gets none in the first step."""
    known = [(row.gradient_norm, row.name) for row in hidden if row.gradient_norm]
    if len(known) < 2 or hidden[0].gradient_norm is None:
        return 1.0, 1.0, ""
    return hidden[0].gradient_norm, known[-1][0] or 0.0, known[-1][1]


def _where(bad: Sequence[SignalRow]) -> str:
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return f"{bad[0].name}{more}"


def _remedy(init: str, otherwise: str) -> str:
    return f"Layer strings: --model.init auto. Your own networks: --model.init {init}, {otherwise}."
