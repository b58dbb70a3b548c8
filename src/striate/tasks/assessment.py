"""The assessment of the predictions for a split, as in evaluation.json: plain frozen values, without torch. Its keys
are documented in docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rich.cells import cell_len, set_cell_size

from striate.errors import one_line
from striate.statistics.calibration import Calibration, Temperature
from striate.statistics.estimate import Estimate, as_object
from striate.tasks.metric import Metric
from striate.wording import filled, number, percent

_SLICES = 8
_COLUMNS = 80


@dataclass(frozen=True)
class Slice:
    """The samples of a split that have the same value of one property, compared with all others."""

    by: str
    """The property: `class`, `brightness`, `size`, or a column of the manifest."""
    name: str
    """Its value."""
    n: int
    """Number of samples."""
    value: Estimate
    """Their headline metric."""
    p_value: float
    """The p-value of the test against all other samples."""
    differs: bool
    """Whether they differ significantly from all others, corrected for the number of slices."""


class SplitMetrics(Protocol):
    """The assessment of one split.

    `n`: number of samples; `metrics`: over all samples, by name; `slices`: parts of the data; `left_out`: what
    was not computed, a sentence each.
    """

    @property
    def n(self) -> int: ...
    @property
    def metrics(self) -> Mapping[str, Estimate]: ...
    @property
    def slices(self) -> tuple[Slice, ...]: ...
    @property
    def left_out(self) -> tuple[str, ...]: ...

    def lines(self, temperature: Temperature | None) -> list[list[str]]:
        """Groups of lines for a terminal of 80 columns."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The metrics as one JSON object."""
        ...


class SplitRecord:
    """Metrics of one split whose fields are the keys of their JSON object."""

    def to_json(self) -> dict[str, Any]:
        """The metrics as one JSON object."""
        return as_object(self)


@dataclass(frozen=True)
class PlainMetrics:
    """The metrics that every task has: over all samples, and of parts of the data."""

    metric: Metric
    n: int
    metrics: Mapping[str, Estimate]
    slices: tuple[Slice, ...]
    left_out: tuple[str, ...] = ()

    def lines(self, temperature: Temperature | None) -> list[list[str]]:
        """The slices that differ from all other samples."""
        del temperature
        return [slice_lines(self.slices, self.metric)]

    def to_json(self) -> dict[str, Any]:
        """The metrics as one JSON object, with the key of the metric."""
        return as_object(self) | {"metric": self.metric.key}


@dataclass(frozen=True)
class Gap:
    """By how much the network is better on its training split than on validation."""

    metric: str
    """Key of the metric."""
    train: Estimate
    """The metric on the training split."""
    n_train: int
    """Number of training samples."""
    val: Estimate
    """The metric on the validation split."""
    n_val: int
    """Number of validation samples."""
    difference: Estimate
    """Their difference, positive in favor of training."""
    sentence: str
    """All of this in words."""


@dataclass(frozen=True)
class Assessment:
    """The content of evaluation.json: the splits `val` and `test`, the temperature fitted on `val`, and the gap."""

    task: str
    data: str
    classes: tuple[str, ...]
    temperature: Temperature | None
    gap: Gap | None
    splits: Mapping[str, SplitMetrics]

    def to_json(self) -> dict[str, Any]:
        """The document as one JSON object."""
        return as_object(self) | {"splits": {name: figures.to_json() for name, figures in self.splits.items()}}


def slice_lines(slices: Sequence[Slice], metric: Metric) -> list[str]:
    """The slices that differ from all other samples, the smallest p-values first."""
    differing = sorted((entry for entry in slices if entry.differs), key=lambda entry: entry.p_value)
    if not differing:
        return []
    share, width = metric.is_share, max(8, cell_len(metric.name))
    room = 46 - width
    lines = [f"  {'differ from all others':<{room}}{'n':>8}  {metric.name:>{width}}   95 % interval"]
    for entry in differing[:_SLICES]:
        value = entry.value.value
        text = "–" if value is None else percent(value, 2) if share else number(value)
        span = span_text(entry.value, 100, ".2f") if share else span_text(entry.value, 1)
        lines.append(f"  {fit_text(f'{entry.by} {entry.name}', room)}{entry.n:>8,}  {text:>{width}}   {span}")
    rest = len(differing) - _SLICES
    return lines + ([f"  … and {rest:,} more with a larger p-value"] if rest > 0 else [])


def gap_lines(gap: Mapping[str, Any] | None) -> list[str]:
    """The sentence of a gap: the metric, and below it the conclusion."""
    if gap is None:
        return []
    start, _, judged = one_line(str(gap.get("sentence", ""))).partition(": ")
    return [f"  {cut_text(start, 76)}:", *(f"    {line}" for line in filled(judged, 76).split("\n"))] if judged else []


def calibration_lines(raw: Calibration, after: Calibration | None, temperature: Temperature | None) -> list[str]:
    """The calibration before (`raw`) and after a temperature."""
    low, high = raw.ece_by_chance
    lines = [
        f"  calibration: ECE {raw.ece:.4f} (a perfectly calibrated network: {low:.4f} to {high:.4f})",
        f"    {_verdict(raw)}",
    ]
    if temperature is not None and after is not None:
        value, ends = temperature.value, temperature.interval
        fitted = f"fitted on {temperature.fitted_on} (n = {temperature.n:,})"
        best, worst = after.ece_by_chance
        lines += [
            f"    a temperature of {value:.3g} ({ends.low:.3g} to {ends.high:.3g}), {fitted},",
            f"    would change ECE {raw.ece:.4f} → {after.ece:.4f} (perfectly calibrated: {best:.4f} to {worst:.4f})",
            f"    and log loss {raw.nll:.4f} → {after.nll:.4f}",
        ]
        if temperature.few:
            lines += [f"    {part}" for part in filled(f"not reliable: {temperature.few}", 76).split("\n")]
        if after.nll >= raw.nll:
            lines.append("    this does not help: leave the probabilities as they are")
    return lines


def _verdict(calibration: Calibration) -> str:
    if calibration.ece <= calibration.ece_by_chance[1]:
        return "no miscalibration beyond chance"
    if calibration.over_and_under is not None:
        over, under = calibration.over_and_under
        return f"the network is overconfident around {percent(over, 0)}, underconfident around {percent(under, 0)}"
    points = f"{abs(100 * calibration.overconfidence):.1f} points on average"
    return f"the network is {'overconfident' if calibration.overconfidence > 0 else 'underconfident'} by {points}"


def span_text(figure: Estimate, scale: float, digits: str | int = 4) -> str:
    """`95.10 – 97.30 %`; a dash where there is no interval. `digits`: a format, or those of `number`."""
    if figure.interval is None:
        return "–"
    ends = (scale * end for end in (figure.interval.low, figure.interval.high))
    low, high = (number(end, digits) if isinstance(digits, int) else f"{end:{digits}}" for end in ends)
    return f"{low} – {high}" + (" %" if scale == 100 else "")


def cut_text(text: str, width: int) -> str:
    """The text, cut with an ellipsis to at most `width` cells of a terminal."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def with_paths(line: str, *paths: str) -> list[str]:
    """The line with the paths of files behind it; where they do not fit, each path, uncut, on a line below it."""
    shown = [one_line(path) for path in paths]
    joined = f"{line} {' – '.join(shown)}"
    return [joined] if cell_len(joined) <= _COLUMNS else [line.rstrip(), *(f"      {path}" for path in shown)]


def fit_text(text: str, width: int) -> str:
    """The text, cut or padded to exactly `width` cells of a terminal."""
    return set_cell_size(cut_text(one_line(text), width), width)
