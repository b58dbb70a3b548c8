"""The page Watch: a network at work on an image, layer by layer, down to the arithmetic of one number."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from fastapi import APIRouter, Depends, Query
from numpy.typing import NDArray
from torch.nn import functional

from striate.data.media.every_medium import medium_of
from striate.errors import StriateError, UsageError
from striate.lab.network_names import LONGEST, RUN
from striate.lab.page_images import as_address, as_png
from striate.lab.watching.step import Step
from striate.models.registry import GROUPS
from striate.visualize.picture import Picture

if TYPE_CHECKING:
    from striate.lab.watching.step import Step
    from striate.lab.watching.watched_network import WatchedPass
    from striate.lab.workbench import Lab
    from striate.tasks.marks import PositionMap

SMALL = 64
"""Largest number of rows and columns of a small picture; larger maps are reduced by averaging."""


@dataclass(frozen=True)
class MapPicture:
    """One map as the page draws it."""

    unit: int
    """Number of the unit."""
    rows: int
    """Rows of the map."""
    columns: int
    """Columns of the map."""
    low: float
    """The smallest number."""
    high: float
    """The largest number."""
    scale: float
    """A byte b of `data` stands for (b − 128) / 127 · `scale`."""
    activity: float
    """Mean of the absolute values."""
    finite: bool
    """Whether all numbers are."""
    data: str
    """A byte for each number, row by row, as base64."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return dict(vars(self))


def activities(maps: torch.Tensor) -> NDArray[np.float64]:
    """The mean of absolute values of every map of (maps, rows, columns)."""
    found: NDArray[np.float64] = maps.abs().double().mean((1, 2)).numpy()
    return found


def map_pictures(maps: torch.Tensor, units: list[int], *, small: bool) -> list[MapPicture]:
    """Pictures of some maps of (maps, rows, columns)."""
    chosen = maps[units].float()
    finite = torch.isfinite(chosen).flatten(1).all(1)
    chosen = torch.nan_to_num(chosen, 0.0, 0.0, 0.0)
    lows, highs = chosen.amin((1, 2)), chosen.amax((1, 2))
    active = chosen.abs().mean((1, 2))
    if small and max(chosen.shape[1:]) > SMALL:
        sides = min(chosen.shape[1], SMALL), min(chosen.shape[2], SMALL)
        chosen = functional.adaptive_avg_pool2d(chosen[None], sides)[0]
    scales = chosen.abs().amax((1, 2))
    divisors = torch.where(scales > 0, scales, torch.ones_like(scales))
    values = (chosen / divisors[:, None, None] * 127).round_().add_(128).to(torch.uint8).numpy()
    rows, columns = (int(side) for side in values.shape[1:])
    figures = zip(units, *(t.tolist() for t in (lows, highs, scales, active, finite)), values, strict=True)
    return [
        MapPicture(unit, rows, columns, low, high, scale, mean, whole, b64encode(plane.tobytes()).decode("ascii"))
        for unit, low, high, scale, mean, whole, plane in figures
    ]


def order_of(maps: torch.Tensor, order: str) -> list[int]:
    """Numbers of maps, the most active first, or in their order."""
    if order == "activity":
        return [int(unit) for unit in np.argsort(-activities(maps), kind="stable")]
    return list(range(len(maps)))


