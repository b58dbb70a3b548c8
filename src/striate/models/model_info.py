"""What is known of one network of the zoo, without loading it; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from striate.models.layer_strings.words import Parameter, show_signature


@dataclass(frozen=True)
class PublishedError:
    """Errors in percent that a paper or a keeper of weights gives for a network, and on what.

    `top1`, `top5`: share of images whose label is not the answer, or not among five. `of`: data, crops, how many
    networks. `source`: paper and table, or the page.
    """

    top1: float | None
    top5: float | None
    of: str
    source: str


ONE_CROP = "ImageNet validation, one crop of 224"


def of_torchvision(
    accuracy1: float, accuracy5: float, of: str = ONE_CROP, weights: str = "IMAGENET1K_V1"
) -> PublishedError:
    """Errors of a file of weights, from the top-1 and top-5 accuracies, in percent, that torchvision 0.29 gives for it.

    They have three decimals, as the accuracies have: of 50,000 images one is 0.002 %.
    """
    source = f"torchvision 0.29, weights {weights}"
    return PublishedError(round(100 - accuracy1, 3), round(100 - accuracy5, 3), of, source)


@dataclass(frozen=True)
class ModelInfo:
    """One network of the zoo.

    `path` is `module:function`, called as `function(input_shape, outputs, **arguments)` with every parameter of the
    entry; `input_shape` and `outputs` are those of the published form, `published_parameters` the trainable
    parameters and `published_macs` the multiply–accumulates it then has. `weights` names the library whose files of
    weights fit, tensor by tensor. `reduction`: by how much its layers divide the size of an image; `small_form`: what
    to write instead for small images; `adapts`: what is another at another size ("only x was"), where anything is.
    `errors`: what was published of its accuracy. `own_rule`: whether it has a learning rule that needs no gradient.
    """

    name: str
    path: str
    year: int
    description: str
    source: str
    input_shape: tuple[int, ...]
    outputs: int
    published_parameters: int
    published_macs: int
    parameters: tuple[Parameter, ...] = ()
    dense: bool = False
    weights: str = ""
    reduction: int = 1
    small_form: str = ""
    adapts: str = ""
    errors: tuple[PublishedError, ...] = ()
    own_rule: bool = False

    @property
    def signature(self) -> str:
        """How it is written with all its arguments: `small-resnet(width=32, blocks=2)`."""
        return show_signature(self.name, self.parameters)


ACTIVATIONS = ("relu", "leaky", "prelu", "elu", "sigmoid", "tanh", "swish")
ZOO = "striate.models.zoo."
Form = Literal["published", "small"]
"""Of a part that large images need and small ones do not: as published, or what is left of it for small images."""
STEM, HEAD = (Parameter(part, "choice", "published", choices=get_args(Form)) for part in ("stem", "head"))
"""The parameters `stem`, the layers before the first stage, and `head`, those after the last."""


def width(default: int) -> Parameter:
    """The parameter `width`: how many channels the first stage has."""
    return Parameter("width", "count", default, low=1, high=4096)
