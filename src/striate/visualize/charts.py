"""Charts of a page: small pictures with one pair of axes each, which the page arranges by its width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from striate.account.signal.trace import SignalRow
from striate.visualize.canvas import FAINT, TEXT, figure_of, legend, legend_below
from striate.visualize.signal_figure import QUANTITIES, draw_signal_curve, logarithmic_decades, name_layers
from striate.visualize.themed_svg import themed_svg
from striate.visualize.training_curves import (
    axis_of,
    draw_curve,
    draw_rate,
    further_quantities,
    name_epochs,
    quantity_name,
)
from striate.wording import number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

History = Sequence[Mapping[str, float | None]]
WIDTH, HEIGHT = 3.9, 2.6
"""Size in inches: as wide as a phone, on which letters of ten points are readable."""


def chart(draw: Callable[[Axes], object], label: str, height: float = HEIGHT, width: float = WIDTH) -> str:
    """An SVG in the colors of the page of what `draw` draws on a pair of axes; `label` is for screen readers."""
    return themed_svg(figure_of(draw, width, height), label)


def curve_charts(
    history: History, metric: str, best_epoch: float | None = None, name: str = "", share: bool = False
) -> tuple[str, ...]:
    """Loss, `metric`, further quantities, and the learning rate against the epoch, or the step if rows have no
    epoch. `name`: how the metric is called; a `share` is drawn in percent."""
    if not history:
        return ()
    followed = ["loss", metric, *further_quantities(history, metric)]
    curves = []
    for quantity in followed:
        called, in_percent = quantity_name(quantity, metric, name, share)
        drawn = partial(_draw_epochs, quantity=quantity, history=history, best_epoch=best_epoch)
        curves.append(
            chart(partial(drawn, name=called, share=in_percent), _label(history, quantity, called, in_percent))
        )
    rates = [row["lr"] for row in history if row.get("lr") is not None]
    first, last = (number(rates[place]) if rates else "–" for place in (0, -1))
    axis = axis_of(history)
    rate = partial(_draw_epochs, history=history, quantity="lr", best_epoch=None)
    return (*curves, chart(rate, f"learning rate against the {axis}: {first} in the first, {last} in the last"))


def signal_charts(start: Sequence[SignalRow], end: Sequence[SignalRow]) -> tuple[str, ...]:
    """Strength of signal and of gradient by layer, before the first step and after training, on equal axes."""
    charts = []
    for quantity, name in (("std", "standard deviation"), ("gradient", "gradient norm")):
        value = QUANTITIES[quantity][1]
        known = [v for v in map(value, (*start, *end)) if v is not None and 0 < v < float("inf")]
        span = (0.8 * min(known), 1.25 * max(known)) if known else (0.1, 10.0)
        for when, rows in (("before the first step", start), ("after training", end)):
            if rows:
                draw = partial(_draw_signal, rows=rows, quantity=quantity, title=f"{name}, {when}", span=span)
                charts.append(chart(draw, f"{name} of each layer, {when}", HEIGHT + 0.6))
    return tuple(charts)


def _draw_epochs(
    axes: Axes, *, history: History, quantity: str, best_epoch: float | None, name: str = "", share: bool = False
) -> None:
    if quantity == "lr":
        draw_rate(axes, history)
    else:
        draw_curve(axes, history, quantity, log="auto" if quantity == "loss" else False, name=name, share=share)
    if best_epoch is not None:
        axes.axvline(best_epoch, color=FAINT, linestyle=":", linewidth=1.4, label="best epoch", zorder=1)
    if names := axes.get_legend_handles_labels()[1]:
        # Beside the heading, where it covers no curve.
        legend(axes, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(names), borderaxespad=0, columnspacing=1)
    name_epochs(axes, history)


def _draw_signal(
    axes: Axes, *, rows: Sequence[SignalRow], quantity: str, title: str, span: tuple[float, float]
) -> None:
    draw_signal_curve(axes, rows, quantity)
    axes.set_title(title, loc="left", fontsize=TEXT)
    name_layers(axes, rows)
    axes.set_xlabel("")
    axes.set_ylim(*span)
    logarithmic_decades(axes)
    legend_below(axes)


def _label(history: History, quantity: str, name: str, share: bool) -> str:
    """The first and the last values of a curve, in words."""
    write, parts = percent if share else number, []
    for part in ("train", "val"):
        values = [row[key] for row in history if row.get(key := f"{part}_{quantity}") is not None]
        if values:
            parts.append(f"{part} from {write(values[0])} to {write(values[-1])}")
    return f"{name} against the {axis_of(history)}: {', '.join(parts) or 'not measured'}"
