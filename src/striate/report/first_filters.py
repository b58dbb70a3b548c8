"""The filters of a network's first layer, as a picture of its report."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from striate.visualize.canvas import save_figure
from striate.visualize.inside.figures.filters import filter_words, filters_figure
from striate.visualize.inside.filters import filter_layers, find_filters
from striate.visualize.page_parts import Picture

_DPI = 80
_SMALLEST = 3
"""Filters of a single value show nothing."""


def draw_first_filters(folder: Path, module: nn.Module, data: str) -> tuple[Picture, ...]:
    """`filters.png`, as they are after training; nothing where no layer has filters of at least 3 values a side."""
    if not filter_layers(module):
        return ()
    bank = find_filters(module)
    if max(bank.weights.shape[2:]) < _SMALLEST:
        return ()
    title = f"{data}: filters of {bank.layer}"
    path = save_figure(filters_figure(bank, title=title), folder / "filters.png", _DPI)
    return (
        Picture(f"Filters of {bank.layer}", f"{bank.layer}, after training. {filter_words(bank)}", path, "filters"),
    )
