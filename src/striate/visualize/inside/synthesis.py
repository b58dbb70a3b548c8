"""Synthetic images by gradients: those that maximize a unit, and those that reproduce the activations of a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.account.ledger import Shape
from striate.errors import DataError, ModelError
from striate.models.preserved_state import on_trial, zero_input
from striate.visualize.canvas import INK, SMALL, main_title, new_figure, shorten
from striate.visualize.inside.mosaic import caption, columns_for
from striate.visualize.inside.passes import (
    LayerOutput,
    attached_output,
    choose_layer,
    choose_unit,
    evenly_spaced,
    layer_outputs,
    no_such_layer,
    outputs_of_one,
)
from striate.wording import percent, several, shorten_path, show_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS, RATE = 160, 0.08
UNITS, LAYERS = 12, 6
Range = tuple[Sequence[float], Sequence[float]]
"""The smallest and the largest normalized value of each channel."""


@dataclass(frozen=True, eq=False)
class MaximizedUnits:
    """Images that maximize units of a layer."""

    layer: str
    """The layer by name."""
    units: tuple[int, ...]
    """Numbers of the units."""
    images: NDArray[np.float32]
    """(U, C, *spatial), from 0 for the smallest to 1 for the largest value of a pixel."""
    before: tuple[float, ...]
    """The mean of the unit over its positions, for the noise at the start."""
    after: tuple[float, ...]
    """The same for the image."""
    steps: int
    """Number of gradient steps."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return vars(self) | {"images": self.images.round(4).tolist()}


