"""What a metric is: its key, its label, its unit, and whether higher is better."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from striate.wording import number, percent


@dataclass(frozen=True)
class Metric:
    """One metric of a task, and how it is shown."""

    key: str
    """Its key in metrics.json."""
    label: str = ""
    """Its name in tables and sentences; empty: the key, with spaces."""
    unit: Literal["share"] | str = ""
    """`share` for values of 0 to 1, which are shown in percent; else the text that follows the number."""
    higher_is_better: bool = True
    """Whether a higher value is better."""
    brief: bool = True
    """Whether the one line of a split shows it."""
    above_classes: int = 0
    """The metric is left out for this number of classes or fewer; 0: never."""
    interval_of: str = ""
    """What the interval after the value belongs to, where it is not the value itself."""

    def tells(self, classes: int) -> bool:
        """Whether the metric is shown for this number of classes; 0 for none."""
        return not 0 < classes <= self.above_classes

    @property
    def name(self) -> str:
        """The label, or the key in words."""
        return self.label or self.key.replace("_", " ")

    @property
    def is_share(self) -> bool:
        """Whether it is a share of 0 to 1."""
        return self.unit == "share"

    @property
    def lead(self) -> tuple[float, str]:
        """The factor by which a difference of two values is shown, and its unit: shares differ by points."""
        return (100, " points") if self.is_share else (1, f" {self.unit}" if self.unit else "")

    def text(self, mean: float | None, std: float | None = None) -> str:
        """`96.40 ± 2.90 %`, or `3.412 ± 0.51`; without `std` the mean alone; a dash where `mean` is None."""
        if mean is None:
            return "–"
        if self.is_share:
            return percent(mean, 2) if std is None else f"{100 * mean:.2f} ± {percent(std, 2)}"
        after = f" {self.unit}" if self.unit else ""
        if std is None:
            return f"{number(mean)}{after}"
        return f"{number(mean)} ± {f'{std:#.2g}' if 0 < std < 9.95 else number(std, 2)}{after}"


LOSS = Metric("loss", "loss", higher_is_better=False)
SILENT_UNITS = Metric("hidden_sparsity", "silent units", "share")


def one_view(metric: Metric) -> Metric:
    """The same metric without test-time augmentation."""
    return replace(metric, key=f"{metric.key}_one_view", label="one view", brief=False)


def shown_metrics(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """The metrics that a table of a task may show, in order: the headline, also without test-time augmentation, the
    others, the loss."""
    first, *others = metrics
    return tuple(dict.fromkeys((first, one_view(first), *others, LOSS, SILENT_UNITS)))


def metric_of(metrics: Iterable[Metric], key: str) -> Metric:
    """The metric `key` among those of a task; for a key that the task does not list, one made from the key."""
    known = {metric.key: metric for metric in (LOSS, SILENT_UNITS, *metrics)}
    return known.get(key, Metric(key))
