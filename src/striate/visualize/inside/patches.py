"""The patches of images with the highest activations of a unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.account.ledger import Shape
from striate.errors import UsageError
from striate.visualize.canvas import INK, SMALL, main_title, new_figure, shorten
from striate.visualize.inside.fields import FieldGeometry, find_geometries, geometry_of
from striate.visualize.inside.mosaic import Picture, caption, columns_for, show_mosaic
from striate.visualize.inside.passes import (
    LayerOutput,
    batches,
    choose_layer,
    choose_unit,
    evenly_spaced,
    layer_outputs,
    no_such_layer,
    not_images,
)
from striate.wording import several, show_shape, show_sizes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNITS, EACH, OF_ONE = 12, 9, 24
Number = TypeVar("Number", np.uint8, np.float32)
_SHARE = 0.6


@dataclass(frozen=True)
class UnitPatches:
    """The patches that excite one unit most, the strongest first, at most one of each sample."""

    unit: int
    """Number of the unit."""
    samples: tuple[int, ...]
    """Positions of the samples among the inputs."""
    values: tuple[float, ...]
    """Values of the unit."""
    positions: tuple[Shape, ...]
    """Positions in the unit's map; () where it has none."""
    boxes: tuple[tuple[tuple[int, int], ...], ...]
    """For each axis of the image, the first pixel and the number of pixels, which may reach over the border."""


@dataclass(frozen=True)
class ExcitingPatches:
    """The patches that excite some units of a layer most."""

    layer: str
    """The layer by name."""
    shape: Shape
    """Shape of its output."""
    sight: FieldGeometry
    """Its receptive fields."""
    units: tuple[UnitPatches, ...]
    """The patches of each unit."""
    silent: int
    """Number of units of the layer that no sample excites."""
    n: int
    """Number of samples."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return vars(self) | {"sight": vars(self.sight), "units": [vars(unit) for unit in self.units]}


def exciting_patches(
    module: nn.Module,
    x: torch.Tensor,
    layer: str | None = None,
    *,
    units: Sequence[int] | None = None,
    each: int = EACH,
    position: Shape | None = None,
) -> ExcitingPatches:
    """The patches of normalized inputs `x` (N, C, *spatial) with the highest activations of `units` of `layer`, `each`
    of them.

    Default: the last activation (or layer) with maps whose units see at most 60 % of each side, and 12 of its units
    that some sample excites. A patch is the receptive field of the unit at its largest value, or at `position` of its
    map. Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014. Raises UsageError for an
    unknown layer or unit.
    """
    if x.ndim < 3:
        raise not_images("patches", x.shape[1:])
    shape = tuple(x.shape[1:])
    geometries = find_geometries(module, shape)
    first = layer_outputs(module, x[:1])
    name = choose_layer(first, layer).name if layer is not None else _last_local(first, geometries, shape)
    best, places, size = _scan(module, x, name, position)
    live = best.max(0) > 0 if bool((best > 0).any()) else np.ones(best.shape[1], bool)
    if units is None:
        known = np.flatnonzero(live)
        units = [int(known[k]) for k in evenly_spaced(len(known), UNITS)]
    geometry = geometry_of(geometries, name)
    found = tuple(
        _of_unit(choose_unit(unit, best.shape[1], name), best, places, size, geometry, each) for unit in units
    )
    return ExcitingPatches(name, (best.shape[1], *size), geometry, found, int((~live).sum()), len(x))


def _last_local(outputs: Sequence[LayerOutput], geometries: dict[str, FieldGeometry], shape: Shape) -> str:
    maps = [output.name for output in outputs if output.is_map and output.values.ndim == len(shape) + 1]
    if not maps:
        raise no_such_layer("", [output.name for output in outputs])
    active = {output.name for output in outputs if output.activation}
    maps = [name for name in maps if name in active] or maps
    local = [name for name in maps if not geometry_of(geometries, name).whole]
    # Patches nearly as large as the image would show mostly its border.
    small = [
        name
        for name in local
        if all(size <= _SHARE * side for size, side in zip(*_sides(geometries, name), strict=True))
    ]
    return (small or local or maps)[-1]


def _sides(geometries: dict[str, FieldGeometry], name: str) -> tuple[Shape, Shape]:
    geometry = geometry_of(geometries, name)
    return geometry.size, geometry.input


def _scan(
    module: nn.Module, x: torch.Tensor, name: str, position: Shape | None
) -> tuple[NDArray[np.float32], NDArray[np.int64], Shape]:
    """(N, units) the largest value of each sample and unit, or that at `position`; its position in the flattened map;
    and the map's sides."""
    values, places = [], []
    size: Shape = ()
    for part in batches(x):
        (output,) = (each for each in layer_outputs(module, part, [name]) if each.name == name)
        size = tuple(output.values.shape[2:])
        flat = output.values.reshape(len(part), output.values.shape[1], -1)
        if position is None:
            largest, place = flat.max(2)
        else:
            place = torch.full(flat.shape[:2], _place(position, size, name))
            largest = flat[:, :, place[0, 0]]
        values.append(largest.cpu().numpy())
        places.append(place.cpu().numpy())
    return np.concatenate(values), np.concatenate(places), size


