"""Watch: a network at work on an image, layer by layer, down to the arithmetic of one number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query

from striate.errors import UsageError
from striate.lab.images import as_address, as_png
from striate.lab.networks import LONGEST, RUN
from striate.models.registry import GROUPS
from striate.visualize.picture import Picture

if TYPE_CHECKING:
    from striate.lab.watching.kept_passes import Watched
    from striate.lab.watching.step import Step
    from striate.lab.workbench import Lab

Model = Annotated[str, Query(max_length=LONGEST)]
Short = Annotated[str, Query(max_length=120)]
Index = Annotated[int, Query(ge=0, le=10**7)]
Layer = Annotated[int, Query(ge=-1, le=10**5)]
Count = Annotated[int, Query(ge=1, le=96)]

_FIRST = "mnist-cnn"
_MOST_PLANES = 64
_SHOWN_ANSWERS = 5


def routes(lab: Lab) -> APIRouter:
    """What the page asks. Every question names network, input shape and image: nothing is remembered of a page."""
    from striate.lab.watching.kept_passes import KeptPasses, input_step, step_at

    router, passes = APIRouter(), KeptPasses(lab)

    @router.get("/choices")
    def choices() -> dict[str, Any]:
        return _choices(lab)

    def asked(model: Model, image: Short, input: Short = "") -> Watched:
        return passes.watched(model, input, image)

    at_work = Depends(asked)

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

    @router.get("/unit")
    def unit(layer: Layer, map: Index, row: Index, column: Index, watched: Any = at_work) -> dict[str, Any]:
        return _unit(watched, layer, (map, row, column))

    return router


def _choices(lab: Lab) -> dict[str, Any]:
    """The networks with a name that take images, and the one to begin with."""
    own = [{"name": RUN, "text": f"the network of {lab.run.name}", "group": "opened with"}] if lab.run else []
    zoo = [
        {"name": info.name, "text": f"{info.name} ({info.year})", "group": group}
        for group, entries in GROUPS.items()
        for info in entries
        if len(info.input_shape) == 3
    ]
    return {"networks": [*own, *zoo], "first": RUN if lab.run else _FIRST}


def _unit(watched: Watched, layer: int, place: tuple[int, int, int]) -> dict[str, Any]:
    """One number's arithmetic, and what it sees."""
    from striate.lab.watching.pointwise_arithmetic import explain_input
    from striate.lab.watching.unit import explain_unit

    if layer < 0:
        _check(place, watched)
        found, lit = explain_input(watched, place)
        return {"unit": found.to_json(), "seen": lit.to_json()}
    step = watched.step(layer)
    found, seen = explain_unit(step, place, watched.steps), step.seen(place)
    return {"unit": found.to_json(), "seen": None if seen is None else seen.to_json()}


def _maps(step: Step, order: str, start: int, count: int) -> dict[str, Any]:
    """Some of a layer's maps as small pictures, and their kernels."""
    from striate.lab.watching.maps import filter_pictures, filters_of, map_pictures, order_of

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
    from striate.lab.watching.maps import filter_pictures, filters_of, map_pictures

    if number >= len(step.maps):
        raise UsageError("map", str(number), f"0 to {len(step.maps) - 1}", "choose a map of the layer")
    kernels = filters_of(step)
    return {
        "map": map_pictures(step.maps, [number], small=False)[0].to_json(),
        "filter": None if kernels is None else filter_pictures(kernels, [number], _MOST_PLANES)[0].to_json(),
    }


def _check(unit: tuple[int, int, int], watched: Watched) -> None:
    if not all(i < side for i, side in zip(unit, watched.raw.shape, strict=True)):
        got = "channel {}, row {}, column {}".format(*unit)
        expected = "channel 0 to {}, row 0 to {}, column 0 to {}".format(*(side - 1 for side in watched.raw.shape))
        raise UsageError("input", got, expected, "choose a pixel of the image")


def _about(watched: Watched) -> dict[str, Any]:
    """The network, the image as it was prepared, and the answer."""
    subject, image = watched.subject, watched.image
    prepared = Picture(watched.raw.transpose(1, 2, 0))
    notes = list(subject.notes)
    if (prepared.size, len(prepared.channels)) != (image.picture.size, len(image.picture.channels)):
        width, height = image.picture.size
        rows, columns = subject.shape[1:]
        colors = "gray" if subject.shape[0] == 1 else "red, green and blue"
        became = f"{columns} × {rows} pixels, {colors}"
        notes.append(f"The image of {width} × {height} pixels is brought to {became}, as the network takes it.")
    return {
        "network": {"name": subject.name, "input": subject.shape, "parameters": subject.parameters, "notes": notes},
        "image": image.to_json() | {"prepared": as_address(as_png(prepared))},
        "answer": _answer(watched),
    }


def _answer(watched: Watched) -> list[dict[str, Any]]:
    """The most probable classes, or outputs where they have no names."""
    step = watched.probabilities
    if step is None:
        return []
    values = step.maps.reshape(-1)
    top = values.topk(min(_SHOWN_ANSWERS, len(values)))
    return [
        {"place": place, "label": step.labels[place] if step.labels else f"output {place}", "probability": share}
        for share, place in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    ]  # fmt: skip
