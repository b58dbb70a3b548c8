"""The robustness of predictions against changes of images: a plain record, its sentences, and its text for a terminal
of 80 columns; without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from striate.errors import one_line
from striate.records import Interval
from striate.tasks.metric import Metric
from striate.wording import filled, formatted, percent, several


@dataclass(frozen=True)
class Level:
    """How predictions hold at one strength of a change. Intervals are at 95 %, and None for few samples."""

    strength: float
    """Strength of the change, in the unit of the curve."""
    value: float
    """The headline metric."""
    interval: Interval | None
    """Its interval."""
    unchanged: float | None = None
    """Share of the predictions that are the same as for the original image; None where that has no meaning."""
    unchanged_interval: Interval | None = None
    """Its interval."""

    def to_json(self, key: str) -> dict[str, Any]:
        """Plain values, the metric under `key`, intervals as `[low, high]`."""
        return {
            "strength": self.strength,
            key: self.value,
            "interval": _ends(self.interval),
            "unchanged": self.unchanged,
            "unchanged_interval": _ends(self.unchanged_interval),
        }


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


@dataclass(frozen=True)
class Curve:
    """The metric against the strength of one kind of change."""

    name: str
    """Name of the kind."""
    unit: str
    """What follows a strength in words."""
    what: str
    """What the change does, as a sentence."""
    identity: float | None
    """The strength that changes nothing; None where there is none."""
    levels: tuple[Level, ...]
    """The metric at each strength."""
    higher_is_better: bool = True
    """Whether a higher value of the metric is better."""

    @property
    def mean(self) -> float:
        """Mean of the metric over the strengths."""
        return sum(level.value for level in self.levels) / len(self.levels)

    @property
    def worst(self) -> Level:
        """The strength at which the metric is worst."""
        sign = 1 if self.higher_is_better else -1
        return min(self.levels, key=lambda level: sign * level.value)

    def to_json(self, key: str) -> dict[str, Any]:
        """Plain values, the metric under `key`."""
        levels = [level.to_json(key) for level in self.levels]
        return {
            "name": self.name, "unit": self.unit, "what": self.what, "identity": self.identity,
            f"mean_{key}": self.mean, "levels": levels,
        }  # fmt: skip


@dataclass(frozen=True)
class Robustness:
    """How a network's predictions hold when images are changed."""

    data: str
    """Name of the data set."""
    split: str
    """Name of the split."""
    n: int
    """Number of images that are measured."""
    of: int
    """Number of images of the split."""
    seed: int
    """All randomness follows from it, the kind of change and the sample's id."""
    classes: int
    """Number of classes."""
    value: float
    """The headline metric of the original images."""
    interval: Interval | None
    """Its 95 % interval; None for few samples."""
    curves: tuple[Curve, ...]
    """A curve for each kind of change."""
    metric: Metric
    """The headline metric."""
    left_out: str = ""
    """Which kinds were not measured, and why, as a sentence; empty where all were."""

    @property
    def is_accuracy(self) -> bool:
        """Whether the metric is the share of predictions that are right."""
        return self.metric.key == "accuracy"

    @property
    def worst(self) -> Curve:
        """The kind that worsens the metric most, on average over its strengths."""
        return max(self.curves, key=self.cost)

    def cost(self, curve: Curve) -> float:
        """By how much the metric is worse than that of the original images, on average over the strengths."""
        lost = self.value - curve.mean
        return lost if self.metric.higher_is_better else -lost

    @property
    def summary(self) -> str:
        """Sentences: which kind costs most, which least, and how many predictions stay the same after a shift."""

        return summarize(self)

    def to_json(self) -> dict[str, Any]:
        """The content of robustness.json."""
        key = "accuracy" if self.is_accuracy else "value"
        return {
            "data": self.data,
            "split": self.split,
            "n": self.n,
            "of": self.of,
            "seed": self.seed,
            "classes": self.classes,
            **({} if self.is_accuracy else {"metric": self.metric.key, "left_out": self.left_out}),
            key: self.value,
            "interval": _ends(self.interval),
            "worst": self.worst.name,
            "summary": self.summary,
            "curves": [curve.to_json(key) for curve in self.curves],
        }

    def __str__(self) -> str:

        return render(self)


_WIDTH = 80
_LABEL = 27


def strength_text(strength: float, unit: str) -> str:
    """`30°`, `2×`, `4 pixels`, `quality 30`, `−2 stops`."""
    number = formatted(strength, "g")
    if unit == "quality":
        return f"quality {number}"
    unit = {"pixels": "pixel", "fragments": "fragment"}.get(unit, unit) if strength == 1 else unit
    return f"{number}{unit}" if unit[0] in "°×" else f"{number} {unit}"


