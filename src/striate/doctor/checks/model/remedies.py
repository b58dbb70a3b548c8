"""What a change of the network, tried on a double, gives."""

from __future__ import annotations

from dataclasses import dataclass

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change, Trial

BETTER = 1.25
"""So many times smaller the loss must be: trials of some dozen steps differ by a tenth by chance."""


@dataclass(frozen=True)
class Tried:
    """What came of a remedy. `better`: whether its loss is BETTER times smaller. `text`: the two losses."""

    better: bool
    text: str
    trial: Trial

    def said(self, words: str) -> str:
        """`; with …, the loss after 160 steps is 0.41 instead of 1.62`, where that is better; else nothing."""
        return f"; {words}, {self.text}" if self.better else ""


def tried(evidence: Evidence, name: str, change: Change, times: float = BETTER) -> Tried | None:
    """Try a change for as many steps as the trial made; None where it cannot be tried or compared."""
    try:
        trial = evidence.variant(f"model {name}", change)
        own, other = evidence.progress, evidence.progress_of(trial)
    except NoEvidence:
        return None
    if other.steps < own.steps:
        return None
    text = f"the loss after {other.steps} steps is {other} instead of {own}"
    return Tried(other.beats(own, times), text, trial)


def said(remedy: Tried | None, words: str) -> str:
    """What to add to `measured`."""
    return "" if remedy is None else remedy.said(words)
