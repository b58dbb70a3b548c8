"""The result of a diagnosis, as a record, as text and in a notebook."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from striate import notebook
from striate.records import Finding, severity_counts
from striate.wording import filled, finding_text, listed, several

VERDICTS = {
    "healthy": "Healthy",
    "unhealthy": "Not healthy",
    "unknown": "Nothing found; whether it is healthy is not known",
}


@dataclass(frozen=True)
class Picture:
    """A small plot or images that illustrate a finding."""

    kind: str
    """`lines`, `bars` or `images`."""
    title: str
    series: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """`lines`: curves by name, over steps or samples. `bars`: one series."""
    labels: tuple[str, ...] = ()
    """`bars`: one for each value. `images`: one for each image."""
    images: tuple[Any, ...] = ()
    """(C, H, W) nested lists of 0 to 255."""


@dataclass(frozen=True)
class Learning:
    """Whether the trial learned anything."""

    shown: bool
    """Whether it did."""
    text: str
    """The evidence, in words."""


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """The findings, the most probable cause first."""

    findings: tuple[Finding, ...]
    follows: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    """By the code of a cause, the findings that it explains."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """By code, or by groups of codes in words, the reason why it was not checked."""
    looked_at: tuple[str, ...] = ()
    """Codes that were checked."""
    seconds: float = 0.0
    """Duration of the diagnosis."""
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    """A picture of a finding, by its code."""
    learning: Learning | None = None
    """Whether the network learned in the trial; None for a diagnosis of code alone, or by quick checks only."""

    @property
    def verdict(self) -> str:
        """`unhealthy` where there is an error or a warning. `healthy` where there is none, the trial showed that the
        network learns, and checks had the time that they need. Else `unknown`."""
        if any(finding.severity != "note" for finding in self.findings):
            return "unhealthy"
        learned = self.learning is not None and self.learning.shown
        return "healthy" if learned and not self._cut_short else "unknown"

    @property
    def left_out(self) -> tuple[str, ...]:
        """Codes that were not checked because the time ran out or the check failed."""
        return tuple(c for c, reason in self.skipped.items() if "seconds ran out" in reason or "failed" in reason)

    @property
    def _cut_short(self) -> bool:
        """Whether checks lacked time or failed, or more codes were skipped than checked."""
        return bool(self.left_out) or len(self.skipped) > len(self.looked_at)

    @property
    def healthy(self) -> bool:
        """Whether the verdict is `healthy`: no error and no warning, no check that lacked time or failed, and a trial
        that showed that the network learns."""
        return self.verdict == "healthy"

    def _repr_html_(self) -> str:
        return _notebook_page(self)

    def __str__(self) -> str:
        return diagnosis_text(self, min(shutil.get_terminal_size((100, 24)).columns, 100))

    __repr__ = __str__

    def counts(self) -> dict[str, int]:
        """How many findings there are of each severity."""
        return severity_counts(self.findings)

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as a JSON object."""
        return {
            "healthy": self.healthy,
            "verdict": self.verdict,
            "learning": None if self.learning is None else self.learning.text,
            **self.counts(),
            "findings": [
                finding.to_json() | {"follows": [other.to_json() for other in self.follows.get(finding.code, ())]}
                for finding in self.findings
            ],
            "skipped": dict(self.skipped),
            "left_out": list(self.left_out),
            "looked_at": list(self.looked_at),
            "seconds": round(self.seconds, 3),
        }


def diagnosis_text(diagnosis: Diagnosis, width: int = 100) -> str:
    """The findings with those that each explains, the verdict, and the codes that were not checked, in lines of at most
    `width` letters."""
    width = max(40, width)
    parts = []
    for finding in diagnosis.findings:
        parts.append(_finding(finding, width))
        follows = diagnosis.follows.get(finding.code, ())
        if follows:
            parts[-1] += "\n" + _indented(f"follows from it: {listed([other.code for other in follows])}", width)
    parts.append(_verdict(diagnosis, width))
    reasons: dict[str, list[str]] = {}
    for code, reason in diagnosis.skipped.items():
        reasons.setdefault(reason, []).append(code)
    if reasons:
        lines = [_indented(f"{', '.join(codes)}: {reason}", width) for reason, codes in reasons.items()]
        parts.append("not looked at:\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _finding(finding: Finding, width: int) -> str:
    place = [_indented(f"where: {finding.where}", width)] if finding.where else []
    return "\n".join([finding_text(finding, width), *place, _indented(f"limit: {finding.threshold}", width)])


def _indented(text: str, width: int) -> str:
    return "  " + filled(text, width - 2).replace("\n", "\n  ")


def _verdict(diagnosis: Diagnosis, width: int) -> str:
    return filled(verdict_text(diagnosis), width)


def verdict_text(diagnosis: Diagnosis) -> str:
    """The closing sentence: the numbers of findings and checks, what the trial showed, and the number of codes that
    were not checked."""
    counts = {name: number for name, number in diagnosis.counts().items() if number}
    found = listed([several(number, name) for name, number in counts.items()])
    took = f"{several(len(diagnosis.looked_at), 'check')} in {diagnosis.seconds:.1f} s"
    shown = f"; {diagnosis.learning.text}" if diagnosis.learning is not None else ""
    unseen = f"; not looked at: {several(len(diagnosis.skipped), 'check')}" if diagnosis.skipped else ""
    if diagnosis.left_out:
        unseen += f", {len(diagnosis.left_out)} of which ran out of time or failed"
    if diagnosis.verdict == "unhealthy":
        return f"{found}; {took}{unseen}."
    notes = f" ({found})" if found else ""
    if diagnosis.verdict == "healthy":
        return f"Healthy: no error and no warning{notes} in {took}{shown}{unseen}."
    return f"No error and no warning{notes} in {took}{shown}{unseen}. Whether it is healthy is not known."


def _notebook_page(diagnosis: Diagnosis) -> str:
    """The verdict, each finding with those that it explains, and the codes that were not checked, as HTML."""
    counts = ", ".join(several(count, severity) for severity, count in diagnosis.counts().items())
    found = (
        finding._repr_html_()
        + notebook.items(
            f"follows: {other.code}: {other.measured}" for other in diagnosis.follows.get(finding.code, ())
        )
        for finding in diagnosis.findings
    )
    skipped = diagnosis.skipped.items()
    return notebook.page(
        VERDICTS[diagnosis.verdict],
        notebook.line(f"{counts}; {several(len(diagnosis.looked_at), 'check')} in {diagnosis.seconds:.1f} s"),
        notebook.line("" if diagnosis.learning is None else diagnosis.learning.text),
        *found,
        notebook.items(f"not looked at: {code}: {reason}" for code, reason in skipped),
    )
