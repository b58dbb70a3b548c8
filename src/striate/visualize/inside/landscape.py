"""The loss landscape: the loss around the trained weights, along two random directions and over their plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.func import functional_call

from striate.errors import DataError, ModelError
from striate.models.preserved_state import on_trial
from striate.visualize.canvas import (
    BLUE,
    FAINT,
    INK,
    SMALL,
    VERMILION,
    heading,
    legend,
    main_title,
    name_axes,
    new_figure,
    quiet_frame,
    show_plain_numbers,
)
from striate.visualize.inside.mosaic import caption
from striate.visualize.inside.passes import as_input, batches
from striate.wording import several

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REACH, LINE, PLANE = 1.0, 31, 15
Loss = Callable[[Any, torch.Tensor], torch.Tensor]
"""Computes the mean loss from the outputs for a batch and its targets."""


@dataclass(frozen=True, eq=False)
class Landscape:
    """The mean loss around the weights; a step of 1 moves each filter by its own norm."""

    steps: NDArray[np.float64]
    """(L,) along both lines."""
    lines: NDArray[np.float64]
    """(2, L), the loss at each step."""
    grid: NDArray[np.float64]
    """(G,) steps along both directions of the plane."""
    plane: NDArray[np.float64]
    """(G, G), the loss at `grid[i]` along the second and `grid[j]` along the first direction."""
    center: float
    """The loss of the weights themselves."""
    n: int
    """Number of samples."""

    @property
    def width(self) -> float | None:
        """The distance at which the loss is twice that of the weights, on average over both lines and directions; None
        if some direction does not double it within reach."""
        middle = len(self.steps) // 2
        found = []
        for values in (*(line[middle:] for line in self.lines), *(line[middle::-1] for line in self.lines)):
            above = np.flatnonzero(values >= 2 * self.center)
            found.append(float(self.steps[middle + above[0]]) if len(above) else None)
        known = [width for width in found if width is not None]
        return float(np.mean(known)) if len(known) == len(found) else None

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        arrays = {name: value.tolist() for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return vars(self) | arrays | {"width": self.width}


def loss_landscape(
    module: nn.Module,
    x: torch.Tensor,
    targets: torch.Tensor,
    loss: Loss,
    *,
    line: int = LINE,
    plane: int = PLANE,
    seed: int = 0,
) -> Landscape:
    """The loss of normalized inputs `x` (N, …) around the weights of a network, which stay as they are.

    Two random directions, each filter scaled to the length of the network's own; biases and normalizations do not
    move. Li et al., "Visualizing the loss landscape of neural nets", NeurIPS 2018. In eval mode, so normalizations use
    their statistics. `line`, `plane`: points along each, odd, so that the weights themselves are one of them. Raises
    DataError where the loss of the weights is not finite.
    """
    weights = dict(module.named_parameters())
    if not any(weight.ndim > 1 for weight in weights.values()):
        command = "striate train mnist5k --out runs/first && striate show runs/first landscape"
        raise ModelError(
            f"network {type(module).__name__}", "no filters or matrices", "a network with filters or matrices", command
        )
    draw = torch.Generator().manual_seed(seed)
    directions = [_direction(weights, draw), _direction(weights, draw)]
    steps, grid = np.linspace(-REACH, REACH, line), np.linspace(-REACH, REACH, plane)
    with on_trial(module), torch.no_grad():

        def at(first: float, second: float) -> float:
            moved = {
                name: weight + first * directions[0][name] + second * directions[1][name]
                for name, weight in weights.items()
            }
            total = 0.0
            rest = targets
            for part in batches(x):
                outputs = functional_call(module, moved, (as_input(module, part),))
                total += float(loss(outputs, rest[: len(part)])) * len(part)
                rest = rest[len(part) :]
            return total / len(x)

        center = at(0.0, 0.0)
        if not np.isfinite(center):
            raise DataError("landscape", f"a loss of {center} at the weights", "a finite loss", "striate doctor RUN")
        lines = np.array([[at(step, 0.0) for step in steps], [at(0.0, step) for step in steps]])
        heights = np.array([[at(first, second) for first in grid] for second in grid])
    return Landscape(steps, lines, grid, heights, center, len(x))


def _direction(weights: dict[str, nn.Parameter], draw: torch.Generator) -> dict[str, torch.Tensor]:
    found = {}
    for name, weight in weights.items():
        direction = torch.randn(weight.shape, generator=draw).to(weight)
        if weight.ndim > 1:
            # A filter is a row of the weights, which computes one output.
            sizes = [
                each.detach().flatten(1).norm(dim=1).view(-1, *[1] * (weight.ndim - 1)) for each in (weight, direction)
            ]
            found[name] = direction * (sizes[0] / sizes[1].clamp_min(1e-12))
        else:
            found[name] = torch.zeros_like(direction)
    return found


_LEVELS = 16


def landscape_figure(found: Landscape, *, title: str) -> Figure:
    """Both lines at the left, the plane at the right."""
    figure = new_figure(10.0, 5.2)
    left, right = figure.subplots(1, 2)
    draw_lines(left, found)
    draw_plane(right, found)
    caption(figure, landscape_words(found))
    main_title(figure, title)
    return figure


def draw_lines(axes: Axes, found: Landscape) -> None:
    """The loss along both random directions, on a logarithmic axis."""
    styles = ((BLUE, "-", "first"), (VERMILION, "--", "second"))
    for values, (color, style, name) in zip(found.lines, styles, strict=True):
        axes.plot(found.steps, values, color=color, linestyle=style, linewidth=1.8, label=f"{name} direction")
    axes.plot([0], [found.center], "o", color="black", markersize=5, label=f"the weights, {found.center:.3g}")
    quiet_frame(axes)
    _logarithmic(axes, found.lines)
    legend(axes)
    name_axes(axes, "step; 1 moves each filter by its own length", size=SMALL)
    heading(axes, "loss along two directions")


def draw_plane(axes: Axes, found: Landscape) -> None:
    """Lines of equal loss over the plane of both directions."""
    heights = np.where(np.isfinite(found.plane), found.plane, np.nan)
    positive = float(np.nanmin(heights)) > 0
    low, high = float(np.nanmin(heights)), float(np.nanmax(heights))
    if high > low:
        from matplotlib.patheffects import withStroke

        levels = np.geomspace(low, high, _LEVELS) if positive else np.linspace(low, high, _LEVELS)
        axes.contourf(found.grid, found.grid, heights, levels, cmap="viridis_r", norm="log" if positive else None)
        drawn = axes.contour(found.grid, found.grid, heights, levels[1:-1:2], colors="white", linewidths=0.7)
        for label in axes.clabel(drawn, fmt=lambda value: f"{value:.2g}", fontsize=SMALL - 1, colors=INK):
            label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])  # readable on any color
    axes.plot([0], [0], "o", color=VERMILION, markersize=6)
    axes.set_aspect("equal")
    axes.tick_params(labelsize=SMALL)
    axes.set_xlabel("first direction", fontsize=SMALL, color=FAINT)
    axes.set_ylabel("second direction", fontsize=SMALL, color=FAINT)
    heading(axes, "loss in the plane of both directions")


def landscape_words(found: Landscape) -> str:
    """How wide the minimum is, and how it was measured."""
    wide = f"The loss doubles at a distance of {found.width:.2f}, on average." if found.width is not None else ""
    return (
        f"{wide} Two random directions, each filter scaled to its own length (Li et al. 2018); biases and "
        f"normalizations stay fixed. Mean loss of {several(found.n, 'sample')}, {found.center:.4g} at the weights."
    ).strip()


def _logarithmic(axes: Axes, values: np.ndarray) -> None:
    known = values[np.isfinite(values)]
    if len(known) and known.min() > 0 and known.max() > 10 * known.min():
        axes.set_yscale("log")
        show_plain_numbers(axes.yaxis)
        axes.set_ylabel("mean loss, logarithmic", fontsize=SMALL)
    else:
        axes.set_ylabel("mean loss", fontsize=SMALL)
