"""Activations of a unit projected back to the pixels, beside the patches of images that cause them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.account.ledger import Shape
from striate.models.preserved_state import on_trial
from striate.visualize.canvas import INK, SMALL, main_title, new_figure
from striate.visualize.inside.mosaic import Picture, caption, show_mosaic
from striate.visualize.inside.passes import as_input, attached_output, layer_outputs
from striate.visualize.inside.patches import (
    ExcitingPatches,
    cut,
    draw_patches,
    exciting_patches,
    silent_words,
    unit_name,
)
from striate.visualize.inside.rectified import SOURCES, Passed, Rule, projected, rectified_gradients
from striate.wording import several, show_sizes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EACH = 9
"""Number of patches of a unit, as in the paper."""


@dataclass(frozen=True, eq=False)
class Projections:
    """Projections of patches to the image, from the units that they excite."""

    rule: Rule
    """How ReLUs are passed backward."""
    patches: ExcitingPatches
    """The patches."""
    values: tuple[NDArray[np.float32], ...]
    """(K, C, *spatial) of each unit: one for each of its patches, of the patch's size, 0 beyond the border."""
    relus: int
    """Number of ReLUs between the units and the image."""
    pools: int
    """Number of max poolings between the units and the image, whose switches are used."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object: each unit with its `projections`, to four digits of the largest."""
        found = self.patches.to_json()
        for unit, values in zip(found["units"], self.values, strict=True):
            unit["projections"] = _rounded(values).tolist()
        return {"method": self.rule, "relus": self.relus, "max_pools": self.pools, **found}


def _rounded(values: NDArray[np.float32]) -> NDArray[Any]:
    most = float(np.abs(values).max()) or 1.0
    return np.asarray(np.round(values.astype(np.float64), max(0, 4 - int(np.floor(np.log10(most))))), np.float64)


def project_units(
    module: nn.Module,
    x: torch.Tensor,
    rule: Rule,
    layer: str | None = None,
    *,
    units: Sequence[int] | None = None,
    each: int = EACH,
    position: Shape | None = None,
) -> Projections:
    """The patches of `exciting_patches`, each with the unit's activation at this position projected back to the pixels.

    In the backward direction, convolutions are transposed, a max pooling puts each value where its maximum was (its
    switch), and a ReLU follows `rule`: `deconvnet`, Zeiler and Fergus, "Visualizing and understanding convolutional
    networks", ECCV 2014; `guided-backprop`, Springenberg et al., "Striving for simplicity", 2015. The deconvnet
    projects the activation, guided backpropagation a gradient of 1. Normalization and other operations pass their
    gradient. Raises the errors of `exciting_patches`, and ModelError where the rule does not apply to the network.
    """
    found = exciting_patches(module, x, layer, units=units, each=each, position=position)
    values, between = [], Passed(0, 0, ())
    for unit in found.units:
        chosen = x[list(unit.samples)]
        projection, between = project_at(module, chosen, rule, found.layer, unit.unit, unit.positions)
        parts = [cut(one, box, outside=0) for one, box in zip(projection, unit.boxes, strict=True)]
        values.append(np.stack(parts))
    return Projections(rule, found, tuple(values), between.relus, between.pools)


def project_at(
    module: nn.Module, x: torch.Tensor, rule: Rule, layer: str, unit: int, positions: Sequence[Shape]
) -> tuple[NDArray[np.float32], Passed]:
    """The projections (K, C, *spatial) of `unit` of `layer` for normalized inputs `x` (K, C, *spatial), each at its one
    of `positions` in the map, () without positions; and the activations and poolings that they passed. Raises
    ModelError as `project_units` does."""
    with on_trial(module), torch.inference_mode(False), torch.enable_grad():
        given = as_input(module, x).clone().requires_grad_(True)
        with rectified_gradients(rule):
            output = attached_output(module, given, layer)
        rows = [output[(row, unit, *place)] for row, place in enumerate(positions)]
        behind = partial(_behind_relu, module, x[:1])
        back, between = projected(torch.stack(rows), given, rule, f"layer {layer}", behind, strong=rule == "deconvnet")
        return back.float().cpu().numpy(), between


def _behind_relu(module: nn.Module, x: torch.Tensor) -> str:
    """The remedy: a layer to which the rules apply."""
    relus = [each.name for each in layer_outputs(module, x) if each.activation and each.kind in ("relu", "relu6")]
    return f"--layer {relus[0]}" if relus else "a network with ReLUs; for any network: striate show RUN maximize"


_UNIT, _COLUMNS, _SQUARE = 2.9, 3, 3  # inches of a unit's pair of mosaics; units and patches side by side


def projections_figure(
    found: Projections, images: NDArray[np.uint8], *, title: str, labels: Sequence[str] = ()
) -> Figure:
    """For each unit its projections on the left and the patches of `images` (N, C, H, W) uint8 on the right, the
    strongest first. `labels` (N,): class names, of which the most common one is shown."""
    units = found.patches.units
    across = min(_COLUMNS, len(units))
    down = -(-len(units) // across)
    columns = min(_SQUARE, max(len(unit.samples) for unit in units))  # 1 for the patches of one image
    size = 1.7 * _UNIT if len(units) == 1 else _UNIT
    figure = new_figure(max(7.0, across * size), down * (size / 2 + 0.35) + 1.1)
    grid = figure.subplots(down, 2 * across, squeeze=False)
    for place, unit in enumerate(units):
        left, right = (grid[place // across][2 * (place % across) + side] for side in (0, 1))
        show_mosaic(left, [gray_middle(one) for one in found.values[place]], columns)
        draw_patches(right, unit, images, columns)
        _name(left, unit_name(unit, labels))
    for axes in grid.ravel()[2 * len(units) :]:
        axes.set_axis_off()
    caption(figure, projection_words(found))
    main_title(figure, title)
    return figure


def _name(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=SMALL, color=INK, parse_math=False)


def gray_middle(values: NDArray[np.float32]) -> Picture:
    """(H, W, 3), 0 to 1: gray is 0, each projection scaled by its own largest magnitude."""
    scaled = 0.5 + 0.5 * values.astype(np.float64) / (float(np.abs(values).max()) or 1.0)
    return np.moveaxis(scaled.repeat(3, 0) if len(scaled) == 1 else scaled, 0, -1)


def projection_words(found: Projections) -> str:
    """What the projections show, and the operations that they passed, in words."""
    patches = found.patches
    size = f"{show_sizes(patches.sight.size)} pixels"
    if patches.n == 1:
        seen = "the whole image" if patches.sight.whole else f"a patch of {size}"
        shown = f"the highest activation of a unit in one image, {seen}; left, what activates it"
    else:
        seen = "whole images" if patches.sight.whole else f"patches of {size}"
        most = several(max((len(unit.samples) for unit in patches.units), default=0), "sample")
        shown = (
            f"{most} of {patches.n:,} with the highest activation of a unit, {seen}; left, what activates it in them"
        )
    pools = (
        f"the switches of {several(found.pools, 'max pooling')}" if found.pools else "no max pooling, so no switches"
    )
    return (
        f"{patches.layer}: {shown}, projected by {found.rule} ({SOURCES[found.rule]}) through "
        f"{several(found.relus, 'ReLU')} and {pools}: gray is 0, each scaled by its own largest value."
        f"{silent_words(patches)}"
    )