@dataclass(frozen=True)
class FilterPicture:
    """The kernel of one map as the page draws it."""

    unit: int
    """Number of the map."""
    channels: int
    """Number of input channels."""
    rows: int
    """Rows of the kernel."""
    columns: int
    """Columns of the kernel."""
    scale: float
    """As in `MapPicture`, the same for all planes."""
    planes: tuple[str, ...]
    """Bytes of the first input channels, as in `MapPicture`."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return dict(vars(self))


def filters_of(step: Step) -> NDArray[np.float32] | None:
    """The kernels (maps, channels, rows, columns) of a convolution; None of other layers, and of transposed and 3-D
    convolutions."""
    call = step.calls[-1] if step.calls else None
    if call is None or call.name != "convolution" or call.get("transposed", False):
        return None
    weight = call.tensor("weight")
    if weight is None or weight.ndim not in (3, 4) or call.out.shape != step.output.shape:
        return None
    values: NDArray[np.float32] = weight.float().numpy()
    return values if values.ndim == 4 else values[:, :, None]


def filter_pictures(kernels: NDArray[np.float32], units: list[int], most_planes: int = 3) -> list[FilterPicture]:
    """The kernels of some maps, with at most `most_planes` planes each."""
    found = []
    for unit in units:
        kernel = kernels[unit]
        shown = kernel[:most_planes]
        scale = float(np.abs(kernel).max(initial=0.0))
        values = (shown / (scale or 1.0) * 127).round().astype(np.int16) + 128
        planes = tuple(b64encode(plane.astype(np.uint8).tobytes()).decode("ascii") for plane in values)
        found.append(FilterPicture(unit, len(kernel), kernel.shape[1], kernel.shape[2], scale, planes))
    return found


Model = Annotated[str, Query(max_length=LONGEST)]
Short = Annotated[str, Query(max_length=120)]
Index = Annotated[int, Query(ge=0, le=10**7)]
Layer = Annotated[int, Query(ge=-1, le=10**5)]
Count = Annotated[int, Query(ge=1, le=96)]

_FIRST = "mnist-cnn"
_MOST_PLANES = 64
_SHOWN_PREDICTIONS = 5


def routes(lab: Lab) -> APIRouter:
    """The endpoints of the page. Every request names network, input shape and image, so that the server has no state of
    a page."""
    from striate.lab.watching.watched_network import CachedPasses, input_step, step_at

    router, passes = APIRouter(), CachedPasses(lab)

    @router.get("/choices")
    def choices() -> dict[str, Any]:
        return _choices(lab)

    def requested_pass(model: Model, image: Short, input: Short = "") -> WatchedPass:
        return passes.watched(model, input, image)

    at_work = Depends(requested_pass)

    @router.get("/steps")
    def steps(watched: Any = at_work) -> dict[str, Any]:
        all_steps = (input_step(watched), *watched.steps)
        return _about(watched) | {"steps": [step.to_json() for step in all_steps]}

    @router.get("/maps")
    def maps(
        layer: Layer,
        order: Literal["activity", "number"] = "activity",
        start: Index = 0,
        count: Count = 48,
        watched: Any = at_work,
    ) -> dict[str, Any]:
        return _maps(step_at(watched, layer), order, start, count)

    @router.get("/picture")
    def picture(layer: Layer, map: Index, watched: Any = at_work) -> dict[str, Any]:
        return _picture(step_at(watched, layer), map)

    @router.get("/positions")
    def positions(kind: Layer = -1, watched: Any = at_work) -> dict[str, Any]:
        return _positions(watched.maps, kind)

    @router.get("/cell")
    def cell(level: Index, row: Index, column: Index, watched: Any = at_work) -> dict[str, Any]:
        return _cell(watched.maps, level, row, column)

    @router.get("/unit")
    def unit(layer: Layer, map: Index, row: Index, column: Index, watched: Any = at_work) -> dict[str, Any]:
        return _unit(watched, layer, (map, row, column))

    @router.get("/projections")
    def projections(layer: Layer, map: Index, row: Index, column: Index, watched: Any = at_work) -> dict[str, Any]:
        return {"projections": _projections(watched, layer, (map, row, column))}

    return router


def _projections(watched: WatchedPass, layer: int, place: tuple[int, int, int]) -> list[dict[str, Any]]:
    """One number projected back to the image by each rule: a picture, or why there is none."""
    from striate.visualize.inside.projections import gray_middle, project_at
    from striate.visualize.inside.rectified import RULES

    step, found = watched.step(layer), []
    if not all(i < side for i, side in zip(place, step.maps.shape, strict=True)):
        expected = "map 0 to {}, row 0 to {}, column 0 to {}".format(*(side - 1 for side in step.maps.shape))
        raise UsageError(step.name, "map {}, row {}, column {}".format(*place), expected, "choose a place of the map")
    position = place[1:][-(step.output.ndim - 2) :] if step.output.ndim > 2 else ()
    for rule in RULES:
        try:
            values, _ = project_at(watched.network.module, watched.x, rule, step.name, place[0], [position])
        except StriateError as error:
            found.append({"method": rule, "problem": error.got})
            continue
        pixels = (255 * gray_middle(values[0])).round().astype(np.uint8)
        found.append({"method": rule, "picture": as_address(as_png(Picture(pixels)))})
    return found


def _choices(lab: Lab) -> dict[str, Any]:
    """The named networks that take images, and the first one to show."""
    own = []
    if lab.run and lab.trained is not None and medium_of(lab.trained.preparation.kind).shows_itself:
        own = [{"name": RUN, "text": f"the network of {lab.run.name}", "group": "opened with"}]
    zoo = [
        {"name": info.name, "text": f"{info.name} ({info.year})", "group": group}
        for group, entries in GROUPS.items()
        for info in entries
        if len(info.input_shape) == 3
    ]
    return {"networks": [*own, *zoo], "first": RUN if own else _FIRST}


def _unit(watched: WatchedPass, layer: int, place: tuple[int, int, int]) -> dict[str, Any]:
    """The arithmetic of one number, and its input region."""
    from striate.lab.watching.pointwise_arithmetic import explain_input
    from striate.lab.watching.unit_arithmetic import explain_unit

    if layer < 0:
        _check(place, watched)
        found, lit = explain_input(watched, place)
        return {"unit": found.to_json(), "seen": lit.to_json()}
    step = watched.step(layer)
    found, region = explain_unit(step, place, watched.steps), step.input_region(place)
    return {"unit": found.to_json(), "seen": None if region is None else region.to_json()}


def _maps(step: Step, order: str, start: int, count: int) -> dict[str, Any]:
    """Some of a layer's maps as small pictures, and their kernels."""

    units = order_of(step.maps, order)[start : start + count]
    kernels = filters_of(step)
    pictured = [] if kernels is None else filter_pictures(kernels, units)
    return {
        "total": len(step.maps),
        "start": start,
        "maps": [one.to_json() for one in map_pictures(step.maps, units, small=True)],
        "filters": [one.to_json() for one in pictured],
    }


