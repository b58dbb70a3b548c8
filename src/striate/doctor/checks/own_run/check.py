"""What a check of a script's own run is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from striate.doctor.evidence.own_run import OwnRun
from striate.records import Finding, Severity


@dataclass(frozen=True)
class OwnRunCheck:
    """A code, from which measure on it speaks, and what it says of what `look` gives: a place, and what was measured
    there."""

    code: str
    severity: Severity
    threshold: str
    why: str
    remedy: str
    look: Callable[[OwnRun], Iterator[tuple[str, str]]]

    def run(self, own_run: OwnRun) -> Finding | None:
        """The first that it finds."""
        for where, measured in self.look(own_run):
            return Finding(self.code, self.severity, where, measured, self.threshold, self.why, self.remedy)
        return None
