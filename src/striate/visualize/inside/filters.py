"""The filters of a layer, as numbers and as pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.account.ledger import Shape
from striate.errors import ModelError, UsageError
from striate.layers.convolution import LocallyConnected
from striate.models.preserved_state import on_trial
from striate.visualize.canvas import FAINT, SMALL, main_title, new_figure
from striate.visualize.inside.mosaic import Picture, caption, columns_for, show_mosaic, signed_colors
from striate.visualize.inside.passes import choose_unit, no_such_layer
from striate.wording import formatted, several

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 256


@dataclass(frozen=True, eq=False)
class FilterBank:
    """Filters of one layer, in their order."""

    layer: str
    """The layer by name."""
    weights: NDArray[np.float32]
    """(N, C, *kernel) float32, of the first N filters and the first C input channels; of a fully connected layer on
    images, (N, *input shape)."""
    units: tuple[int, ...]
    """Numbers of these filters."""
    norms: tuple[float, ...]
    """(N,) L2 norms over all input channels."""
    filters: int
    """Number of filters of the layer."""
    channels: int
    """Number of input channels of a filter, which are those of its group."""
    one: bool = False
    """Whether it is a single filter, shown with every input channel."""
    groups: int = 1
    """Parts of the input channels, each with filters of its own."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return vars(self) | {"weights": self.weights.tolist()}


def filter_layers(module: nn.Module, input_shape: Shape | None = None) -> list[str]:
    """The layers with filters that can be drawn, in the order of registration: convolutions, and a fully connected
    layer whose weights belong to the places of `input_shape` (C, *spatial)."""
    with on_trial(module):
        return _filter_layers(module, input_shape)


def _filter_layers(module: nn.Module, input_shape: Shape | None) -> list[str]:
    return [name for name, part in module.named_modules() if _kernels(part, input_shape) is not None]