def summarize(found: Robustness) -> str:
    """Which kind costs most, which least, and how many predictions stay the same after a shift."""
    worst, least = found.worst, min(found.curves, key=found.cost)
    low = worst.worst
    doubt = f", not significant with {several(found.n, 'image')}" if _overlaps(low.interval, found) else ""
    unit = found.metric.lead[1]
    right = " right" if found.is_accuracy else ""
    sentences = [
        f"Of the changes, {worst.name} costs the most: {_cost(found, worst)}{unit} on average over"
        f" its strengths, from {_with_unit(found, found.value)}{right} to {_with_unit(found, low.value)} at"
        f" {strength_text(low.strength, worst.unit)}{doubt}."
    ]
    if least is not worst:
        sentences.append(f"{least.name[0].upper()}{least.name[1:]} costs least ({_cost(found, least)}).")
    shift = next((curve for curve in found.curves if curve.name == "shift"), None)
    if shift is not None:
        ends = [shift.levels[0], shift.levels[-1]] if len(shift.levels) > 1 else [shift.levels[0]]
        parts = " and ".join(
            f"{percent(e.unchanged)} after {strength_text(e.strength, 'pixels')}"
            for e in ends
            if e.unchanged is not None
        )
        if parts:
            sentences.append(f"Of the predictions, {parts} of shift are unchanged.")
    return " ".join(sentences)


def _overlaps(interval: Interval | None, found: Robustness) -> bool:
    """Whether the interval of the worst strength overlaps that of the original images."""
    if interval is None or found.interval is None:
        return False
    one, two = (interval, found.interval) if found.metric.higher_is_better else (found.interval, interval)
    return one.high >= two.low


def render(found: Robustness) -> str:
    """Two lines for each kind: strengths, and the metric at each; then the summary."""
    count = (
        several(found.n, "image")
        if found.n == found.of
        else f"{found.n:,} of {several(found.of, 'image')}, evenly spaced"
    )
    title = f"{one_line(found.data)}, {found.split} split: {count}; without changes, "
    value = _with_unit(found, found.value)
    title += f"{value} are right" if found.is_accuracy else f"the {found.metric.name} is {value}"
    if found.interval is not None:
        title += f" (95 %: {_number(found, found.interval.low)} to {_number(found, found.interval.high)})"
    lines = [filled(f"{title}.", _WIDTH), ""]
    for curve in found.curves:
        lines += _curve_lines(found, curve)
    metric = found.metric
    head = "Accuracy" if found.is_accuracy else f"{metric.name[0].upper()}{metric.name[1:]}"
    note = f"{head}{' in percent' if metric.is_share else ''}{_spans(found)}"
    note += " Averages depend on the strengths measured."
    after = [found.summary, note, *([found.left_out] if found.left_out else [])]
    return "\n".join([*lines, "", *(filled(text, _WIDTH) for text in after)])


def _spans(found: Robustness) -> str:
    """The width of the intervals, as the end of a sentence."""
    spans = [level.interval for curve in found.curves for level in curve.levels if level.interval is not None]
    if not spans:
        return "; too few images for intervals."
    scale, unit = found.metric.lead
    widest = max(scale * (span.high - span.low) / 2 for span in spans)
    size = f"{widest:.1f}" if found.metric.is_share else f"{widest:.3g}"
    method = "Wilson" if found.is_accuracy else "bootstrap"
    return f"; 95 % intervals ({method}) reach at most {size}{unit} either way."


def _curve_lines(found: Robustness, curve: Curve) -> list[str]:
    def row(label: str, cells: list[str]) -> str:
        return f"{label:<{_LABEL}}" + "".join(f"{cell:>6}" for cell in cells)

    head = row(f"{curve.name}, {curve.unit}", [formatted(v.strength, "g") for v in curve.levels])
    label = "accuracy" if found.is_accuracy else found.metric.name
    lines = [head, row(f"  {label[: _LABEL - 3]}", [_number(found, v.value) for v in curve.levels])]
    shares = [f"{100 * v.unchanged:.1f}" for v in curve.levels if v.unchanged is not None]
    if curve.name == "shift" and shares:
        lines.append(row("  prediction unchanged" if found.is_accuracy else "  % unchanged", shares))
    return lines


def _number(found: Robustness, value: float) -> str:
    """The value as a table shows it, in at most five characters."""
    return formatted(100 * value, ".1f") if found.metric.is_share else formatted(value, ".3g")


def _with_unit(found: Robustness, value: float) -> str:
    if found.metric.is_share:
        return f"{_number(found, value)} %"
    return f"{_number(found, value)} {found.metric.unit}".rstrip()


def _cost(found: Robustness, curve: Curve) -> str:
    return _number(found, found.cost(curve))