def _place(position: Shape, size: Shape, name: str) -> int:
    """The index of the position in the flattened map. Raises UsageError for a position outside the map."""
    if len(position) != len(size) or any(not 0 <= at < side for at, side in zip(position, size, strict=True)):
        got = (
            f"{','.join(map(str, position))}, in {name}, whose maps have {show_shape(size) if size else 'no'} positions"
        )
        middle = ",".join(str(side // 2) for side in size)
        expected = f"up to {','.join(str(side - 1) for side in size)}, from 0" if size else "no position"
        raise UsageError("--position", got, expected, f"--position {middle}" if size else "leave out --position")
    return int(np.ravel_multi_index(position, size))


def _of_unit(
    unit: int, best: NDArray[np.float32], places: NDArray[np.int64], size: Shape, geometry: FieldGeometry, each: int
) -> UnitPatches:
    order = np.argsort(-best[:, unit], kind="stable")[:each]
    positions = [
        tuple(int(k) for k in np.unravel_index(places[sample, unit], size)) if size else () for sample in order
    ]
    return UnitPatches(
        unit,
        tuple(int(sample) for sample in order),
        tuple(float(best[sample, unit]) for sample in order),
        tuple(positions),
        tuple(geometry.box(position) for position in positions),
    )


def cut(image: NDArray[Number], box: tuple[tuple[int, int], ...], outside: int = 160) -> NDArray[Number]:
    """The part of an image (C, H, W) that a box covers, `outside` where it reaches over the border."""
    part = np.full((len(image), *(count for _, count in box)), outside, image.dtype)
    inside: list[slice] = [slice(None)]
    source: list[slice] = [slice(None)]
    for (first, count), side in zip(box, image.shape[1:], strict=True):
        low, high = max(first, 0), min(first + count, side)
        inside.append(slice(low - first, high - first))
        source.append(slice(low, high))
    part[tuple(inside)] = image[tuple(source)]
    return part


_TILE = 0.8  # inches


def patches_figure(
    found: ExcitingPatches, images: NDArray[np.uint8], *, title: str, labels: Sequence[str] = ()
) -> Figure:
    """The patches, cut from `images` (N, C, H, W) uint8, a row a unit; a single unit fills the page. `labels` (N,):
    class names, of which the most common one is shown."""
    if len(found.units) == 1:
        unit = found.units[0]
        columns = columns_for(len(unit.samples), 1, 1)
        rows = -(-len(unit.samples) // columns)
        figure = new_figure(max(6.0, columns * 1.1), rows * 1.12 + 1.2)
        draw_patches(figure.subplots(), unit, images, columns)
        more = f" {unit_name(unit, labels)}.".replace("unit", "Unit", 1) if labels else ""
    else:
        across = max(len(unit.samples) for unit in found.units)
        figure = new_figure(across * _TILE + 1.9, len(found.units) * _TILE * 1.05 + 1.0)
        for axes, unit in zip(figure.subplots(len(found.units), 1), found.units, strict=True):
            draw_patches(axes, unit, images, across)
            axes.set_ylabel(
                unit_name(unit, labels, stacked=True), rotation=0, ha="right", va="center", fontsize=SMALL, color=INK,
                labelpad=6, parse_math=False,
            )  # fmt: skip
        more = ""
    caption(figure, patches_words(found) + more)
    main_title(figure, title)
    return figure


def draw_patches(axes: Axes, unit: UnitPatches, images: NDArray[np.uint8], columns: int) -> None:
    """The patches of one unit, the most exciting first."""
    tiles: list[Picture] = []
    for sample, box in zip(unit.samples, unit.boxes, strict=True):
        part = cut(images[sample], box).astype(np.float64) / 255
        tiles.append(np.moveaxis(part.repeat(3, 0) if len(part) == 1 else part, 0, -1))
    show_mosaic(axes, tiles, columns)


def patches_words(found: ExcitingPatches) -> str:
    """What the patches show, in words."""
    whole = found.sight.whole
    what = (
        "whole images, the receptive field of its units"
        if whole
        else f"patches of {show_sizes(found.sight.size)} pixels, the receptive field of a unit"
    )
    one = len(found.units) == 1
    activations = (
        f"highest activations of unit {found.units[0].unit}" if one else "each row: highest activations of a unit"
    )
    return f"{found.layer}: {what}; {activations} on {several(found.n, 'sample')}.{silent_words(found)}"


def silent_words(found: ExcitingPatches) -> str:
    """A sentence about the units that are 0 for every sample, after a space; nothing where there are none."""
    verb = "is" if found.silent == 1 else "are"
    return f" {found.silent} of {several(found.shape[0], 'unit')} {verb} 0 for every sample." if found.silent else ""


def unit_name(unit: UnitPatches, labels: Sequence[str], *, stacked: bool = False) -> str:
    """`unit 3: class 7 in 6 of 9`: the most common class of its samples; without labels `unit 3`. `stacked`: each part
    on a line of its own."""
    text = f"unit {unit.unit}"
    if not labels:
        return text
    (name, count), *_ = Counter(labels[sample] for sample in unit.samples).most_common(1)
    parts = text, f"class {shorten(name, 12)}", f"in {count} of {len(unit.samples)}"
    return "\n".join(parts) if stacked else "{}: {} {}".format(*parts)
