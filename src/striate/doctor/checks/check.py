"""What a check is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding, Severity


@dataclass(frozen=True)
class Check:
    """One question to the evidence, and what it may find."""

    codes: tuple[str, ...]
    """What it may find."""
    run: Callable[[Evidence], Iterable[Finding]]
    """May raise NoEvidence, which skips the check."""
    threshold: str = ""
    """From which measure on it speaks, and why there; empty where each of its rules says that of itself."""
    of_source: bool = False
    """Whether it reads the user's code; asked only where a script was run."""
    of_rewards: bool = False
    """Whether it looks at learning from rewards; not asked, and not missed, of other trainings."""
    quick: bool = True
    """Whether it needs no trials beside the one that all share, but where that one gives it reason to."""
    explains: str | Mapping[str, str] = ""
    """The codes that follow from what it finds, divided by blanks: `model.collapsed fit.*`; by code of its own where it
    has several. Such findings are listed under this one."""

    def finding(
        self, *, severity: Severity, where: str, measured: str, why: str, remedy: str, code: str = "", limit: str = ""
    ) -> Finding:
        """What it says by its threshold, or by the `limit` of one of its rules; `code`: which of its codes, where it is
        not the first."""
        return Finding(code or self.codes[0], severity, where, measured, limit or self.threshold, why, remedy)

    def explained_by(self, code: str) -> tuple[str, ...]:
        """The codes that follow from one of its own."""
        return tuple((self.explains if isinstance(self.explains, str) else self.explains[code]).split())
