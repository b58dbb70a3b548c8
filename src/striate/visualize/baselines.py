"""A network beside what it has to beat: a dot a method, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from striate.visualize.canvas import BLUE, FAINT, INK, SMALL, TEXT, VERMILION, main_title, new_figure, shorten

_LETTERS = 28
_TEXT_ROOM = 0.3


def baselines_figure(
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    *,
    metric: str,
    title: str,
    share: bool,
) -> Figure:
    """A row a method, the network first and in another color; `values` and `intervals` are those of `metric`.

    A `share` lies between 0 and 1 and is drawn in percent; other metrics start at 0.
    """
    figure = new_figure(6.6, 1.25 + 0.36 * len(names))
    draw_baselines(figure.subplots(), names, values, intervals, metric=metric, share=share)
    main_title(figure, title)
    return figure


def draw_baselines(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    *,
    metric: str,
    share: bool,
) -> None:
    """The rows of `baselines_figure` on one pair of axes."""
    high = 1.0 if share else 1.05 * max(values) or 1.0
    for row, (value, interval) in enumerate(zip(values, intervals, strict=True)):
        color = VERMILION if row == 0 else BLUE
        if interval is not None:
            axes.plot(interval, (row, row), color=color, linewidth=2.2, solid_capstyle="round", alpha=0.55)
        axes.plot(value, row, marker="D" if row == 0 else "o", color=color, markersize=7)
        text = f"{100 * value:.1f} %" if share else f"{value:.4g}"
        axes.text(high * 1.04, row, text, va="center", fontsize=TEXT, color=INK, clip_on=False)
    axes.axvline(values[0], color=FAINT, linestyle=":", linewidth=1.2, zorder=0)
    axes.set_yticks(range(len(names)), [shorten(name, _LETTERS) for name in names], fontsize=TEXT)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-0.02 * high if not share else 0, high * (1 + _TEXT_ROOM * 0.1))
    if share:
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, axis="x", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL)
    axes.tick_params(axis="y", length=0, labelsize=TEXT)
    whiskers = any(interval is not None for interval in intervals)
    axes.set_xlabel(f"{metric}{', with its 95 % interval' if whiskers else ''}", fontsize=TEXT)