def _picture(step: Step, number: int) -> dict[str, Any]:
    """One map as it is, and its kernel."""

    if number >= len(step.maps):
        raise UsageError("map", str(number), f"0 to {len(step.maps) - 1}", "choose a map of the layer")
    kernels = filters_of(step)
    return {
        "map": map_pictures(step.maps, [number], small=False)[0].to_json(),
        "filter": None if kernels is None else filter_pictures(kernels, [number], _MOST_PLANES)[0].to_json(),
    }


def _positions(levels: tuple[PositionMap, ...], kind: int) -> dict[str, Any]:
    """The values of one kind at the positions of every map of outputs, or, for -1, of the kind with the highest value:
    bytes row by row, base64, on one scale, of which `highest` is 255; and the position of each maximum."""
    names = levels[0].names if levels else ()
    if not names:
        return {"names": [], "levels": []}
    if kind >= len(names):
        raise UsageError("kind", str(kind), f"0 to {len(names) - 1}", "choose one of the list")
    if kind < 0:
        kind = int(torch.stack([level.values.amax((1, 2)) for level in levels]).amax(0).argmax())
    maps = [level.values[kind] for level in levels]
    highest = max(float(values.max()) for values in maps)
    records = []
    for level, values in zip(levels, maps, strict=True):
        rows, columns = values.shape
        row, column = divmod(int(values.argmax()), columns)
        data = b64encode((values * (255 / (highest or 1.0))).round().to(torch.uint8).numpy().tobytes()).decode("ascii")
        records.append(
            {"name": level.name, "rows": rows, "columns": columns, "data": data, "row": row, "column": column}
            | {"highest": float(values.max())}
        )
    return {"names": names, "kind": kind, "what": levels[0].what, "highest": highest, "levels": records}


def _cell(levels: tuple[PositionMap, ...], number: int, row: int, column: int) -> dict[str, Any]:
    """The predictions of one position: a value for each name, and its box."""
    if number >= len(levels):
        raise UsageError("level", str(number), f"0 to {len(levels) - 1}", "choose one of the page")
    level = levels[number]
    rows, columns = level.values.shape[1:]
    if row >= rows or column >= columns:
        expected = f"row 0 to {rows - 1}, column 0 to {columns - 1}"
        raise UsageError(level.name, f"row {row}, column {column}", expected, "choose a position of the map")
    box = None if level.boxes is None else level.boxes[row, column].tolist()
    return {"values": level.values[:, row, column].tolist(), "box": box}


def _check(unit: tuple[int, int, int], watched: WatchedPass) -> None:
    if not all(i < side for i, side in zip(unit, watched.raw.shape, strict=True)):
        got = "channel {}, row {}, column {}".format(*unit)
        expected = "channel 0 to {}, row 0 to {}, column 0 to {}".format(*(side - 1 for side in watched.raw.shape))
        raise UsageError("input", got, expected, "choose a pixel of the image")


def _about(watched: WatchedPass) -> dict[str, Any]:
    """The network, the prepared image, and the prediction."""
    network, image = watched.network, watched.image
    prepared = Picture(watched.raw.transpose(1, 2, 0))
    notes = list(network.notes)
    if (prepared.size, len(prepared.channels)) != (image.picture.size, len(image.picture.channels)):
        width, height = image.picture.size
        rows, columns = network.shape[1:]
        colors = "gray" if network.shape[0] == 1 else "red, green and blue"
        became = f"{columns} × {rows} pixels, {colors}"
        notes.append(f"The image of {width} × {height} pixels is brought to {became}, as the network takes it.")
    return {
        "network": {"name": network.name, "input": network.shape, "parameters": network.parameters, "notes": notes},
        "image": image.to_json() | {"prepared": as_address(as_png(prepared))},
        "answer": _prediction(watched),
    }


def _prediction(watched: WatchedPass) -> list[dict[str, Any]]:
    """The most probable classes, or outputs where they have no names."""
    step = watched.probabilities
    if step is None:
        return []
    values = step.maps.reshape(-1)
    top = values.topk(min(_SHOWN_PREDICTIONS, len(values)))
    return [
        {"place": place, "label": step.labels[place] if step.labels else f"output {place}", "probability": share}
        for share, place in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    ]  # fmt: skip
