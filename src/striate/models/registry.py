"""The zoo as a table, without building any network: `catalog/networks.toml`; free of torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from striate.errors import ModelError
from striate.models.catalog import read_catalog
from striate.models.layer_strings.arguments import nearest_few
from striate.models.layer_strings.layer_string import parse_call
from striate.models.layer_strings.shapes import Shape
from striate.models.layer_strings.words import Parameter, show_signature
from striate.wording import show_shape


@dataclass(frozen=True)
class PublishedError:
    """Errors in percent that a paper or a publisher of weights gives for a network."""

    top1: float | None
    """Images whose label is not the prediction."""
    top5: float | None
    """Images whose label is not among the five most probable classes."""
    of: str
    """The data, the crops, and how many networks are averaged."""
    source: str
    """Paper and table, or the page."""


@dataclass(frozen=True)
class ModelInfo:
    """One network of the zoo, in its published form: an entry of `catalog/networks.toml`."""

    name: str
    path: str
    """`module:function`, called as `function(input_shape, outputs, **arguments)` with all arguments of `parameters`."""
    year: int
    description: str
    source: str
    input_shape: tuple[int, ...]
    outputs: int
    published_parameters: int
    """How many of them are trained."""
    published_macs: int
    """Multiply–accumulates for one input."""
    parameters: tuple[Parameter, ...] = ()
    """The arguments that it takes."""
    dense: bool = False
    """Whether it gives an output for every position of the input."""
    weights: str = ""
    """The library whose files of weights fit, tensor by tensor."""
    weight_files: Mapping[str, str] = field(default_factory=dict)
    """torchvision's names of weights, and the files of download.pytorch.org, whose names end in their checksum."""
    reduction: int = 1
    """By how much its layers divide the size of an image."""
    small_form: str = ""
    """What to write for small images, where the network has a form for them: `resnet18(stem=small)`."""
    adapts: str = ""
    """What differs from the published form at another size of image (`only x was`), where anything does."""
    errors: tuple[PublishedError, ...] = ()
    own_rule: bool = False
    """Whether it has a learning rule that needs no gradient."""

    @property
    def signature(self) -> str:
        """How it is written with all its arguments: `small-resnet(width=32, blocks=2)`."""
        return show_signature(self.name, self.parameters)


Form = Literal["published", "small"]
"""Of a part that large images need and small ones do not: as published, or what is left of it for small images."""


def _read_zoo() -> dict[str, tuple[ModelInfo, ...]]:
    """The networks by the title of their family."""
    catalog = read_catalog("networks.toml")
    allowed = {name: Parameter(name, **limits) for name, limits in catalog.pop("parameters").items()}
    zoo: dict[str, tuple[ModelInfo, ...]] = {}
    for family in catalog.values():
        title, networks = family.pop("title"), family.pop("networks")
        entries = tuple(_entry(name, family | own, allowed) for name, own in networks.items())
        zoo[title] = zoo.get(title, ()) + entries
    return zoo


def _entry(name: str, values: dict[str, Any], allowed: dict[str, Parameter]) -> ModelInfo:
    arguments: dict[str, Any] = values.pop("parameters", {})
    forms = [argument for argument, default in arguments.items() if default == "published"]
    return ModelInfo(
        name=name,
        path=f"striate.models.zoo.{values.pop('file')}:{name.replace('-', '_')}",
        parameters=tuple(
            allowed[argument] if allowed[argument].many else replace(allowed[argument], default=default)
            for argument, default in arguments.items()
        ),
        small_form=f"{name}({forms[0]}=small)" if forms else "",
        errors=tuple(PublishedError(**{"top1": None, "top5": None} | error) for error in values.pop("errors", ())),
        **values,
    )


GROUPS: dict[str, tuple[ModelInfo, ...]] = _read_zoo()
"""The zoo by family, as it is listed."""

MODELS: dict[str, ModelInfo] = {info.name: info for entries in GROUPS.values() for info in entries}


def describe_model(name: str | None = None) -> list[ModelInfo]:
    """The entry of one zoo model, which may be written with arguments, or all of them by year and name.

    Raises ModelError, with the nearest names, where there is no such model; LayerStringError for arguments that it does
    not have.
    """
    if name is None:
        return sorted(MODELS.values(), key=lambda info: (info.year, info.name))
    own = name.partition("(")[0].strip()
    if own in MODELS:
        parse_call(name.strip(), MODELS[own].parameters)
        return [MODELS[own]]
    close = nearest_few(own, MODELS)
    remedy = f"striate models {close[0]}" if close else "striate models"
    expected = f"a listed name: {', '.join(close)}" if close else "a listed name"
    raise ModelError("model", f"no zoo model `{name[:80]}`", expected, remedy)


SMALL_MAP = 4
"""Positions a side: of fewer, a 3×3 convolution sees more padding than map."""


def size_note(model: str, input_shape: Shape, *, weights: bool = False) -> str | None:
    """A note on a zoo network whose layers divide the size of an image, where the size is not the published one;
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
        f"{info.name} was published for {published}; on {here} {info.adapts or 'nothing was'} changed. Its layers"
        f" divide the image size by {info.reduction}, so its last feature maps are at most {show_shape(least)}"
    )
    return said + _advice(info, weights) if min(least) < SMALL_MAP <= _published(info) else said


def _advice(info: ModelInfo, weights: bool) -> str:
    form = f'write "{info.small_form}" (with the quotes), or ' if info.small_form and not weights else ""
    return f"; for images this small {form}enlarge them with --size {info.input_shape[-1]}"


def _published(info: ModelInfo) -> int:
    return -(-min(info.input_shape[1:]) // info.reduction)


def _has_arguments(model: str, form: str) -> bool:
    """Whether `model` has all the arguments by name that `form` has: `vgg11(width=8,head=small)` those of
    `vgg11(head=small)`."""
    given, wanted = ("".join(text.split()).rstrip(")").partition("(")[2].split(",") for text in (model, form))
    return set(wanted) <= set(given)
