"""What rooms hand to each other: plain frozen records, without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from striate import notebook

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing noticed about data, a network or a run, with its measurement and its remedy.

    `code` is stable and dotted (`data.leak`); `measured` and `threshold` are text with units.
    """

    code: str
    severity: Severity
    where: str
    measured: str
    threshold: str
    why: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        return asdict(self)

    def _repr_html_(self) -> str:
        return notebook.finding(
            self.severity, f"{self.where}: {self.measured}.", self.why, remedy=self.remedy, code=self.code
        )

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.measured}. {self.why} {self.remedy}"


@dataclass(frozen=True)
class Interval:
    """A confidence interval `[low, high]` at `level` (0 to 1), and the `method` it was computed by."""

    low: float
    high: float
    level: float
    method: str
