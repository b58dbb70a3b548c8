"""Signal and gradient by layer, where a run recorded them: before its first step and after its last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from striate.account.signal.trace import SignalRow, signal_from_json, signal_to_json
from striate.errors import RunError, pasted
from striate.runs.directory import RunDirectory
from striate.runs.files import read_dispensable


@dataclass(frozen=True)
class Statistics:
    """Rows of `striate.account.signal` at the start, and at the end of a run that is finished."""

    start: tuple[SignalRow, ...]
    end: tuple[SignalRow, ...]

    @property
    def words(self) -> str:
        """Where the signal is weakest, and how many units have died."""
        rows = self.end or self.start
        when = "at the end" if self.end else "before the first step"
        weak = min(rows, key=lambda row: row.std)
        said = f"{len(rows)} layers, {when}: the signal is weakest in {weak.name}, standard deviation {weak.std:.3g}"
        worst = max(rows, key=lambda row: row.dead or 0)
        return f"{said}; {worst.name} has the most dead units, {worst.dead:.0%}" if worst.dead else said

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {"start": signal_to_json(self.start), "end": signal_to_json(self.end)}


def read_statistics(run: RunDirectory) -> Statistics:
    """What the run recorded. RunError where it has recorded nothing, or the file is damaged."""
    content = read_dispensable(run.signal)
    try:
        start, end = (signal_from_json(content.get(when, [])) for when in ("start", "end"))
    except (AttributeError, KeyError, TypeError):
        start, end = (), ()
    if not start and not end:
        got = "no record of signals (signal.json)"
        raise RunError(str(run.path), got, "a run of this version", f"striate train --config {pasted(run.config)}")
    return Statistics(start, end)
