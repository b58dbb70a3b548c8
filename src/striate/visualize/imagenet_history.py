"""ImageNet's progress: the error of each year's best network, a bar each, and the error of a trained human."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from striate.models.catalog.history import HISTORY, ChallengeResult
from striate.visualize.canvas import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    SMALL,
    figure_of,
    heading,
    legend,
    main_title,
    name_axes,
    quiet_frame,
    save_figure,
)
from striate.wording import several

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = {"features": FAINT, "network": BLUE, "human": ORANGE}
_NUMBER = 2.5  # largest width in percent, with the space before it
_LEGEND = {"features": "hand-crafted features", "network": "convolutional networks", "human": "a trained human"}


def imagenet_history_figure(results: Sequence[ChallengeResult] = HISTORY) -> Figure:
    """A bar for each result, the first on top: top-5 error in percent; a line at the lowest error of a human.

    Winners of a year have full color, others are pale.
    """
    figure = figure_of(lambda axes: draw_imagenet_history(axes, results), 8.6, 0.34 * len(results) + 1.5)
    axes = figure.axes[0]
    title = main_title(figure, "ImageNet challenge: true class not among five predictions")
    figure.draw_without_rendering()  # to lay out the axes, which decides where the bars begin
    title.set(x=axes.get_position().x0, horizontalalignment="left")
    return figure


def draw_imagenet_history(axes: Axes, results: Sequence[ChallengeResult] = HISTORY) -> None:
    """The bars of `imagenet_history_figure` on one pair of axes."""
    from matplotlib.patches import Patch

    human = min((r.top5 for r in results if r.method == "human"), default=None)
    _draw_bars(axes, results, human)
    if human is not None:
        axes.axvline(human, color=ORANGE, linestyle="--", linewidth=1.4, zorder=3)
    quiet_frame(axes)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.12 * max(r.top5 for r in results))
    name_axes(axes, "top-5 error in percent, test set of the challenge")
    seen = [method for method in _COLORS if any(r.method == method for r in results)]
    patches = [Patch(color=_COLORS[method], label=_LEGEND[method]) for method in seen]
    legend(axes, handles=patches, loc="lower right")
    heading(axes, "winners in full color, others pale; trained on the given images only")


def save_imagenet_history(path: Path) -> Path:
    """Write the figure as a .png or .svg, by the suffix of `path`. Raises RunError where it cannot be written."""
    return save_figure(imagenet_history_figure(), path)


def _draw_bars(axes: Axes, results: Sequence[ChallengeResult], line: float | None) -> None:
    """The bars with their numbers to the right; numbers that the line would cross are right of the line."""
    for row, result in enumerate(results):
        pale = result.place not in (None, 1)
        axes.barh(row, result.top5, height=0.72, color=_COLORS[result.method], alpha=0.45 if pale else 1.0)
        end = line if line is not None and result.top5 < line < result.top5 + _NUMBER else result.top5
        axes.text(end + 0.25, row, f"{result.top5:g}", va="center", fontsize=SMALL, color=INK)
    axes.set_yticks(range(len(results)), [_label(result) for result in results], fontsize=SMALL, color=INK)
    axes.invert_yaxis()


def _label(result: ChallengeResult) -> str:
    depth = f", {several(result.depth, 'layer')}" if result.depth else ""
    team = "" if result.team in result.network else f" ({result.team})"
    return f"{result.network}{depth}{team}  {result.year}"
