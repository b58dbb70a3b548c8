"""Watch: a network at work on an image, layer by layer, down to the arithmetic of one number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query

from striate.errors import UsageError
from striate.lab.images import as_address, as_png
from striate.lab.networks import LONGEST, RUN
from striate.models.registry import GROUPS
from striate.visualize.picture import Picture

if TYPE_CHECKING:
    from striate.lab.watching.kept_passes import Watched
    from striate.lab.workbench import Lab

Model = Annotated[str, Query(max_length=LONGEST)]
Short = Annotated[str, Query(max_length=120)]
Index = Annotated[int, Query(ge=0, le=10**7)]
Layer = Annotated[int, Query(ge=-1, le=10**5)]

_FIRST = "mnist-cnn"
_SHOWN_ANSWERS = 5


def routes(lab: Lab) -> APIRouter:
    """What the page asks. Every question names network, input shape and image: nothing is remembered of a page."""
    from striate.lab.watching.input_arithmetic import explain_input
    from striate.lab.watching.kept_passes import KeptPasses, input_step, step_at
    from striate.lab.watching.maps import MOST_AT_ONCE, filter_pictures, filters_of, map_pictures, order_of
    from striate.lab.watching.unit import explain_unit

    router, passes = APIRouter(), KeptPasses(lab)

    @router.get("/choices")
    def choices() -> dict[str, Any]:
        own = [{"name": RUN, "text": f"the network of {lab.run.name}", "group": "opened with"}] if lab.run else []
        zoo = [
            {"name": info.name, "text": f"{info.name} ({info.year})", "group": group}
            for group, entries in GROUPS.items()
            for info in entries
            if len(info.input_shape) == 3
        ]
        return {"networks": [*own, *zoo], "first": RUN if lab.run else _FIRST}

    @router.get("/steps")
    def steps(model: Model, image: Short, input: Short = "") -> dict[str, Any]:
        watched = passes.watched(model, input, image)
        all_steps = (input_step(watched), *watched.steps)
        return _about(watched) | {"steps": [step.to_json() for step in all_steps]}

    @router.get("/maps")
    def maps(
        model: Model,
        image: Short,
        layer: Layer,
        input: Short = "",
        order: Literal["activity", "number"] = "activity",
        start: Index = 0,
        count: Annotated[int, Query(ge=1, le=MOST_AT_ONCE)] = 48,
    ) -> dict[str, Any]:
        watched = passes.watched(model, input, image)
        step = step_at(watched, layer)
        units = order_of(step.maps, order)[start : start + count]
        kernels = filters_of(step)
        pictured = [] if kernels is None else filter_pictures(kernels, units)
        return {
            "total": len(step.maps),
            "start": start,
            "maps": [picture.to_json() for picture in map_pictures(step.maps, units, small=True)],
            "filters": [picture.to_json() for picture in pictured],
        }

    @router.get("/unit")
    def unit(
        model: Model,
        image: Short,
        layer: Layer,
        map: Index,
        row: Index,
        column: Index,
        input: Short = "",
    ) -> dict[str, Any]:
        watched = passes.watched(model, input, image)
        place = (map, row, column)
        if layer < 0:
            _check(place, watched)
            found, lit = explain_input(watched, place)
            return {"unit": found.to_json(), "seen": lit.to_json()}
        step = watched.step(layer)
        found, seen = explain_unit(step, place, watched.steps), step.seen(place)
        return {"unit": found.to_json(), "seen": None if seen is None else seen.to_json()}

    @router.get("/picture")
    def picture(model: Model, image: Short, layer: Layer, map: Index, input: Short = "") -> dict[str, Any]:
        watched = passes.watched(model, input, image)
        step = step_at(watched, layer)
        if map >= len(step.maps):
            raise UsageError("map", str(map), f"0 to {len(step.maps) - 1}", "choose a map of the layer")
        kernels = filters_of(step)
        return {
            "map": map_pictures(step.maps, [map], small=False)[0].to_json(),
            "filter": None if kernels is None else filter_pictures(kernels, [map], 64)[0].to_json(),
        }

    return router


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