@dataclass(frozen=True, eq=False)
class Inversions:
    """Images with the features of an original, for several layers."""

    layers: tuple[str, ...]
    """The layers by name."""
    images: NDArray[np.float32]
    """(L, C, *spatial), from 0 for the smallest to 1 for the largest value of a pixel."""
    errors: tuple[float, ...]
    """Squared distance of the layer's activations from those of the original, relative to their squared norm."""
    steps: int
    """Number of gradient steps."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return vars(self) | {"images": self.images.round(4).tolist()}


def maximize_units(
    module: nn.Module,
    input_shape: Shape,
    values: Range,
    layer: str | None = None,
    *,
    units: Sequence[int] | None = None,
    steps: int = STEPS,
) -> MaximizedUnits:
    """Images (C, *spatial) that maximize `units` of `layer`, found by gradient ascent from noise.

    Default: the last layer, and 12 of its units. The image is parametrized by its Fourier transform, high frequencies
    scaled down, and shifted a little at each step; without that, the result looks like noise. Erhan et al.,
    "Visualizing higher-layer features of a deep network", 2009; the parametrization: Olah et al., "Feature
    visualization", Distill 2017. Such an image need not resemble anything in the data. Raises UsageError for an unknown
    layer or unit.
    """
    first = _outputs(module, input_shape)
    chosen = first[-1] if layer is None else choose_layer(first, layer)
    count = chosen.values.shape[1]
    wanted = (
        [choose_unit(unit, count, chosen.name) for unit in units] if units is not None else evenly_spaced(count, UNITS)
    )
    numbers = tuple(int(unit) for unit in wanted)
    rows = list(range(len(numbers)))

    def activations(x: torch.Tensor) -> torch.Tensor:
        output = attached_output(module, x, chosen.name)
        return output[rows, list(numbers)].flatten(1).mean(1) if output.ndim > 2 else output[rows, list(numbers)]

    made = _make(module, input_shape, values, len(numbers), lambda x: -activations(x).sum(), steps, shifted=True)
    with on_trial(module), torch.no_grad():
        before, after = (activations(_within(module, image, values)) for image in made)
    return MaximizedUnits(chosen.name, numbers, made[1].numpy(), tuple(before.tolist()), tuple(after.tolist()), steps)


def invert_layers(
    module: nn.Module, x: torch.Tensor, values: Range, layer: str | None = None, *, steps: int = STEPS
) -> Inversions:
    """Images with the same activations of a layer as the normalized image `x`, (C, *spatial) or a batch of one; they
    show what the layer preserves.

    Default: up to 6 layers, from the first to the last. Mahendran and Vedaldi, "Understanding deep image
    representations by inverting them", CVPR 2015. Raises UsageError for an unknown layer, DataError for inputs that are
    not images, and for several.
    """
    _refuse_tables(tuple(x.shape), "image for a layer", "striate show mnist-cnn invert mnist5k#17")
    x, outputs = outputs_of_one(module, x)
    if layer is None:
        shown = [output for output in outputs if output.kind not in ("flatten", "dropout")]
        chosen = [shown[int(k)] for k in evenly_spaced(len(shown), LAYERS)]
    else:
        chosen = [choose_layer(outputs, layer)]
    images, errors = [], []
    for output in chosen:
        error = _distance(module, output)
        made = _make(module, tuple(x.shape), values, 1, error, steps, shifted=False)[1]
        with on_trial(module), torch.no_grad():
            errors.append(float(error(_within(module, made, values))))
        images.append(made[0].numpy())
    return Inversions(tuple(output.name for output in chosen), np.stack(images), tuple(errors), steps)


def _distance(module: nn.Module, output: LayerOutput) -> Callable[[torch.Tensor], torch.Tensor]:
    with torch.inference_mode(False):
        wanted = output.values.clone()
    size = float(wanted.square().sum()) or 1.0

    def distance(x: torch.Tensor) -> torch.Tensor:
        found = attached_output(module, x, output.name)
        return (found.float() - wanted.to(found.device)).square().sum() / size

    return distance


def _outputs(module: nn.Module, input_shape: Shape) -> tuple[LayerOutput, ...]:
    _refuse_tables(input_shape, "image for a unit", "striate show mnist-cnn maximize")
    outputs = layer_outputs(module, zero_input(module, input_shape))
    if not outputs:
        raise no_such_layer("", [])
    return outputs


def _refuse_tables(shape: Shape, where: str, instead: str) -> None:
    if len(shape) < 2:
        raise DataError(where, f"inputs of {show_shape(shape)} features", "images or signals", instead)


def _make(
    module: nn.Module,
    shape: Shape,
    values: Range,
    count: int,
    loss: Callable[[torch.Tensor], torch.Tensor],
    steps: int,
    *,
    shifted: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The first and the last images (count, *shape), 0 to 1, of a descent along the loss of their network inputs."""
    draw = torch.Generator().manual_seed(0)
    sides, axes = shape[1:], tuple(range(2, len(shape) + 1))
    with on_trial(module), torch.inference_mode(False), torch.enable_grad():
        fall = _fall(sides)
        waves = torch.randn(count, shape[0], *fall.shape, 2, generator=draw) * 0.05
        # All channels start with the same waves: gray.
        waves = waves[:, :1].repeat(1, shape[0], *[1] * (waves.ndim - 2)).requires_grad_(True)
        optimizer = torch.optim.Adam([waves], lr=RATE)
        first = _drawn(waves, fall, sides).detach()
        for _ in range(steps):
            image = _drawn(waves, fall, sides)
            if shifted:
                most = [max(1, side // 16) for side in sides]
                by = [int(torch.randint(-m, m + 1, (), generator=draw)) for m in most]
                image = torch.roll(image, by, axes)
            result = loss(_within(module, image, values))
            if not result.requires_grad or not bool(torch.isfinite(result)):
                raise ModelError(
                    "layer",
                    "no finite gradient with respect to the input",
                    "a layer that depends on the input",
                    "another layer: --layer NAME",
                )
            # Only with respect to the waves: no parameter of the network gets a gradient.
            (waves.grad,) = torch.autograd.grad(result, waves)
            optimizer.step()
        return first, _drawn(waves, fall, sides).detach()


def _fall(sides: Shape) -> torch.Tensor:
    """The amplitude of each wave: one over its frequency, as in natural images."""
    along = [torch.fft.fftfreq(side) for side in sides[:-1]] + [torch.fft.rfftfreq(sides[-1])]
    grid = torch.meshgrid(*along, indexing="ij")
    frequency = torch.stack([axis.square() for axis in grid]).sum(0).sqrt()
    return 1 / frequency.clamp_min(1 / max(sides))


def _drawn(waves: torch.Tensor, fall: torch.Tensor, sides: Shape) -> torch.Tensor:
    axes = tuple(range(2, 2 + len(sides)))
    spectrum = torch.view_as_complex(waves) * fall
    scale = float(np.sqrt(np.prod(sides))) / 4
    return torch.sigmoid(torch.fft.irfftn(spectrum, s=sides, dim=axes) * scale)


def _within(module: nn.Module, image: torch.Tensor, values: Range) -> torch.Tensor:
    """Images 0 to 1 as normalized inputs."""
    low, high = (torch.tensor(bound, dtype=torch.float32).view(1, -1, *[1] * (image.ndim - 2)) for bound in values)
    return (low + image * (high - low)).to(zero_input(module, (1,)))


_TILE = 1.7  # inches


def maximized_figure(found: MaximizedUnits, *, title: str, names: Sequence[str] = ()) -> Figure:
    """An image for each unit; `names` of the units of the layer, where they are classes."""
    under = [shorten(names[unit], 16) if names else f"unit {unit}" for unit in found.units]
    under = [
        f"{name}\n{a:.3g} → {b:.3g}".replace("\n-", "\n−")
        for name, a, b in zip(under, found.before, found.after, strict=True)
    ]
    words = (
        f"Images made by {several(found.steps, 'step')} along the gradient to maximize a unit of {found.layer}; "
        "beneath, its mean "
        "activation for the noise at the start and for the image. Such images need not resemble the data."
    )
    return _page(list(found.images), under, title, words)


def inverted_figure(found: Inversions, image: NDArray[np.float32], *, title: str) -> Figure:
    """The image (C, H, W), 0 to 1, and the image that each layer preserves of it."""
    under = [
        "the image",
        *(
            f"{shorten_path(name, 18)}\n{_percent(error)} off"
            for name, error in zip(found.layers, found.errors, strict=True)
        ),
    ]
    words = (
        f"Images made by {several(found.steps, 'step')} along the gradient whose activations in a layer approach "
        "those of the "
        "image; what the layer loses is arbitrary. Beneath, the relative squared error of the activations."
    )
    return _page([image, *found.images], under, title, words)


def draw_synthetic(axes: Axes, image: NDArray[np.float32], name: str) -> None:
    """One image (C, H, W) with values 0 to 1, and its name below; a signal as lines."""
    if image.ndim == 2:
        axes.plot(image.T, linewidth=1)
    elif image.ndim == 3 and len(image) in (1, 3):
        shown = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
        axes.imshow(shown.clip(0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(image.reshape(-1, image.shape[-1]), cmap="gray", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(name, fontsize=SMALL, color=INK, parse_math=False)


def _page(images: Sequence[NDArray[np.float32]], names: Sequence[str], title: str, words: str) -> Figure:
    columns = columns_for(len(images), 1, 1, ratio=2.0) if len(images) > 4 else len(images)
    rows = -(-len(images) // columns)
    figure = new_figure(max(6.0, columns * _TILE), rows * (_TILE + 0.35) + 1.0)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, image, name in zip(grid, images, names, strict=False):
        draw_synthetic(axes, image, name)
    for axes in grid[len(images) :]:
        axes.set_axis_off()
    caption(figure, words)
    main_title(figure, title)
    return figure


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 1 else percent(share, 0)
