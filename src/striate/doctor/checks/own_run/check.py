"""The record of a check of a script's own run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from striate.doctor.evidence.own_run import OwnRun
from striate.doctor.finding_words import as_sentence
from striate.records import Finding, Severity


@dataclass(frozen=True)
class OwnRunCheck:
    """A check of a script's own run. All fields but `find` become those of its finding."""

    code: str
    severity: Severity
    threshold: str
    why: str
    remedy: str
    find: Callable[[OwnRun], Iterator[tuple[str, str]]]
    """Yields, for each fault, where it is and what was measured."""

    def run(self, own_run: OwnRun) -> Finding | None:
        """The first finding; None where there is none."""
        for where, measured in self.find(own_run):
            remedy = as_sentence(self.remedy)
            return Finding(self.code, self.severity, where, measured, self.threshold, self.why, remedy)
        return None
