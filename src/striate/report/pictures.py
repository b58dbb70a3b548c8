"""Draw pictures of a run into its `plots/` folder: the learning curves, and the filters of the first layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from striate.tasks.metric import Metric
from striate.visualize.canvas import save_figure
from striate.visualize.charts import curve_charts
from striate.visualize.inside.filters import (
    FilterBank,
    filter_layers,
    filter_words,
    filters_figure,
    find_filters,
    noise_words,
)
from striate.visualize.page_parts import Picture
from striate.visualize.training_curves import by_step, curves_figure
from striate.wording import short_number

_FINE_DPI = 144
"""Resolution of pictures of lines and letters; photographs would make large files."""


def draw_curves(
    folder: Path,
    history: Sequence[Mapping[str, float | None]],
    *,
    metric: Metric,
    data: str,
    sizes: Mapping[str, int],
    best_epoch: float | None = None,
    passes: float | None = None,
    steps: Sequence[Mapping[str, float | None]] = (),
) -> Picture:
    """`curves.png`: the columns `epoch lr train_loss val_loss train_<m> val_<m>` of `history`, a row an epoch.

    `sizes`: numbers of samples of `train` and `val`; `best_epoch`: None if the last epoch is the result; `passes`: over
    the training samples; `steps`: rows `step lr train_loss` of a training of few epochs, which is drawn by step.
    """
    of = ", ".join(f"{split} n = {n:,}" for split, n in sizes.items() if split in ("train", "val"))
    title = f"{data}, {of}"
    made = len(history) if passes is None else passes
    caption = f"{title}; {short_number(made)} {'epoch' if made == 1 else 'epochs'} of training."
    caption += (
        " The result has the weights of the last epoch."
        if best_epoch is None
        else f" The dotted line is the best epoch, {best_epoch:g}, whose weights are the result."
    )
    marked = best_epoch
    if steps:
        marked = next((row["step"] for row in history if row["epoch"] == best_epoch), None)
        history = by_step(history, steps)
    name, share = metric.name, metric.is_share
    figure = curves_figure(history, metric=metric.key, title=title, best_epoch=marked, name=name, share=share)
    path = save_figure(figure, folder / "curves.png", _FINE_DPI)
    charts = curve_charts(history, metric.key, marked, name, share)
    return Picture("Learning curves", caption, path, "curves", charts)


_DPI = 80
_SMALLEST = 3
"""Smallest number of values of a filter that is drawn."""


def first_filters(module: nn.Module, input_shape: tuple[int, ...] | None = None) -> FilterBank | None:
    """The filters of the first layer; None if no layer has filters, or if those of the first have fewer than 3 values.
    With `input_shape`, fully connected layers on images count too."""
    if not filter_layers(module, input_shape):
        return None
    bank = find_filters(module, input_shape=input_shape)
    return bank if max(bank.weights.shape[2:]) >= _SMALLEST else None


def draw_first_filters(folder: Path, bank: FilterBank | None, data: str) -> tuple[Picture, ...]:
    """`filters.png`, the filters after training; empty without filters."""
    if bank is None:
        return ()
    title = f"{data}: filters of {bank.layer}"
    path = save_figure(filters_figure(bank, title=title), folder / "filters.png", _DPI)
    return (
        Picture(
            f"Filters of {bank.layer}",
            f"{bank.layer}, after training. {filter_words(bank)} {noise_words(bank)}".rstrip(),
            path,
            "filters",
        ),
    )
