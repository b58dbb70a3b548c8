"""What becomes of a zoo network on inputs of another size than it was published for; free of torch."""

from __future__ import annotations

import re

from striate.models.layer_strings.shapes import Shape
from striate.models.model_info import ModelInfo
from striate.models.registry import MODELS
from striate.wording import show_shape

SMALL_MAP = 4
"""Positions a side: of fewer, a 3×3 convolution sees more padding than map."""


def size_note(model: str, input_shape: Shape, *, weights: bool = False) -> str | None:
    """One sentence on a zoo network whose layers divide the size of an image, where the size is not the published one;
    None for all other networks, and where nothing needs saying.

    Such networks compute the published function at any size, but for layers that the entry's `adapts` names. Said are
    what was changed, what the size makes of the last maps, and what to write for small images. With `weights` of a
    file, which fit the published form alone, that is to enlarge the images.
    """
    found = re.match(r"\s*([\w-]+)", model)
    info = MODELS.get(found.group(1)) if found else None
    if info is None or info.reduction < 2 or len(input_shape) != 3 or input_shape[1:] == info.input_shape[1:]:
        return None
    if info.small_form and _has_arguments(model, info.small_form):
        return None
    least = tuple(-(-side // info.reduction) for side in input_shape[1:])
    published, here = show_shape(info.input_shape), show_shape(input_shape)
    said = (
        f"{info.name} was published for {published}, and on {here} {info.adapts or 'nothing in it was'} changed:"
        f" its layers divide the size by {info.reduction}, so its last maps are at most {show_shape(least)}"
    )
    return said + _advice(info, weights) if min(least) < SMALL_MAP <= _published(info) else said


def _advice(info: ModelInfo, weights: bool) -> str:
    form = f"write {info.small_form}, or " if info.small_form and not weights else ""
    return f"; for images this small {form}enlarge them with --size {info.input_shape[-1]}"


def _published(info: ModelInfo) -> int:
    return -(-min(info.input_shape[1:]) // info.reduction)


def _has_arguments(model: str, form: str) -> bool:
    """Whether `model` has all the arguments by name that `form` has: `vgg11(width=8,head=small)` those of
    `vgg11(head=small)`."""
    given, wanted = ("".join(text.split()).rstrip(")").partition("(")[2].split(",") for text in (model, form))
    return set(wanted) <= set(given)
