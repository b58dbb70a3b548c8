"""The result of `striate data check`."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate import notebook
from striate.data.audit.evidence import DataEvidence
from striate.data.audit.sample_finding import SampleFinding
from striate.records import SEVERITIES, Finding, severity_counts
from striate.wording import several


@dataclass(frozen=True)
class DataCheck:
    """The findings of a check of a data set."""

    evidence: DataEvidence
    """What the findings are computed from."""
    sample_findings: tuple[SampleFinding, ...]
    """The findings with their samples: errors first, then warnings, then notes."""
    quarantine: Path | None = None
    """The manifest without the defects that was written; None where none was."""
    sheet: Path | None = None
    """The picture of affected samples that was written; None where none was."""
    label_check: tuple[str, ...] = ()
    """Arguments of the command that looks for labels that are likely wrong; empty where this check did that."""

    @property
    def label_command(self) -> str:
        """The command that looks for labels that are likely wrong; empty where it was done, or cannot be."""
        listing = self.evidence.listing
        can = listing.has_one_class_each and len(listing.classes) > 1
        return shlex.join(["striate", *self.label_check]) if can and self.label_check else ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings alone."""
        return tuple(mark.finding for mark in self.sample_findings)

    @property
    def healthy(self) -> bool:
        """Whether there is no error and no warning."""
        return all(finding.severity == "note" for finding in self.findings)

    @property
    def inputs(self) -> str:
        """Medium and shape of the samples in words; the range of sizes where files have several."""
        listing, medium = self.evidence.listing, self.evidence.listing.medium
        if listing.inputs is not None:
            read = "" if listing.layout == "auto" else f", read as {listing.layout}"
            return medium.describe(listing.inputs.shape[1:]) + read
        return medium.described(tuple(self.evidence.scan.headers.values()))

    @property
    def sizes(self) -> dict[str, int]:
        """How many readable samples each split has."""
        counts = Counter(self.evidence.splits.values())
        return {name: counts[name] for name in ("train", "val", "test") if counts[name]}

    @property
    def left_out(self) -> frozenset[int]:
        """The samples that a quarantine manifest leaves out."""
        return frozenset().union(*(mark.leave_out for mark in self.sample_findings))

    @property
    def remedy(self) -> str:
        """The command that writes a manifest without the defects; empty where it would change nothing."""
        helps = self.left_out or any(mark.together for mark in self.sample_findings)
        command = self.evidence.quarantine if helps and self.quarantine is None else ()
        return shlex.join(["striate", *command]) if command else ""

    def _repr_html_(self) -> str:
        listing, sizes = self.evidence.listing, ", ".join(f"{n:,} {name}" for name, n in self.sizes.items())
        counts = self.counts()
        verdict = ", ".join(several(n, name) for name, n in counts.items())
        return notebook.page(
            f"{listing.name}: {several(len(listing), 'sample')} ({sizes})",
            notebook.line(verdict if any(counts.values()) else "nothing was found"),
            *(found._repr_html_() for found in self.findings),
            notebook.line(f"To leave out the affected samples: {self.remedy}") if self.remedy else "",
        )

    def __str__(self) -> str:
        listing, counts = self.evidence.listing, self.counts()
        sizes = ", ".join(f"{n:,} {name}" for name, n in self.sizes.items())
        found = ", ".join(several(n, name) for name, n in counts.items()) if any(counts.values()) else "nothing found"
        title = f"{listing.name}: {several(len(listing), 'sample')} ({sizes}); {self.inputs}; {found}"
        return "\n\n".join([title, *map(str, self.findings)])

    def counts(self) -> dict[str, int]:
        """How many findings there are of each severity."""
        return severity_counts(self.findings)

    def to_json(self) -> dict[str, Any]:
        """The check as a JSON object.

        `samples` has a row for each sample that a finding is about. Copies of each other, and frames of one series,
        have the same `group`."""
        listing = self.evidence.listing
        return {
            "data": listing.name,
            "source": listing.source,
            "count": len(listing),
            "inputs": self.inputs,
            "notes": list(listing.notes),
            "unreadable": len(self.evidence.unreadable),
            "splits": self.sizes,
            "given": self.evidence.given,
            "classes": list(listing.classes),
            **self.counts(),
            "findings": [finding.to_json() for finding in self.findings],
            "samples": list(self._rows()),
            "remedy": self.remedy,
            "quarantine": None if self.quarantine is None else str(self.quarantine),
            "sheet": None if self.sheet is None else str(self.sheet),
        }

    def _rows(self) -> Iterator[dict[str, Any]]:
        listing, splits = self.evidence.listing, self.evidence.splits
        for mark in self.sample_findings:
            for place, group in enumerate(mark.groups):
                for number in group:
                    yield {
                        "code": mark.finding.code,
                        "path": listing.paths[number],
                        "label": listing.labels[number],
                        "split": splits.get(number, "unreadable"),
                        "words": mark.words.get(number, ""),
                        "group": place,
                    }


def grave_first(marked: list[SampleFinding]) -> tuple[SampleFinding, ...]:
    """Errors, then warnings, then notes; each in the order in which they were found."""
    return tuple(sorted(marked, key=lambda mark: SEVERITIES.index(mark.finding.severity)))
