"""Signal and gradient in each layer, before the first step and after the last: the record of a run, and its figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.account.signal.trace import SignalRow, signal_from_json, signal_to_json
from striate.errors import RunError, pasted
from striate.runs.directory import RunDirectory
from striate.runs.files import read_optional_json
from striate.visualize.canvas import (
    BLUE,
    FAINT,
    GREEN,
    SMALL,
    VERMILION,
    heading,
    legend,
    main_title,
    name_axes,
    new_figure,
    quiet_frame,
    shorten,
    show_plain_numbers,
)
from striate.wording import percent, several

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLES: dict[str, dict[str, Any]] = {
    "layers with weights": {"color": BLUE, "linestyle": "-", "marker": "o"},
    "activations": {"color": VERMILION, "linestyle": "--", "marker": "s"},
    "residual sums": {"color": GREEN, "linestyle": ":", "marker": "^"},
}
QUANTITIES: dict[str, tuple[str, Callable[[SignalRow], float | None]]] = {
    "std": ("standard deviation", lambda row: row.std),
    "gradient": ("gradient of a sample's loss, L2 norm", lambda row: row.gradient_norm),
}
"""The quantities that are drawn: name in words, and the value in a row."""
_NAMED = 12
"""Largest number of layers that are named under the axis; of more, every k-th is named."""
_MARKED = 45


def signal_figure(
    start: Sequence[SignalRow],
    end: Sequence[SignalRow] = (),
    *,
    title: str,
) -> Figure:
    """Above, the standard deviation of each layer's outputs; below, the L2 norm of the gradient of a sample's loss with
    respect to them, on logarithmic axes; a column for the start and, if `end` is not empty, one for the end on the same
    scales.

    Values that are zero or not finite leave a gap.
    """
    columns = [("before the first step", start), *([("after training", end)] if end else [])]
    # Wide enough for the names of the layers, which are vertical.
    figure = new_figure(5.2 * len(columns) + 0.4, 6.0)
    panels = figure.subplots(2, len(columns), sharey="row", sharex="col", squeeze=False)
    for column, (name, rows) in enumerate(columns):
        for axes, quantity in zip(panels[:, column], QUANTITIES, strict=True):
            draw_signal_curve(axes, rows, quantity)
            heading(axes, f"{QUANTITIES[quantity][0]}, {name}")
        name_layers(panels[1, column], rows)
    for axes in panels[:, 0]:
        logarithmic_decades(axes)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    legend(figure, handles, labels, loc="outside lower center", ncols=3)
    main_title(figure, title)
    return figure


def draw_signal_curve(axes: Axes, rows: Sequence[SignalRow], quantity: str) -> None:
    """One of `QUANTITIES` against the layers, a line each for layers with weights, activations and residual sums."""
    value = QUANTITIES[quantity][1]
    quiet_frame(axes)
    drawn = False
    for part, style in _STYLES.items():
        places = [place for place, row in enumerate(rows) if _part(row) == part]
        heights = _drawable([value(rows[place]) for place in places])
        if not places:
            continue
        size = 4.0 if len(rows) <= _MARKED else 0.0
        axes.plot(places, heights, label=part, linewidth=1.6, markersize=size, **style)
        drawn = drawn or bool(np.isfinite(heights).any())
    if not drawn:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=FAINT)


def _drawable(values: Sequence[float | None]) -> NDArray[np.float64]:
    """The values as float64; values that a logarithmic axis cannot show are NaN."""
    column = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.where(np.isfinite(column) & (column > 0), column, np.nan)


def _part(row: SignalRow) -> str:
    return {"weights": "layers with weights", "sum": "residual sums"}.get(row.kind, "activations")


def name_layers(axes: Axes, rows: Sequence[SignalRow]) -> None:
    """The names of layers with weights under the axis, all or every k-th."""
    weighted = [place for place, row in enumerate(rows) if row.kind == "weights"]
    shown = weighted[:: max(1, -(-len(weighted) // _NAMED))]
    axes.set_xticks(shown, [shorten(rows[place].name, 22) for place in shown], rotation=90, fontsize=SMALL)
    name_axes(axes, "layer, in the order of execution")


def logarithmic_decades(axes: Axes) -> None:
    """A logarithmic vertical axis of at least two powers of ten, so that nearly equal values look equal."""
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    low, high = (low, high) if 0 < low < high else (1.0, 1.0)  # nothing was drawn
    middle = (low * high) ** 0.5
    axes.set_ylim(min(low, middle / 10), max(high, middle * 10))
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0), numticks=8))
    show_plain_numbers(axes.yaxis)


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
        text = (
            f"{several(len(rows), 'layer')}, {when}: the signal is weakest in {weak.name}, standard deviation "
            f"{weak.std:.3g}"
        )
        worst = max(rows, key=lambda row: row.dead or 0)
        return f"{text}; {worst.name} has the most dead units, {percent(worst.dead, 0)}" if worst.dead else text

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {"start": signal_to_json(self.start), "end": signal_to_json(self.end)}


def read_statistics(run: RunDirectory) -> Statistics:
    """The statistics that the run recorded. Raises RunError where there are none, or the file is damaged."""
    content = read_optional_json(run.signal)
    try:
        start, end = (signal_from_json(content.get(when, [])) for when in ("start", "end"))
    except (AttributeError, KeyError, TypeError):
        start, end = (), ()
    if not start and not end:
        got = "no record of signals (signal.json)"
        raise RunError(
            str(run.path), got, "a run of this version of striate", f"striate train --config {pasted(run.config)}"
        )
    return Statistics(start, end)