def find_filters(
    module: nn.Module,
    layer: str | None = None,
    *,
    unit: int | None = None,
    input_shape: Shape | None = None,
    most: int = MOST,
) -> FilterBank:
    """The filters of `layer`, by default of the first layer that has some; of `unit` alone, where it is given.

    At most `most` filters, and of each as many input channels as give `most` pictures in all; filters of three channels
    have all of them, as one color picture. Raises UsageError for an unknown layer or unit, ModelError where no layer
    has filters.
    """
    with on_trial(module):  # reading a computed weight (spectral norm) may change buffers
        known = _filter_layers(module, input_shape)
        if not known:
            remedy = "name a network with a convolution: mnist-cnn"
            raise ModelError(f"network {type(module).__name__}", "no layer with kernels", "a convolution", remedy)
        name = known[0] if layer is None else layer
        if name not in known:
            raise no_such_layer(name, known)
        part = module.get_submodule(name)
        kernels = _kernels(part, input_shape)
        groups = part.groups if isinstance(part, nn.modules.conv._ConvNd) else 1
    assert kernels is not None
    if not np.isfinite(kernels).all():
        raise ModelError(f"layer {name}", "weights that are NaN or Inf", "finite weights", "striate doctor RUN")
    count, channels = kernels.shape[:2]
    norms = np.sqrt(np.square(kernels, dtype=np.float64).reshape(count, -1).sum(1))
    shown: tuple[int, ...]
    if unit is not None:
        unit = choose_unit(unit, count, name)
        chosen, shown = kernels[unit : unit + 1, :most], (unit,)
    else:
        across = channels if channels in (1, 3) else max(1, min(channels, math.isqrt(most)))
        shown = tuple(range(min(count, most if across in (1, 3) else most // across)))
        chosen = kernels[: len(shown), :across]
    shown_norms = tuple(float(norms[k]) for k in shown)
    return FilterBank(name, chosen, shown, shown_norms, count, channels, one=unit is not None, groups=groups)


def _kernels(part: nn.Module, input_shape: Shape | None) -> NDArray[np.float32] | None:
    """(filters, input channels, *kernel); None for a layer without kernels."""
    weight = getattr(part, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.is_meta or nn.parameter.is_lazy(weight):
        return None
    values = weight.detach().float().cpu()
    if isinstance(part, nn.Linear):
        if input_shape is None or len(input_shape) < 2 or part.in_features != math.prod(input_shape):
            return None
        values = values.reshape(-1, *input_shape)
    elif isinstance(part, nn.modules.conv._ConvTransposeNd):
        values = values.unflatten(0, (part.groups, -1)).transpose(1, 2).flatten(0, 1)
    elif not isinstance(part, nn.modules.conv._ConvNd) and (values.ndim != 4 or isinstance(part, LocallyConnected)):
        return None
    array: NDArray[np.float32] = values.numpy()
    return array


def flat_kernel(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """A kernel (*kernel) as a picture (H, W): a single axis is a row, the slices of a volume are side by side."""
    if kernel.ndim == 1:
        return kernel[None]
    if kernel.ndim == 2:
        return kernel
    if kernel.ndim == 3:
        return np.concatenate(list(kernel), axis=1)
    raise UsageError("kernel", several(kernel.ndim, "axis", "axes"), "1 to 3", "another layer")


_TILE = 0.42  # inches


def filters_figure(bank: FilterBank, *, title: str) -> Figure:
    """The filters of a layer, and below them the meaning of the colors."""
    tiles, columns = _tiles(bank)
    rows = -(-len(tiles) // columns)
    ratio = tiles[0].shape[0] / tiles[0].shape[1]
    tile = min(1.0, max(_TILE, 5.5 / columns), 6.0 / columns * 2)
    width = max(5.5, min(11.0, columns * tile + 0.6))
    tile = min(tile, (width - 0.6) / columns)
    figure = new_figure(width, max(1.0, rows * tile * ratio * 1.06) + 0.95)
    draw_filters(figure.subplots(), bank)
    caption(figure, filter_words(bank))
    main_title(figure, title)
    return figure


def draw_filters(axes: Axes, bank: FilterBank) -> None:
    """The filters on one pair of axes: with one or three input channels in rows, else a row for each filter and a
    column for each input channel."""
    tiles, columns = _tiles(bank)
    rows = -(-len(tiles) // columns)
    channel = "input channel of the group" if bank.groups > 1 else "input channel"
    if bank.one:
        show_mosaic(axes, tiles, columns, rows=[str(columns * k) for k in range(rows)])
        axes.set_ylabel(channel, fontsize=SMALL, color=FAINT)
    elif _whole(bank):
        show_mosaic(axes, tiles, columns, rows=[str(bank.units[columns * k]) for k in range(rows)])
        axes.set_ylabel("filter", fontsize=SMALL, color=FAINT)
    else:
        heads = [str(k) for k in range(columns)]
        show_mosaic(axes, tiles, columns, rows=[str(unit) for unit in bank.units], heads=heads)
        axes.set_ylabel("filter", fontsize=SMALL, color=FAINT)
        axes.set_xlabel(channel, fontsize=SMALL, color=FAINT)
        axes.xaxis.set_label_position("top")


def filter_words(bank: FilterBank) -> str:
    """What is shown, of how much, and what the colors mean."""
    count = f"{len(bank.units)} of {bank.filters}" if len(bank.units) < bank.filters else f"All {bank.filters}"
    which = f"Filter {bank.units[0]} of {bank.filters}" if bank.one else f"{count} filters"
    shown = bank.weights.shape[1]
    if bank.channels not in (1, 3) and shown < bank.channels:
        which += f", the first {shown} of {several(bank.channels, 'input channel')}"
    if bank.groups > 1:
        of_group = several(bank.channels, "input channel")
        which += f", in {several(bank.groups, 'group')}: each filter sees only the {of_group} of its group"
    if _color(bank):
        return f"{which}. Gray is 0; each filter is scaled by its own largest weight."
    return f"{which}. Red is above 0, blue below, white 0; each filter is scaled by its own largest weight."


STRUCTURED = 0.1
"""Smallest difference of Moran's I of trained filters from that of shuffled ones; readable filters have 0.2 or more."""
_READABLE = 5  # weights a side
_FEWEST = 8  # filters, and weights of each: with fewer, Moran's I says nothing


def noise_words(bank: FilterBank) -> str:
    """A sentence on filters that still look like noise; empty if they do not, or are too few to decide.

    Moran's I (P. A. P. Moran, "Notes on continuous stochastic phenomena", 1950) is the mean correlation of neighboring
    weights, of those of a color picture also from color to color. Shuffled, n weights have −1 / (n − 1).
    """
    weights = bank.weights.astype(np.float64)
    count = math.prod(weights.shape[1:])
    if bank.one or len(weights) < _FEWEST or count <= _FEWEST or max(weights.shape[2:]) < 2:
        return ""
    weights -= weights.mean(tuple(range(1, weights.ndim)), keepdims=True)
    scale = np.maximum((weights**2).mean(tuple(range(1, weights.ndim))), 1e-30)
    axes = range(1 if _color(bank) else 2, weights.ndim)
    products = [
        np.take(weights, range(1, size), axis) * np.take(weights, range(size - 1), axis)
        for axis in axes
        if (size := weights.shape[axis]) > 1
    ]
    together = sum(product.reshape(len(weights), -1).sum(1) for product in products)
    alike = float((together / scale).mean()) / sum(math.prod(product.shape[1:]) for product in products)
    shuffled = -1 / (count - 1)
    if abs(alike - shuffled) >= STRUCTURED:
        return ""
    # A digits network of 97 % accuracy has such 3 × 3 filters; of 5 × 5 or more, only the initialization has them.
    small = max(weights.shape[2:]) < _READABLE
    then = (
        "Filters this small seldom show more, in good networks too."
        if small
        else "Longer training or more data gives filters with a visible structure."
    )
    return (
        "They look like noise: neighboring weights are as different as shuffled ones (Moran's I "
        f"{formatted(alike, '.2f')}, shuffled {formatted(shuffled, '.2f')}). {then}"
    )


def _color(bank: FilterBank) -> bool:
    return bank.channels == 3 and bank.weights.ndim == 4 and not bank.one


def _whole(bank: FilterBank) -> bool:
    return bank.channels == 1 or _color(bank)


def _tiles(bank: FilterBank) -> tuple[list[Picture], int]:
    tiles: list[Picture] = []
    for weights in bank.weights:
        most = float(np.abs(weights).max()) or 1.0
        if _color(bank):
            tiles.append(np.moveaxis(0.5 + 0.5 * weights.astype(np.float64) / most, 0, -1))
        else:
            tiles += [signed_colors(flat_kernel(kernel), most) for kernel in weights]
    if bank.one or _whole(bank):
        return tiles, columns_for(len(tiles), *tiles[0].shape[:2])
    return tiles, bank.weights.shape[1]
