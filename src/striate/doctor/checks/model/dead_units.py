"""`model.dead-units`: are most units of a layer off, whatever the input?"""

from __future__ import annotations

from collections.abc import Iterator

from striate.account.signal.findings import MOST_DEAD
from striate.doctor.checks.check import Check
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.step_trace import LayerRecord
from striate.doctor.evidence.trial_variants import with_fresh_weights
from striate.doctor.evidence.units import hidden
from striate.records import Finding, Remedy
from striate.wording import listed_names, percent, python_name, several

_KINDS = ("relu", "relu6")
_FEWEST_UNITS, _FEWEST_SAMPLES = 4, 8
_LEARNED, _LITTLE = 0.6, 0.15


def _find_dead_units(evidence: Evidence) -> Iterator[Finding]:
    """Layers most of whose units are zero for all samples, at the start and at a later step."""
    trial = evidence.trial
    shares = [
        (first.name, _dead(first), _dead(later) if later is not None else None)
        for first, later in hidden(trial)
        if first.kind in _KINDS
    ]
    known = [(name, share, share if later is None else later) for name, share, later in shares if share is not None]
    bad = [(name, min(share, later)) for name, share, later in known if min(share, later) >= MOST_DEAD]
    if not bad:
        return
    own = evidence.progress
    fresh = with_fresh_weights(evidence, "he")
    helps = fresh is not None and fresh.beats(own, 1.3)
    severity = "error" if own.share < _LITTLE else ("warning" if helps or own.share < _LEARNED else "note")
    name, share = max(bad, key=lambda item: item[1])
    gain = (
        f"; with he-normal weights and biases of zero the loss after {several(fresh.steps, 'step')} is {fresh} "
        f"instead of {own}"
        if fresh is not None and helps
        else ""
    )
    yield Finding(
        code="model.dead-units",
        severity=severity,  # type: ignore[arg-type]
        where=listed_names([name for name, _ in bad]),
        measured=f"{percent(share, 0)} of the units of {python_name(name)} are zero for every sample, before the first "
        f"step and later{gain}",
        threshold=f"{percent(MOST_DEAD, 0)} of a layer's units",
        why="A unit that is always off passes nothing on, gets no gradient, and never learns.",
        remedy=Remedy(
            "Start with `nn.init.kaiming_normal_(layer.weight)` and `nn.init.zeros_(layer.bias)`, and subtract "
            "nothing before the ReLU; `nn.LeakyReLU(0.1)` keeps a slope where units are off.",
            settings={"model.init": "auto"},
            advice="leaky(0.1) instead of relu in a layer string",
        ),
    )
    evidence.pictures["model.dead-units"] = Picture(
        "bars", "Share of units that are off", {"dead": tuple(s for _, s, _ in known)}, tuple(n for n, _, _ in known)
    )


def _dead(layer: LayerRecord) -> float | None:
    units = layer.units
    if units is None or len(units) < _FEWEST_UNITS or units.shape[1] < _FEWEST_SAMPLES:
        return None
    return float((units <= 0).all(1).float().mean())


DEAD_UNITS = Check(
    codes=("model.dead-units",),
    run=_find_dead_units,
    quick=False,
    explains=(
        "model.collapsed model.redundant-filters model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
)
