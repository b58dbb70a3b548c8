"""What a diagnosis comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from striate.records import Finding

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Picture:
    """A small picture beside a finding: `kind` says how it is drawn.

    `lines`: `series` are named curves over steps. `bars`: `series` has one, with a `labels` entry a value.
    `images`: `images` are (C, H, W) nested lists of 0 to 255, with `labels`.
    """

    kind: str
    title: str
    series: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    images: tuple[Any, ...] = ()


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What was found, most probable cause first; `follows` has, by code of a cause, what else was seen that follows.

    `skipped`: what was not looked at, and why. `looked_at`: the codes that were. `seconds`: how long it took.
    `pictures`: by code.
    """

    findings: tuple[Finding, ...]
    follows: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    looked_at: tuple[str, ...] = ()
    seconds: float = 0.0
    pictures: Mapping[str, Picture] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """Whether there is no error and no warning."""
        return all(finding.severity == "note" for finding in self.findings)

    def _repr_html_(self) -> str:
        from striate.doctor.notebook import notebook_diagnosis

        return notebook_diagnosis(self)

    def __str__(self) -> str:
        from striate.doctor.text import diagnosis_text

        return diagnosis_text(self)

    __repr__ = __str__

    def counts(self) -> dict[str, int]:
        """How many findings there are of each severity."""
        found = Counter[str](finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as a JSON object."""
        return {
            "healthy": self.healthy,
            **self.counts(),
            "findings": [
                finding.to_json() | {"follows": [other.to_json() for other in self.follows.get(finding.code, ())]}
                for finding in self.findings
            ],
            "skipped": dict(self.skipped),
            "looked_at": list(self.looked_at),
            "seconds": round(self.seconds, 3),
        }
