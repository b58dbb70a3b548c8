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
    """Percent of images whose label is not the prediction; None if it was not published."""
    top5: float | None
    """Percent of images whose label is not among the five most probable classes; None if it was not published."""
    of: str
    """The data, the crops, and how many networks are averaged."""
    source: str
    """Paper and table, or web page."""


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
    """Number of trainable parameters."""
    published_macs: int
    """Multiply–accumulates for one input."""
    parameters: tuple[Parameter, ...] = ()
    """The arguments that it takes."""
    dense: bool = False
    """Whether it has an output for every position of the input."""
    weights: str = ""
    """The library whose weight files fit, tensor by tensor; empty if there is none."""
    weight_files: Mapping[str, str] = field(default_factory=dict)
    """From torchvision's names of weights to files of download.pytorch.org, whose names end in their checksum."""
    reduction: int = 1
    """Factor by which its layers divide the size of an image."""
    small_form: str = ""
    """The name of its form for small images, such as `resnet18(stem=small)`; empty if it has none."""
    adapts: str = ""
    """What differs from the published form at other image sizes (`only x was`); empty if nothing does."""
    errors: tuple[PublishedError, ...] = ()
    local_rule: bool = False
    """Whether it has a local learning rule, without gradients."""

    @property
    def signature(self) -> str:
        """The name with all arguments: `small-resnet(width=32, blocks=2)`."""
        return show_signature(self.name, self.parameters)


Form = Literal["published", "small"]
"""Values of an argument for a part that only large images need: as published, or reduced for small images."""


def _read_zoo() -> dict[str, tuple[ModelInfo, ...]]:
    """From the title of a family to its networks."""
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
"""The networks of the zoo by the title of their family, in the order of lists."""

MODELS: dict[str, ModelInfo] = {info.name: info for entries in GROUPS.values() for info in entries}


def describe_model(name: str | None = None) -> list[ModelInfo]:
    """The entry of the zoo model `name`, which may include arguments; by default, all entries by year and name.

    Raises ModelError, with the nearest names, where there is no such model; LayerStringError for arguments that the
    model does not have.
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
"""Positions along a side. On smaller maps, a 3×3 convolution reads more padding than map."""


def size_note(model: str, input_shape: Shape, *, weights: bool = False) -> str | None:
    """A note on a zoo network whose layers divide the image size, for images of another size than the published one;
    None for all other networks, and where the size makes no difference.

    Such networks compute the published function at any size, except for the layers that the entry's `adapts` names. The
    note says what was changed, how small the last maps are, and what to write for small images. With `weights` of a
    file, which fit the published form only, the advice is to enlarge the images.
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
    """Whether `model` has all named arguments of `form`: `vgg11(width=8,head=small)` has those of
    `vgg11(head=small)`."""
    given, wanted = ("".join(text.split()).rstrip(")").partition("(")[2].split(",") for text in (model, form))
    return set(wanted) <= set(given)
