"""What is known of one network of the zoo, without loading it; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from striate.models.layer_strings.words import Parameter, show_signature


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
