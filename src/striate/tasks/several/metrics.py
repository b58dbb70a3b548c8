"""The metrics of several targets: their own, and the mean of their errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from striate.errors import one_line
from striate.statistics.calibration import Temperature
from striate.statistics.estimate import Estimate, plain
from striate.tasks.assessment import Slice, SplitMetrics, cut_text, slice_lines
from striate.tasks.metric import Metric

ERROR = Metric("error", "mean error", higher_is_better=False)
METRICS = (ERROR,)


@dataclass(frozen=True)
class SeveralMetrics:
    """Everything about one split with several targets."""

    n: int
    """Number of samples."""
    metrics: Mapping[str, Estimate]
    """`error`, the mean over the targets."""
    targets: Mapping[str, SplitMetrics]
    """The metrics of each target, by its name."""
    headlines: Mapping[str, str]
    """The headline metric of each target in words, by its name."""
    slices: tuple[Slice, ...]
    """Parts of the data."""
    left_out: tuple[str, ...] = ()
    """What was not computed, a sentence each."""

    def to_json(self) -> dict[str, Any]:
        """The metrics as one JSON object, those of each target under `targets`."""
        return {
            "n": self.n,
            "metrics": plain(self.metrics),
            "targets": {name: figures.to_json() for name, figures in self.targets.items()},
            "headlines": dict(self.headlines),
            "slices": plain(self.slices),
            "left_out": list(self.left_out),
        }

    def lines(self, temperature: Temperature | None) -> list[list[str]]:
        """The lines of each target under its name, and slices."""
        del temperature
        found = []
        for name, figures in self.targets.items():
            own = [part for part in figures.lines(None) if part]
            head = [cut_text(f"{one_line(name)}: {self.headlines[name]}", 80)]
            found += [head, *own]
        return [*found, slice_lines(self.slices, ERROR)]
