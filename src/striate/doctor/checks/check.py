"""What a check is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding


@dataclass(frozen=True)
class Check:
    """`question`: what it asks. `codes`: what it may find. `threshold`: from which measure on it speaks, and why there.

    `run` may raise NoEvidence, which skips it. `quick`: whether it needs no trials beside the one that all share.
    """

    codes: tuple[str, ...]
    question: str
    threshold: str
    run: Callable[[Evidence], Iterable[Finding]]
    quick: bool = True
