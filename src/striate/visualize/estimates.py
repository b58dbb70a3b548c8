"""Figures with their intervals, one under another: slices of the data, and the bias of a regression by range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from striate.visualize.canvas import BLUE, FAINT, SMALL, TEXT, VERMILION, quiet_frame, shorten

SHOWN = 24
"""So many slices are drawn; of more, first those that differ, then in their order."""
_LETTERS = 26


def draw_slices(axes: Axes, slices: Sequence[Mapping[str, Any]], overall: float, *, figure: str = "accuracy") -> None:
    """A point a slice with its 95 % interval; the dashed line is the figure over all samples.

    `slices` as in evaluation.json. Squares: differs from all other samples by more than chance.
    """
    order = sorted(range(len(slices)), key=lambda place: not slices[place]["differs"])[:SHOWN]
    shown = [slices[place] for place in sorted(order)]
    axes.axvline(overall, color=FAINT, linestyle="--", linewidth=1.2, label="all samples")
    for differs, color, marker, label in ((False, BLUE, "o", None), (True, VERMILION, "s", "differs from the rest")):
        places = [place for place, entry in enumerate(shown) if entry["differs"] == differs]
        _draw_points(axes, [shown[place]["figure"] for place in places], places, color, marker, label)
    names = [shorten(f"{entry['by']} {entry['name']}", _LETTERS) for entry in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=SMALL, parse_math=False)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    quiet_frame(axes)
    axes.set_xlabel(figure, fontsize=TEXT)
    axes.legend(fontsize=SMALL, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def draw_bias(axes: Axes, ranges: Sequence[Mapping[str, Any]], name: str = "") -> None:
    """Mean of predicted minus true in each range of true values, with its 95 % interval; at 0 neither too large nor too
    small. `ranges` as in evaluation.json, in the units of the data."""
    axes.axvline(0, color=FAINT, linestyle="--", linewidth=1.2)
    _draw_points(axes, [part["figures"]["bias"] for part in ranges], range(len(ranges)), BLUE, "o", None)
    labels = [f"{part['low']:.4g} to {part['high']:.4g}" for part in ranges]
    axes.set_yticks(range(len(ranges)), labels, fontsize=SMALL)
    axes.set_ylim(-0.6, len(ranges) - 0.4)
    quiet_frame(axes)
    axes.set_ylabel(f"true {shorten(name, _LETTERS)}".strip(), fontsize=TEXT, parse_math=False)
    axes.set_xlabel("bias: mean of predicted minus true", fontsize=TEXT)


def _draw_points(
    axes: Axes,
    figures: Sequence[Mapping[str, Any]],
    places: Sequence[int],
    color: str,
    marker: str,
    label: str | None,
) -> None:
    if not figures:
        return
    x = np.array([figure["value"] for figure in figures], np.float64)
    ends = np.array([figure["interval"] or (figure["value"],) * 2 for figure in figures], np.float64)
    axes.errorbar(
        x,
        list(places),
        xerr=np.abs(ends.T - x),
        color=color,
        marker=marker,
        linestyle="none",
        markersize=5,
        label=label,
    )
