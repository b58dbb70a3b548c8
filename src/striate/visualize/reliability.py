"""The reliability diagram: whether predictions with a confidence of 80 % are right in 80 of 100 cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from striate.visualize.canvas import BLUE, FAINT, VERMILION, legend, name_axes, quiet_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bins = Sequence[Mapping[str, Any]]
"""`bins` of `calibration` in evaluation.json: `low high n confidence accuracy`."""
_FEW = 10
_HISTOGRAM = 0.22  # of the height, for the bars that count predictions


def draw_reliability(axes: Axes, bins: Bins, calibrated: Bins = ()) -> None:
    """Accuracy against confidence, with 95 % intervals; on the dashed line both are equal.

    Gray bars at the foot: how many predictions each bin has. `calibrated`: bins of the same predictions with a
    temperature.
    """
    total = max((part["n"] for part in bins), default=0)
    for part in bins:
        height = _HISTOGRAM * part["n"] / max(1, total)
        axes.bar(part["low"], height, part["high"] - part["low"], align="edge", color=FAINT, alpha=0.25, linewidth=0)
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1.2, label="perfectly calibrated")
    _draw_points(axes, bins, "as predicted", BLUE, "o")
    if calibrated:
        _draw_points(axes, calibrated, "with the temperature", VERMILION, "s")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    quiet_frame(axes)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set_xticks(ticks, ["0", "25", "50", "75", "100 %"])
    axes.set_yticks(ticks, ["0", "25", "50", "75", "100 %"])
    name_axes(axes, "confidence: probability of the predicted class", "accuracy")
    legend(axes, loc="upper left")


def _draw_points(axes: Axes, bins: Bins, label: str, color: str, marker: str) -> None:
    """A point a bin; the line leaves out bins of so few predictions that it would only show chance."""
    filled = [part for part in bins if part["n"]]
    face = color if marker == "o" else "none"
    for part in filled:
        x, y = part["confidence"], part["accuracy"]["value"]
        low, high = part["accuracy"]["interval"]
        faint = 1.0 if part["n"] >= _FEW else 0.35
        axes.plot([x, x], [low, high], color=color, linewidth=0.9, alpha=faint)
        axes.plot(x, y, color=color, marker=marker, markersize=4.5, markerfacecolor=face, alpha=faint)
    line = [part for part in filled if part["n"] >= _FEW]
    x_line, y_line = ([part["confidence"] for part in line], [part["accuracy"]["value"] for part in line])
    axes.plot(
        x_line, y_line, color=color, marker=marker, markersize=4.5, markerfacecolor=face, linewidth=1.2, label=label
    )
